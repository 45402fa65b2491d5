//! Ends all that waits for a subscription, when it is disabled or deleted.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use ringback_model::{AppId, DeadReason, DeliveryStatus, Lane, SubscriptionId};
use ringback_store::StoreError;

use crate::{failure::failed, kept::in_kept, transaction::Tx};

/// Moves every waiting row of a subscription to the settled ones.
///
/// - `end`: what becomes of them.
///
/// In the order in which settling locks rows, so that neither waits for the other. What
/// outlives its day comes first.
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
    // Until this commits, no day ends.
    let ended: i64 = sqlx::query_scalar("select event_id from ringback.ended where one for share")
        .fetch_one(&mut **tx)
        .await
        .map_err(failed)?;
    static ALL_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(ALL));
    for (sql, from, to) in [(ALL_IN_KEPT.as_str(), 0, ended), (ALL, ended, i64::MAX)] {
        sqlx::query(sql)
            .bind(i16::from(Lane::of(id).get()))
            .bind(id.get())
            .bind(app.get())
            .bind(now)
            .bind(end.0.code())
            .bind(end.1.map(DeadReason::code))
            .bind(from)
            .bind(to)
            .execute(&mut **tx)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

const ALL: &str = r#"
    with unsent as (
        delete from ringback.outbox where lane = $1 and subscription_id = $2
            and event_id >= $7 and event_id < $8
        returning event_id
    ), waiting as (
        delete from ringback.retries
        where subscription_id = $2 and event_id >= $7 and event_id < $8
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
"#;
