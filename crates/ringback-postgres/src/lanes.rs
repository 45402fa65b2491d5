//! Nodes and lanes: which process sends what.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ringback_model::{Lane, NodeId};
use ringback_store::{Beat, Clock, NodeLease, StoreError};
use sqlx::PgPool;

use crate::{
    failure::failed,
    rows::lane,
    transaction::{Tx, retry_collisions, transact},
};

/// See [`ringback_store::Lanes::now`].
pub(crate) async fn now(pool: &PgPool) -> Result<DateTime<Utc>, StoreError> {
    sqlx::query_scalar(
        r#"
        select greatest(clock_timestamp(), (
            select max(lease_until) - $1 * interval '1 millisecond' from ringback.nodes
            where lease_until < clock_timestamp() + $2 * interval '1 millisecond'
        ))
        "#,
    )
    .bind(as_millis(NodeLease::LENGTH))
    .bind(as_millis(Clock::CARRIED_ON))
    .fetch_one(pool)
    .await
    .map_err(failed)
}

fn as_millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// See [`ringback_store::Lanes::join`].
pub(crate) async fn join(
    pool: &PgPool,
    name: &str,
    dispatching: bool,
    now: DateTime<Utc>,
) -> Result<Option<NodeLease>, StoreError> {
    let name = name.to_owned();
    transact(pool, move |tx| join_in(tx, name, dispatching, now)).await
}

/// See [`ringback_store::Lanes::beat`].
pub(crate) async fn beat(
    pool: &PgPool,
    lease: &NodeLease,
    now: DateTime<Utc>,
) -> Result<Option<Beat>, StoreError> {
    let row: Option<(Vec<i16>, Vec<i16>)> = sqlx::query_as(
        r#"
        with beat as (
            update ringback.nodes set lease_until = $3
            where id = $1 and epoch = $2
            returning id
        )
        select
            array(
                select id from ringback.nodes
                where dispatching and (lease_until > $4 or id = $1)
                order by id
            ),
            array(
                select lane from ringback.lanes
                where owner = $1 and owner_epoch = $2
                order by lane
            )
        from beat
        "#,
    )
    .bind(number(lease.node))
    .bind(lease.epoch)
    .bind(now + NodeLease::LENGTH)
    .bind(now)
    .fetch_optional(pool)
    .await
    .map_err(failed)?;
    Ok(row.map(|(nodes, lanes)| Beat {
        dispatching: nodes.into_iter().filter_map(node).collect(),
        owned: lanes.into_iter().map(lane).collect(),
    }))
}

/// See [`ringback_store::Lanes::take`].
pub(crate) async fn take(
    pool: &PgPool,
    lease: &NodeLease,
    lanes: &[Lane],
    now: DateTime<Utc>,
) -> Result<Vec<Lane>, StoreError> {
    let wanted = numbers(lanes);
    let mut taken: Vec<i16> = retry_collisions(|| async {
        sqlx::query_scalar(
            r#"
            update ringback.lanes l set owner = $1, owner_epoch = $2
            where l.lane = any($3)
                -- The `or` keeps this a question asked of each row: as a join, it would
                -- not be asked again of a row that another took while this one waited.
                and (l.owner is null or not exists (
                    select from ringback.nodes n
                    where n.id = l.owner and n.epoch = l.owner_epoch and n.lease_until > $4
                ))
                and exists (select from ringback.nodes n where n.id = $1 and n.epoch = $2)
            returning l.lane
            "#,
        )
        .bind(number(lease.node))
        .bind(lease.epoch)
        .bind(&wanted)
        .bind(now)
        .fetch_all(pool)
        .await
        .map_err(failed)
    })
    .await?;
    taken.sort_unstable();
    Ok(taken.into_iter().map(lane).collect())
}

/// See [`ringback_store::Lanes::release`].
pub(crate) async fn release(
    pool: &PgPool,
    lease: &NodeLease,
    lanes: &[Lane],
) -> Result<(), StoreError> {
    let released = numbers(lanes);
    retry_collisions(|| async {
        sqlx::query(
            "update ringback.lanes set owner = null, owner_epoch = null \
             where lane = any($3) and owner = $1 and owner_epoch = $2",
        )
        .bind(number(lease.node))
        .bind(lease.epoch)
        .bind(&released)
        .execute(pool)
        .await
        .map_err(failed)
    })
    .await?;
    Ok(())
}

/// See [`ringback_store::Lanes::leave`].
pub(crate) async fn leave(
    pool: &PgPool,
    lease: &NodeLease,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    retry_collisions(|| async {
        sqlx::query(
            r#"
            with left_node as (
                update ringback.nodes set lease_until = $3
                where id = $1 and epoch = $2 and lease_until > $3
            )
            update ringback.lanes set owner = null, owner_epoch = null
            where owner = $1 and owner_epoch = $2
            "#,
        )
        .bind(number(lease.node))
        .bind(lease.epoch)
        .bind(now)
        .execute(pool)
        .await
        .map_err(failed)
    })
    .await?;
    Ok(())
}

async fn join_in(
    mut tx: Tx,
    name: String,
    dispatching: bool,
    now: DateTime<Utc>,
) -> Result<Option<NodeLease>, StoreError> {
    // One at a time, so that no two choose the same number. The lock's is of no meaning
    // elsewhere.
    sqlx::query("select pg_advisory_xact_lock(7464002)")
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    // Its own number; else the lowest that was never used; else the one that nobody has
    // held for longest.
    for sql in [REJOIN, JOIN_NEW, JOIN_LAPSED] {
        let row: Option<(i16, i64)> = sqlx::query_as(sql)
            .bind(&name)
            .bind(dispatching)
            .bind(now + NodeLease::LENGTH)
            .bind(now)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?;
        if let Some((id, epoch)) = row {
            tx.commit().await.map_err(failed)?;
            return Ok(node(id).map(|node| NodeLease { node, epoch }));
        }
    }
    Ok(None)
}

const REJOIN: &str = r#"
    update ringback.nodes set epoch = epoch + 1, dispatching = $2, lease_until = $3
    where name = $1 and $4::timestamptz is not null
    returning id, epoch
"#;

const JOIN_NEW: &str = r#"
    insert into ringback.nodes (id, name, epoch, dispatching, lease_until)
    select id, $1, 1, $2, $3
    from generate_series(0, 1023) as free (id)
    where not exists (select from ringback.nodes n where n.id = free.id)
        and $4::timestamptz is not null
    order by id limit 1
    returning id, epoch
"#;

const JOIN_LAPSED: &str = r#"
    update ringback.nodes
    set name = $1, epoch = epoch + 1, dispatching = $2, lease_until = $3
    where id = (
        select id from ringback.nodes where lease_until <= $4 order by lease_until, id limit 1
    )
    returning id, epoch
"#;

fn number(node: NodeId) -> i16 {
    // 0 to 1023.
    node.get().cast_signed()
}

/// A node. The schema lets nothing but 0 to 1023 in.
fn node(number: i16) -> Option<NodeId> {
    NodeId::new(number.cast_unsigned())
}

fn numbers(lanes: &[Lane]) -> Vec<i16> {
    lanes.iter().map(|lane| i16::from(lane.get())).collect()
}
