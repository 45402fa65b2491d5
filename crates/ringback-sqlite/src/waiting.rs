//! Ends all that waits for a subscription, because of what became of it.

use chrono::{DateTime, Utc};
use ringback_model::{DeadReason, DeliveryStatus, Lane, SubscriptionId};
use ringback_store::StoreError;
use sqlx::SqliteConnection;

use crate::failure::failed;

/// Why nothing waits any more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The subscription is disabled: what waits is dead.
    Disabled,
    /// It is deleted: what waits is cancelled.
    Deleted,
}

/// Settles every row of the outbox and the retries that is for this subscription;
/// answers how many there were.
pub(crate) async fn settle_all(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
    lane: Lane,
    end: End,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let (status, reason) = match end {
        End::Disabled => (DeliveryStatus::Dead, Some(DeadReason::SubscriptionDisabled)),
        End::Deleted => (DeliveryStatus::Cancelled, None),
    };
    let waiting: i64 = sqlx::query_scalar(
        "select (select count(*) from outbox where lane = ?2 and subscription_id = ?1) \
         + (select count(*) from retries where subscription_id = ?1)",
    )
    .bind(subscription.get())
    .bind(i64::from(lane.get()))
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query(
        "insert or replace into deliveries \
         (event_id, subscription_id, app_id, settled_at, type_id, status, attempts, dead_reason) \
         select o.event_id, o.subscription_id, e.app_id, ?3, e.type_id, ?4, 0, ?5 \
         from outbox o cross join events e on e.id = o.event_id \
         where o.lane = ?2 and o.subscription_id = ?1; \
         delete from outbox where lane = ?2 and subscription_id = ?1; \
         insert or replace into deliveries \
         (event_id, subscription_id, app_id, settled_at, type_id, status, attempts, last_code, \
         last_error, dead_reason) \
         select event_id, subscription_id, app_id, ?3, type_id, ?4, attempts_made, last_code, \
         last_error, ?5 \
         from retries where subscription_id = ?1; \
         delete from retries where subscription_id = ?1",
    )
    .bind(subscription.get())
    .bind(i64::from(lane.get()))
    .bind(now.timestamp_millis())
    .bind(status.code())
    .bind(reason.map(DeadReason::code))
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(waiting.cast_unsigned())
}
