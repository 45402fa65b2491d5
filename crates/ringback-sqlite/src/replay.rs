//! Sends deliveries again, and withdraws them.

use chrono::{DateTime, Utc};
use ringback_model::{
    DeliveryId, DeliveryStatus, OrderKey, Ordering, Retention, SubscriptionStatus,
};
use ringback_store::{CancelOutcome, Delivery, ReplayOutcome, StoreError, Within};
use sqlx::SqliteConnection;

use crate::{columns::Column, delivery, failure::failed};

/// See [`ringback_store::History::replay`].
pub(crate) async fn replay(
    connection: &mut SqliteConnection,
    id: DeliveryId,
    within: Within,
    keep: Retention,
    now: DateTime<Utc>,
) -> Result<ReplayOutcome, StoreError> {
    let Some(delivery) = delivery::get(&mut *connection, id, within).await? else {
        return Ok(ReplayOutcome::NotFound);
    };
    let (status, deleted) = subscription(connection, id).await?;
    match status {
        _ if deleted => return Ok(ReplayOutcome::SubscriptionGone),
        SubscriptionStatus::Disabled => return Ok(ReplayOutcome::SubscriptionDisabled),
        SubscriptionStatus::Paused => return Ok(ReplayOutcome::Held),
        SubscriptionStatus::Active => {}
    }
    match delivery.status {
        DeliveryStatus::Pending | DeliveryStatus::Retrying | DeliveryStatus::Held => {
            if !hasten(connection, id, now).await? {
                return Ok(ReplayOutcome::AlreadyPending(delivery));
            }
        }
        DeliveryStatus::Delivered | DeliveryStatus::Dead | DeliveryStatus::Cancelled => {
            if !Retention::may_replay(end(&delivery, keep), now)
                || !begin_round(connection, id, now).await?
            {
                return Ok(ReplayOutcome::PayloadExpired);
            }
        }
    }
    let replayed = delivery::get(connection, id, within).await?;
    Ok(replayed.map_or(ReplayOutcome::NotFound, ReplayOutcome::Due))
}

/// When a settled delivery goes.
fn end(delivery: &Delivery, keep: Retention) -> DateTime<Utc> {
    match (delivery.status, delivery.settled_at) {
        (DeliveryStatus::Dead, Some(died_at)) => keep.dead_end_at(delivery.id.event, died_at),
        _ => keep.ends_at(delivery.id.event),
    }
}

/// See [`ringback_store::History::cancel`].
pub(crate) async fn cancel(
    connection: &mut SqliteConnection,
    id: DeliveryId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<CancelOutcome, StoreError> {
    let Some(delivery) = delivery::get(&mut *connection, id, within).await? else {
        return Ok(CancelOutcome::NotFound);
    };
    if delivery.settled_at.is_some() {
        return Ok(CancelOutcome::Settled(delivery.status));
    }
    withdraw(connection, &delivery, now).await?;
    let cancelled = delivery::get(connection, id, within).await?;
    Ok(cancelled.map_or(CancelOutcome::NotFound, CancelOutcome::Cancelled))
}

/// Makes a retry due now. `false` if there is none that a round has begun for: the
/// first attempt of its round is still to come.
async fn hasten(
    connection: &mut SqliteConnection,
    id: DeliveryId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let hastened = sqlx::query(
        "update retries set due_at = min(due_at, ?3) \
         where event_id = ?1 and subscription_id = ?2 and attempts_made > round_start",
    )
    .bind(id.event.get())
    .bind(id.subscription.get())
    .bind(now.timestamp_millis())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(hastened.rows_affected() > 0)
}

/// Puts a settled delivery among the retries, as a new round; its last attempt joins
/// the earlier ones. `false` if its event is not kept any more.
async fn begin_round(
    connection: &mut SqliteConnection,
    id: DeliveryId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let order = order_of(&mut *connection, id).await?;
    let begun = sqlx::query(
        "insert into retries (subscription_id, event_id, lane, app_id, type_id, key_hash, \
         last_code, last_error, attempts_made, round_start, due_at) \
         select d.subscription_id, d.event_id, s.lane, d.app_id, d.type_id, ?4, d.last_code, \
         d.last_error, d.attempts, d.attempts, ?3 \
         from deliveries d join subscriptions s on s.id = d.subscription_id \
         join events e on e.id = d.event_id where d.event_id = ?1 and d.subscription_id = ?2",
    )
    .bind(id.event.get())
    .bind(id.subscription.get())
    .bind(now.timestamp_millis())
    .bind(order.map(OrderKey::get))
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    if begun.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "insert or ignore into attempts (event_id, subscription_id, number, record) \
         select event_id, subscription_id, attempts, record from deliveries \
         where event_id = ?1 and subscription_id = ?2 and record is not null; \
         delete from deliveries where event_id = ?1 and subscription_id = ?2",
    )
    .bind(id.event.get())
    .bind(id.subscription.get())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(true)
}

/// Where a delivery stands in its subscription's order, if that keeps one now.
async fn order_of(
    connection: &mut SqliteConnection,
    id: DeliveryId,
) -> Result<Option<OrderKey>, StoreError> {
    let row: Option<(Option<String>, i64)> = sqlx::query_as(
        "select e.ordering_key, v.ordering from events e \
         cross join subscriptions s on s.id = ?2 \
         cross join subscription_versions v \
             on v.subscription_id = s.id and v.version = s.version \
         where e.id = ?1",
    )
    .bind(id.event.get())
    .bind(id.subscription.get())
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    let Some((key, code)) = row else {
        return Ok(None);
    };
    let ordering = Column("subscription_versions", "ordering").word(code, Ordering::from_code)?;
    Ok(OrderKey::of(ordering, key.as_deref()))
}

/// Moves a live row to the settled ones.
async fn withdraw(
    connection: &mut SqliteConnection,
    delivery: &Delivery,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert or replace into deliveries \
         (event_id, subscription_id, app_id, settled_at, type_id, status, attempts) \
         select ?1, ?2, app_id, ?3, type_id, 5, 0 from events where id = ?1; \
         insert or replace into deliveries (event_id, subscription_id, app_id, settled_at, \
         type_id, status, attempts, last_code, last_error) \
         select event_id, subscription_id, app_id, ?3, type_id, 5, attempts_made, last_code, \
         last_error from retries where event_id = ?1 and subscription_id = ?2; \
         delete from outbox where event_id = ?1 and subscription_id = ?2 \
         and lane = (select lane from subscriptions where id = ?2); \
         delete from retries where event_id = ?1 and subscription_id = ?2",
    )
    .bind(delivery.id.event.get())
    .bind(delivery.id.subscription.get())
    .bind(now.timestamp_millis())
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed)
}

/// The status of a delivery's subscription, and whether it is deleted.
async fn subscription(
    connection: &mut SqliteConnection,
    id: DeliveryId,
) -> Result<(SubscriptionStatus, bool), StoreError> {
    let (status, deleted): (i64, bool) =
        sqlx::query_as("select status, deleted_at is not null from subscriptions where id = ?1")
            .bind(id.subscription.get())
            .fetch_one(connection)
            .await
            .map_err(failed)?;
    let column = Column("subscriptions", "status");
    Ok((column.word(status, SubscriptionStatus::from_code)?, deleted))
}
