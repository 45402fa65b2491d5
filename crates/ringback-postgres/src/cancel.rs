//! Withdraws a delivery.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use ringback_model::{DeliveryId, Lane};
use ringback_store::{CancelOutcome, StoreError, Within};
use sqlx::PgPool;

use crate::{
    deliveries,
    failure::{failed, is_ended_day},
    kept::in_kept,
    transaction::retry_collisions,
};

/// How often the delivery may move between looking and withdrawing.
const TRIES: usize = 10;

/// See [`ringback_store::History::cancel`].
pub(crate) async fn cancel(
    pool: &PgPool,
    id: DeliveryId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<CancelOutcome, StoreError> {
    for _ in 0..TRIES {
        let Some(found) = deliveries::find(pool, id, within).await? else {
            return Ok(CancelOutcome::NotFound);
        };
        if found.live.is_none() {
            return Ok(CancelOutcome::Settled(found.delivery.status));
        }
        let withdrawn = match retry_collisions(|| withdraw(pool, id, found.day_ended, now)).await {
            // Between looking and writing.
            Err(error) if is_ended_day(&error) => false,
            withdrawn => withdrawn?,
        };
        if withdrawn && let Some(found) = deliveries::find(pool, id, within).await? {
            return Ok(CancelOutcome::Cancelled(found.delivery));
        }
        // It went from the outbox to the retries, or was settled: look again.
    }
    Err(failed(sqlx::Error::RowNotFound))
}

async fn withdraw(
    pool: &PgPool,
    id: DeliveryId,
    day_ended: bool,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    static WITHDRAW_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(WITHDRAW));
    let sql = if day_ended {
        &WITHDRAW_IN_KEPT
    } else {
        WITHDRAW
    };
    let withdrawn = sqlx::query(sql)
        .bind(id.event.get())
        .bind(id.subscription.get())
        .bind(i16::from(Lane::of(id.subscription).get()))
        .bind(now)
        .execute(pool)
        .await
        .map_err(failed)?;
    Ok(withdrawn.rows_affected() > 0)
}

const WITHDRAW: &str = r#"
    with unsent as (
        delete from ringback.outbox
        where lane = $3 and event_id = $1 and subscription_id = $2
        returning event_id
    ), waiting as (
        delete from ringback.retries where subscription_id = $2 and event_id = $1
        returning app_id, type_id, attempts_made, last_code, last_error
    ), withdrawn as (
        select e.app_id, e.type_id, 0::int2 as attempts_made, null::int2 as last_code,
            null::int2 as last_error
        from unsent join ringback.events e on e.id = $1
        union all
        select * from waiting
    )
    insert into ringback.deliveries
        (event_id, subscription_id, app_id, settled_at, type_id, status, attempts,
         last_code, last_error)
    select $1, $2, app_id, $4, type_id, 5, attempts_made, last_code, last_error
    from withdrawn
    -- A round before this one; its last attempt was moved away when this one began.
    on conflict (event_id, subscription_id) do update
    set settled_at = excluded.settled_at, status = excluded.status,
        attempts = excluded.attempts, last_code = excluded.last_code,
        last_error = excluded.last_error, dead_reason = null, record = null
"#;
