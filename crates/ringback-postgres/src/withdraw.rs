//! Ends all that waits for a subscription, when it is disabled or deleted.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, DeadReason, DeliveryStatus, Lane, SubscriptionId};
use ringback_store::StoreError;

use crate::{failure::failed, transaction::Tx};

/// Moves every waiting row of a subscription to the settled ones.
///
/// - `end`: what becomes of them.
///
/// In the order in which settling locks rows, so that neither waits for the other.
pub(crate) async fn all_of(
    tx: &mut Tx,
    id: SubscriptionId,
    app: AppId,
    end: (DeliveryStatus, Option<DeadReason>),
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    // A long outage leaves a long backlog, and it ends in one commit.
    sqlx::query("set local statement_timeout = '5min'")
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    sqlx::query(
        r#"
        with unsent as (
            delete from ringback.outbox where lane = $1 and subscription_id = $2
            returning event_id
        ), waiting as (
            delete from ringback.retries where subscription_id = $2
            returning event_id, type_id, attempts_made, last_code, last_error
        ), ended as (
            select o.event_id, e.type_id, 0::int2 as attempts_made, null::int2 as last_code,
                null::int2 as last_error
            from unsent o
            cross join lateral (
                select type_id from ringback.events where id = o.event_id limit 1
            ) e
            union all
            select * from waiting
        )
        insert into ringback.deliveries
            (event_id, subscription_id, app_id, settled_at, type_id, status, attempts,
             last_code, last_error, dead_reason)
        select event_id, $2, $3, $4, type_id, $5, attempts_made, last_code, last_error, $6
        from ended
        -- Replayed ones are settled already; their last attempt was moved away then.
        on conflict (event_id, subscription_id) do update
        set settled_at = excluded.settled_at, status = excluded.status,
            attempts = excluded.attempts, last_code = excluded.last_code,
            last_error = excluded.last_error, dead_reason = excluded.dead_reason, record = null
        "#,
    )
    .bind(i16::from(Lane::of(id).get()))
    .bind(id.get())
    .bind(app.get())
    .bind(now)
    .bind(end.0.code())
    .bind(end.1.map(DeadReason::code))
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}
