//! Which nodes there are, and which of them owns which lanes. One process owns
//! everything as a rule; the promises are the same all the same.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_model::{Lane, NodeId};
use ringback_store::{Beat, Clock, Lanes, NodeLease, StoreError};
use sqlx::SqliteConnection;

use crate::{
    SqliteStore,
    columns::{Column, json},
    failure::failed,
    writer::commit,
};

#[async_trait]
impl Lanes for SqliteStore {
    #[expect(
        clippy::disallowed_methods,
        reason = "the database's clock is this machine's"
    )]
    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        let now = Utc::now();
        let last: Option<i64> =
            sqlx::query_scalar("select max(lease_until) from nodes where lease_until < ?1")
                .bind((now + Clock::CARRIED_ON).timestamp_millis())
                .fetch_one(&self.0.readers)
                .await
                .map_err(failed)?;
        let last = last
            .map(|last| Column("nodes", "lease_until").time(last))
            .transpose()?;
        Ok(last.map_or(now, |last| now.max(last - NodeLease::LENGTH)))
    }

    async fn join(
        &self,
        name: &str,
        dispatching: bool,
        now: DateTime<Utc>,
    ) -> Result<Option<NodeLease>, StoreError> {
        let name = name.to_owned();
        commit!(self, |connection, name| join(
            connection,
            &name,
            dispatching,
            now
        ))
    }

    async fn beat(
        &self,
        lease: &NodeLease,
        now: DateTime<Utc>,
    ) -> Result<Option<Beat>, StoreError> {
        let lease = *lease;
        commit!(self, |connection| beat(connection, lease, now))
    }

    async fn take(
        &self,
        lease: &NodeLease,
        lanes: &[Lane],
        now: DateTime<Utc>,
    ) -> Result<Vec<Lane>, StoreError> {
        let (lease, lanes) = (*lease, numbers(lanes));
        commit!(self, |connection, lanes| take(
            connection, lease, &lanes, now
        ))
    }

    async fn release(&self, lease: &NodeLease, lanes: &[Lane]) -> Result<(), StoreError> {
        let (lease, lanes) = (*lease, numbers(lanes));
        commit!(self, |connection, lanes| release(connection, lease, &lanes))
    }

    async fn leave(&self, lease: &NodeLease, now: DateTime<Utc>) -> Result<(), StoreError> {
        let lease = *lease;
        commit!(self, |connection| leave(connection, lease, now))
    }
}

async fn join(
    connection: &mut SqliteConnection,
    name: &str,
    dispatching: bool,
    now: DateTime<Utc>,
) -> Result<Option<NodeLease>, StoreError> {
    // Its own number, else one that was never given, else the one longest expired.
    let node: Option<i64> = sqlx::query_scalar(
        "with recursive numbers (id) as \
             (values (0) union all select id + 1 from numbers where id < ?2) \
         select coalesce((select id from nodes where name = ?1), \
             (select id from numbers where id not in (select id from nodes) limit 1), \
             (select id from nodes where lease_until <= ?3 order by lease_until, id limit 1))",
    )
    .bind(name)
    .bind(NodeId::COUNT - 1)
    .bind(now.timestamp_millis())
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let Some(node) = node else { return Ok(None) };
    let epoch: i64 = sqlx::query_scalar(
        "insert into nodes (id, name, epoch, dispatching, lease_until) values (?1, ?2, 1, ?3, ?4) \
         on conflict (id) do update set name = excluded.name, epoch = epoch + 1, \
         dispatching = excluded.dispatching, lease_until = excluded.lease_until \
         returning epoch",
    )
    .bind(node)
    .bind(name)
    .bind(dispatching)
    .bind(lease_end(now))
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    disown(connection, node).await?;
    let node = node_id(node)?;
    Ok(Some(NodeLease { node, epoch }))
}

async fn beat(
    connection: &mut SqliteConnection,
    lease: NodeLease,
    now: DateTime<Utc>,
) -> Result<Option<Beat>, StoreError> {
    let renewed = sqlx::query("update nodes set lease_until = ?3 where id = ?1 and epoch = ?2")
        .bind(lease.node.get())
        .bind(lease.epoch)
        .bind(lease_end(now))
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if renewed.rows_affected() == 0 {
        return Ok(None);
    }
    let nodes: Vec<i64> = sqlx::query_scalar(
        "select id from nodes where dispatching and lease_until > ?1 order by id",
    )
    .bind(now.timestamp_millis())
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let owned: Vec<i64> = sqlx::query_scalar(
        "select lane from lanes where owner = ?1 and owner_epoch = ?2 order by lane",
    )
    .bind(lease.node.get())
    .bind(lease.epoch)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    Ok(Some(Beat {
        dispatching: nodes.into_iter().map(node_id).collect::<Result<_, _>>()?,
        owned: owned.into_iter().map(lane).collect::<Result<_, _>>()?,
    }))
}

/// - `lanes`: a JSON array.
async fn take(
    connection: &mut SqliteConnection,
    lease: NodeLease,
    lanes: &str,
    now: DateTime<Utc>,
) -> Result<Vec<Lane>, StoreError> {
    let taken: Vec<i64> = sqlx::query_scalar(
        "update lanes set owner = ?1, owner_epoch = ?2 \
         where lane in (select value from json_each(?3)) \
         and exists (select 1 from nodes n \
             where n.id = ?1 and n.epoch = ?2 and n.lease_until > ?4) \
         and not exists (select 1 from nodes n where n.id = lanes.owner \
             and n.epoch = lanes.owner_epoch and n.lease_until > ?4) \
         returning lane",
    )
    .bind(lease.node.get())
    .bind(lease.epoch)
    .bind(lanes)
    .bind(now.timestamp_millis())
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    taken.into_iter().map(lane).collect()
}

async fn release(
    connection: &mut SqliteConnection,
    lease: NodeLease,
    lanes: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "update lanes set owner = null, owner_epoch = null where owner = ?1 and owner_epoch = ?2 \
         and lane in (select value from json_each(?3))",
    )
    .bind(lease.node.get())
    .bind(lease.epoch)
    .bind(lanes)
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed)
}

/// The epoch rises, so that no late beat brings the lease back.
async fn leave(
    connection: &mut SqliteConnection,
    lease: NodeLease,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let left = sqlx::query(
        "update nodes set lease_until = ?3, epoch = epoch + 1 where id = ?1 and epoch = ?2",
    )
    .bind(lease.node.get())
    .bind(lease.epoch)
    .bind(now.timestamp_millis())
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    if left.rows_affected() > 0 {
        disown(connection, i64::from(lease.node.get())).await?;
    }
    Ok(())
}

/// What a node owned under any epoch is nobody's now.
async fn disown(connection: &mut SqliteConnection, node: i64) -> Result<(), StoreError> {
    sqlx::query("update lanes set owner = null, owner_epoch = null where owner = ?1")
        .bind(node)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}

fn lease_end(now: DateTime<Utc>) -> i64 {
    (now + NodeLease::LENGTH).timestamp_millis()
}

fn numbers(lanes: &[Lane]) -> String {
    json(&lanes.iter().map(|lane| lane.get()).collect::<Vec<u8>>())
}

fn lane(number: i64) -> Result<Lane, StoreError> {
    Column("lanes", "lane").lane(number)
}

fn node_id(number: i64) -> Result<NodeId, StoreError> {
    let column = Column("nodes", "id");
    NodeId::new(column.number(number)?).ok_or_else(|| column.corrupt())
}
