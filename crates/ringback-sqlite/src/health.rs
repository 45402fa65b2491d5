//! How subscriptions are: those that fail have a row.

use chrono::{DateTime, Utc};
use ringback_model::{Failing, SubscriptionId};
use ringback_store::{HealthChange, NodeLease, StoreError};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{columns::Column, failure::failed};

/// See [`ringback_store::Outbox::record_health`].
pub(crate) async fn record(
    connection: &mut SqliteConnection,
    lease: NodeLease,
    changes: &[HealthChange],
    _now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for change in changes {
        if !may_write(connection, lease, change).await? {
            continue;
        }
        match change.failing {
            Some(failing) => write(connection, change.subscription, failing).await?,
            None => forget(connection, change.subscription).await?,
        }
        // What others are told of a warning belongs here, into the same commit.
    }
    Ok(())
}

/// Whether the lease owns the lane, and the subscription is there.
async fn may_write(
    connection: &mut SqliteConnection,
    lease: NodeLease,
    change: &HealthChange,
) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "select exists (select 1 from lanes l \
         join nodes n on n.id = l.owner and n.epoch = l.owner_epoch \
         join subscriptions s on s.id = ?4 and s.deleted_at is null \
         where l.lane = ?1 and l.owner = ?2 and l.owner_epoch = ?3)",
    )
    .bind(i64::from(change.lane.get()))
    .bind(i64::from(lease.node.get()))
    .bind(lease.epoch)
    .bind(change.subscription.get())
    .fetch_one(connection)
    .await
    .map_err(failed)
}

async fn write(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    failing: Failing,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert or replace into subscription_health (subscription_id, failing_since, warned) \
         values (?1, ?2, ?3)",
    )
    .bind(id.get())
    .bind(failing.since.timestamp_millis())
    .bind(failing.warned)
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed)
}

/// Forgets that a subscription failed.
pub(crate) async fn forget(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
) -> Result<(), StoreError> {
    sqlx::query("delete from subscription_health where subscription_id = ?1")
        .bind(id.get())
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}

/// Reads the columns `failing_since` and `warned`, from `first`, of a row that may be
/// missing.
pub(crate) fn read(row: &SqliteRow, first: usize) -> Result<Option<Failing>, StoreError> {
    let column = |name| Column("subscription_health", name);
    let since: Option<i64> = row.try_get(first).map_err(failed)?;
    let warned: Option<i64> = row.try_get(first + 1).map_err(failed)?;
    let (Some(since), Some(warned)) = (since, warned) else {
        return Ok(None);
    };
    Ok(Some(Failing {
        since: column("failing_since").time(since)?,
        warned: column("warned").number(warned)?,
    }))
}
