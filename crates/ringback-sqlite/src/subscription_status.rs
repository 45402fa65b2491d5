//! Whether subscriptions get deliveries: paused, resumed, disabled, deleted.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, Lane, SubscriptionId, SubscriptionStatus};
use ringback_store::{StoreError, Subscription, Within};
use sqlx::SqliteConnection;

use crate::{
    apps::raise_version, columns::Column, failure::failed, health, subscriptions, waiting,
};

/// See [`ringback_store::Registry::pause_subscription`].
pub(crate) async fn pause(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let Some(current) = subscriptions::get(&mut *connection, id, within).await? else {
        return Ok(None);
    };
    if current.status == SubscriptionStatus::Active {
        set_status(connection, &current, SubscriptionStatus::Paused, None, now).await?;
    }
    subscriptions::get(connection, id, within).await
}

/// See [`ringback_store::Registry::resume_subscription`].
pub(crate) async fn resume(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let Some(current) = subscriptions::get(&mut *connection, id, within).await? else {
        return Ok(None);
    };
    if current.status != SubscriptionStatus::Active {
        set_status(connection, &current, SubscriptionStatus::Active, None, now).await?;
    }
    if current.status == SubscriptionStatus::Disabled {
        health::forget(connection, id).await?;
    }
    subscriptions::get(connection, id, within).await
}

/// See [`ringback_store::Outbox::disable_subscription`].
pub(crate) async fn disable(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let Some(current) = subscriptions::get(&mut *connection, id, Within::Everything).await? else {
        return Ok(());
    };
    if current.status != SubscriptionStatus::Disabled {
        set_status(
            connection,
            &current,
            SubscriptionStatus::Disabled,
            Some(reason),
            now,
        )
        .await?;
    }
    waiting::settle_all(connection, id, current.lane, waiting::End::Disabled, now).await
}

/// See [`ringback_store::Registry::delete_subscription`].
pub(crate) async fn delete(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let Some(current) = subscriptions::get(&mut *connection, id, within).await? else {
        return Ok(false);
    };
    delete_one(connection, id, current.lane, now).await?;
    raise_version(connection, current.app, id, current.kind).await?;
    Ok(true)
}

/// Deletes all subscriptions of an application, hidden ones too.
pub(crate) async fn delete_all(
    connection: &mut SqliteConnection,
    app: AppId,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "select id, lane from subscriptions where app_id = ?1 and deleted_at is null",
    )
    .bind(app.get())
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    for (id, lane) in rows {
        let lane = Column("subscriptions", "lane").lane(lane)?;
        delete_one(connection, SubscriptionId::new(id), lane, now).await?;
    }
    Ok(())
}

async fn delete_one(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    lane: Lane,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query("update subscriptions set deleted_at = ?2, updated_at = ?2 where id = ?1")
        .bind(id.get())
        .bind(now.timestamp_millis())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    waiting::settle_all(connection, id, lane, waiting::End::Deleted, now).await
}

async fn set_status(
    connection: &mut SqliteConnection,
    current: &Subscription,
    status: SubscriptionStatus,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "update subscriptions set status = ?2, status_reason = ?3, updated_at = ?4 where id = ?1",
    )
    .bind(current.id.get())
    .bind(status.code())
    .bind(reason)
    .bind(now.timestamp_millis())
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    raise_version(connection, current.app, current.id, current.kind).await
}
