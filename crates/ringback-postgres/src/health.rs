//! How subscriptions are: those that fail have a row.

use chrono::{DateTime, Utc};
use ringback_model::{Failing, SubscriptionId};
use ringback_store::{HealthChange, NodeLease, StoreError};
use sqlx::{PgPool, Row, postgres::PgRow};

use crate::{
    failure::failed,
    transaction::{Tx, transact},
};

/// See [`ringback_store::Outbox::record_health`].
pub(crate) async fn record(
    pool: &PgPool,
    lease: &NodeLease,
    changes: &[HealthChange],
    _now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (lease, mut changes) = (*lease, changes.to_vec());
    // In one order for everybody, so that nobody waits in a circle.
    changes.sort_unstable_by_key(|change| change.subscription);
    transact(pool, move |mut tx| async move {
        write(&mut tx, lease, &changes).await?;
        // What others are told of a warning belongs here, into the same commit.
        tx.commit().await.map_err(failed)
    })
    .await
}

async fn write(tx: &mut Tx, lease: NodeLease, changes: &[HealthChange]) -> Result<(), StoreError> {
    let failing = || changes.iter().map(|change| change.failing);
    sqlx::query(
        r#"
        with owned as materialized (
            select k.subscription_id, k.failing_since, k.warned
            from unnest($1::int2[], $2::int8[], $3::timestamptz[], $4::int2[])
                as k (lane, subscription_id, failing_since, warned)
            join ringback.lanes l on l.lane = k.lane and l.owner = $5 and l.owner_epoch = $6
            join ringback.nodes n on n.id = l.owner and n.epoch = l.owner_epoch
            join ringback.subscriptions s on s.id = k.subscription_id and s.deleted_at is null
        ), works as (
            delete from ringback.subscription_health h using owned o
            where h.subscription_id = o.subscription_id and o.failing_since is null
        )
        insert into ringback.subscription_health (subscription_id, failing_since, warned)
        select subscription_id, failing_since, warned from owned where failing_since is not null
        on conflict (subscription_id)
            do update set failing_since = excluded.failing_since, warned = excluded.warned
        "#,
    )
    .bind(
        changes
            .iter()
            .map(|change| i16::from(change.lane.get()))
            .collect::<Vec<_>>(),
    )
    .bind(
        changes
            .iter()
            .map(|change| change.subscription.get())
            .collect::<Vec<_>>(),
    )
    .bind(
        failing()
            .map(|failing| failing.map(|failing| failing.since))
            .collect::<Vec<_>>(),
    )
    .bind(
        failing()
            .map(|failing| failing.map(|failing| i16::from(failing.warned)))
            .collect::<Vec<_>>(),
    )
    .bind(lease.node.get().cast_signed())
    .bind(lease.epoch)
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(failed)
}

/// Forgets that a subscription failed.
pub(crate) async fn forget(tx: &mut Tx, id: SubscriptionId) -> Result<(), StoreError> {
    sqlx::query("delete from ringback.subscription_health where subscription_id = $1")
        .bind(id.get())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(failed)
}

/// Reads the columns of a row that may be missing.
pub(crate) fn read(row: &PgRow) -> Result<Option<Failing>, StoreError> {
    let since: Option<DateTime<Utc>> = row.try_get("failing_since").map_err(failed)?;
    let warned: Option<i16> = row.try_get("warned").map_err(failed)?;
    let (Some(since), Some(warned)) = (since, warned) else {
        return Ok(None);
    };
    let warned = u8::try_from(warned).map_err(|_| StoreError::Corrupt {
        table: "subscription_health",
        column: "warned",
    })?;
    Ok(Some(Failing { since, warned }))
}
