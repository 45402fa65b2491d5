//! Has an event sent again.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use ringback_model::{DeliveryId, DeliveryStatus, Lane, OrderKey, Retention, SubscriptionStatus};
use ringback_store::{Delivery, ReplayOutcome, Source, StoreError, Within};
use sqlx::PgPool;

use crate::{
    Inner,
    deliveries::{self, Found},
    failure::{failed, is_ended_day},
    kept::in_kept,
    rows::{ordering_of, small},
};

/// How often the delivery may move between looking and replaying.
const TRIES: usize = 10;

/// See [`ringback_store::History::replay`].
pub(crate) async fn replay(
    store: &Inner,
    id: DeliveryId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<ReplayOutcome, StoreError> {
    let pool = &store.pool;
    for _ in 0..TRIES {
        let Some(found) = deliveries::find(pool, id, within).await? else {
            return Ok(ReplayOutcome::NotFound);
        };
        let day_ended = found.day_ended;
        let moved = match judge(found, store.retention, now) {
            Judged::Outcome(outcome) => return Ok(outcome),
            Judged::BeginRound => {
                let order = order_of(pool, id, day_ended).await?;
                match begin_round(pool, id, (order, day_ended), now).await {
                    // Between looking and writing.
                    Err(error) if is_ended_day(&error) => false,
                    begun => begun?,
                }
            }
            Judged::Hasten {
                attempts_made,
                round_start,
            } => hasten(pool, id, (attempts_made, round_start), now).await?,
        };
        if moved && let Some(found) = deliveries::find(pool, id, within).await? {
            return Ok(ReplayOutcome::Due(found.delivery));
        }
        // Somebody else moved it first: look again.
    }
    Err(failed(sqlx::Error::RowNotFound))
}

enum Judged {
    Outcome(ReplayOutcome),
    BeginRound,
    Hasten {
        attempts_made: u16,
        round_start: u16,
    },
}

fn judge(found: Found, keep: Retention, now: DateTime<Utc>) -> Judged {
    let outcome = if found.subscription_deleted {
        ReplayOutcome::SubscriptionGone
    } else if found.subscription_status == SubscriptionStatus::Disabled {
        ReplayOutcome::SubscriptionDisabled
    } else if found.subscription_status == SubscriptionStatus::Paused {
        ReplayOutcome::Held
    } else if !found.event_kept {
        ReplayOutcome::PayloadExpired
    } else {
        match found.live {
            None if !Retention::may_replay(end(&found.delivery, keep), now) => {
                ReplayOutcome::PayloadExpired
            }
            None => return Judged::BeginRound,
            Some(Source::Retries {
                attempts_made,
                round_start,
            }) if attempts_made > round_start => {
                return Judged::Hasten {
                    attempts_made,
                    round_start,
                };
            }
            Some(_) => ReplayOutcome::AlreadyPending(found.delivery),
        }
    };
    Judged::Outcome(outcome)
}

/// When a settled delivery goes.
fn end(delivery: &Delivery, keep: Retention) -> DateTime<Utc> {
    match (delivery.status, delivery.settled_at) {
        (DeliveryStatus::Dead, Some(died_at)) => keep.dead_end_at(delivery.id.event, died_at),
        _ => keep.ends_at(delivery.id.event),
    }
}

/// Where a delivery stands in its subscription's order, if that keeps one now.
async fn order_of(
    pool: &PgPool,
    id: DeliveryId,
    day_ended: bool,
) -> Result<Option<OrderKey>, StoreError> {
    static ORDER_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(ORDER));
    let sql = if day_ended { &ORDER_IN_KEPT } else { ORDER };
    let row: Option<(Option<String>, i16)> = sqlx::query_as(sql)
        .bind(id.event.get())
        .bind(id.subscription.get())
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    let Some((key, ordering)) = row else {
        return Ok(None);
    };
    Ok(OrderKey::of(ordering_of(ordering)?, key.as_deref()))
}

/// A new round of a settled delivery, due now. Its row stays, for what was before; the
/// last attempt moves to the others, so that the round's own can take its place.
async fn begin_round(
    pool: &PgPool,
    id: DeliveryId,
    (order, day_ended): (Option<OrderKey>, bool),
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    static BEGIN_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(BEGIN_ROUND));
    let sql = if day_ended {
        &BEGIN_IN_KEPT
    } else {
        BEGIN_ROUND
    };
    let begun = sqlx::query(sql)
        .bind(id.event.get())
        .bind(id.subscription.get())
        .bind(i16::from(Lane::of(id.subscription).get()))
        .bind(now)
        .bind(order.map(OrderKey::get))
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    Ok(begun.is_some())
}

const ORDER: &str = r#"
    select e.ordering_key, v.ordering
    from ringback.events e
    cross join ringback.subscriptions s
    join ringback.subscription_versions v on v.subscription_id = s.id and v.version = s.version
    where e.id = $1 and s.id = $2
"#;

const BEGIN_ROUND: &str = r#"
    with settled as (
        select * from ringback.deliveries where event_id = $1 and subscription_id = $2
    ), begun as (
        insert into ringback.retries
            (event_id, subscription_id, lane, app_id, type_id, key_hash, last_code, last_error,
             attempts_made, round_start, due_at)
        select event_id, subscription_id, $3, app_id, type_id, $5, last_code, last_error,
            attempts, attempts, $4
        from settled
        on conflict do nothing
        returning event_id
    ), moved as (
        insert into ringback.attempts (event_id, subscription_id, number, record)
        select event_id, subscription_id, attempts, record
        from settled join begun using (event_id)
        where record is not null and attempts > 0
        on conflict do nothing
    )
    select event_id from begun
"#;

/// Makes a retry due now. Its place in the schedule stays.
async fn hasten(
    pool: &PgPool,
    id: DeliveryId,
    (attempts_made, round_start): (u16, u16),
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let hastened = sqlx::query(
        r#"
        update ringback.retries set due_at = least(due_at, $5)
        where subscription_id = $2 and event_id = $1
            and attempts_made = $3 and round_start = $4
        "#,
    )
    .bind(id.event.get())
    .bind(id.subscription.get())
    .bind(small(attempts_made))
    .bind(small(round_start))
    .bind(now)
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(hastened.rows_affected() > 0)
}
