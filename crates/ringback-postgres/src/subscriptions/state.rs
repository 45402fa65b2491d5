//! Pausing, resuming, disabling and deleting.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, DeadReason, DeliveryStatus, SubscriptionId, SubscriptionStatus};
use ringback_store::{StoreError, Subscription, Within};
use sqlx::PgPool;

use super::{lock, raise_version};
use crate::{
    failure::failed,
    health,
    transaction::{Tx, transact},
    withdraw,
};

/// See [`ringback_store::Registry::pause_subscription`].
pub(crate) async fn pause(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let from = |status| status == SubscriptionStatus::Active;
    let to = SubscriptionStatus::Paused;
    transact(pool, move |tx| switch_in(tx, id, within, from, to, now)).await
}

/// See [`ringback_store::Registry::resume_subscription`].
pub(crate) async fn resume(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let from = |status| status != SubscriptionStatus::Active;
    let to = SubscriptionStatus::Active;
    transact(pool, move |tx| switch_in(tx, id, within, from, to, now)).await
}

/// See [`ringback_store::Registry::delete_subscription`].
pub(crate) async fn delete(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    transact(pool, move |mut tx| async move {
        let Some(subscription) = lock(&mut tx, id, within).await? else {
            return Ok(false);
        };
        delete_row(&mut tx, id, subscription.app, now).await?;
        raise_version(&mut tx, &subscription).await?;
        tx.commit().await.map_err(failed)?;
        Ok(true)
    })
    .await
}

/// See [`ringback_store::Outbox::disable_subscription`].
pub(crate) async fn disable(
    pool: &PgPool,
    id: SubscriptionId,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let reason = reason.to_owned();
    transact(pool, move |mut tx| async move {
        let Some(subscription) = lock(&mut tx, id, Within::Everything).await? else {
            return Ok(());
        };
        set_status(
            &mut tx,
            id,
            SubscriptionStatus::Disabled,
            Some(&reason),
            now,
        )
        .await?;
        let end = (DeliveryStatus::Dead, Some(DeadReason::SubscriptionDisabled));
        withdraw::all_of(&mut tx, id, subscription.app, end, now).await?;
        raise_version(&mut tx, &subscription).await?;
        tx.commit().await.map_err(failed)
    })
    .await
}

/// Deletes a subscription of a locked application, and cancels what waits for it.
pub(crate) async fn delete_row(
    tx: &mut Tx,
    id: SubscriptionId,
    app: AppId,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query("update ringback.subscriptions set deleted_at = $2, updated_at = $2 where id = $1")
        .bind(id.get())
        .bind(now)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    withdraw::all_of(tx, id, app, (DeliveryStatus::Cancelled, None), now).await
}

async fn switch_in(
    mut tx: Tx,
    id: SubscriptionId,
    within: Within,
    from: impl FnOnce(SubscriptionStatus) -> bool,
    to: SubscriptionStatus,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let Some(mut subscription) = lock(&mut tx, id, within).await? else {
        return Ok(None);
    };
    if from(subscription.status) {
        set_status(&mut tx, id, to, None, now).await?;
        if subscription.status == SubscriptionStatus::Disabled {
            health::forget(&mut tx, id).await?;
            subscription.failing_since = None;
        }
        raise_version(&mut tx, &subscription).await?;
        tx.commit().await.map_err(failed)?;
        (subscription.status, subscription.status_reason) = (to, None);
        subscription.updated_at = now;
    }
    Ok(Some(subscription))
}

async fn set_status(
    tx: &mut Tx,
    id: SubscriptionId,
    status: SubscriptionStatus,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "update ringback.subscriptions set status = $2, status_reason = $3, updated_at = $4 \
         where id = $1",
    )
    .bind(id.get())
    .bind(status.code())
    .bind(reason)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}
