//! What is needed to send to a subscription.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, Ordering, SubscriptionId, SubscriptionStatus};
use ringback_store::{Sealed, SendingState, StoreError};
use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use crate::{
    columns::{Column, json},
    failure::failed,
    health,
    secrets::expires_at,
};

/// See [`ringback_store::Outbox::sending_states`].
pub(crate) async fn sending_states(
    readers: &SqlitePool,
    subscriptions: &[SubscriptionId],
    now: DateTime<Utc>,
) -> Result<Vec<SendingState>, StoreError> {
    let ids: Vec<i64> = subscriptions.iter().map(|id| id.get()).collect();
    // One row per secret, newest first.
    let rows = sqlx::query(
        "select s.id, s.app_id, s.lane, s.status, s.deleted_at is not null, s.version, v.url, \
         v.headers, v.retry, v.timeout_ms, v.max_in_flight, k.secret, k.expires_at, \
         v.rate_per_s, v.ordering, h.failing_since, h.warned \
         from subscriptions s \
         join subscription_versions v on v.subscription_id = s.id and v.version = s.version \
         left join subscription_health h on h.subscription_id = s.id \
         left join subscription_secrets k on k.subscription_id = s.id \
             and (k.expires_at is null or k.expires_at > ?2) \
         where s.id in (select value from json_each(?1)) \
         order by s.id, k.number desc",
    )
    .bind(json(&ids))
    .bind(now.timestamp_millis())
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    let mut states: Vec<SendingState> = Vec::with_capacity(ids.len());
    for row in &rows {
        let id = SubscriptionId::new(row.try_get(0).map_err(failed)?);
        if states.last().is_none_or(|state| state.id != id) {
            states.push(read(row)?);
        }
        let secret: Option<Vec<u8>> = row.try_get(11).map_err(failed)?;
        if let (Some(secret), Some(state)) = (secret, states.last_mut()) {
            let end = expires_at(row.try_get(12).map_err(failed)?)?;
            state.secrets.push((Sealed::from_bytes(secret), end));
        }
    }
    Ok(states)
}

/// See [`ringback_store::Outbox::changed_since`].
pub(crate) async fn changed_since(
    readers: &SqlitePool,
    since: DateTime<Utc>,
) -> Result<Vec<SubscriptionId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar("select id from subscriptions where updated_at >= ?1")
        .bind(since.timestamp_millis())
        .fetch_all(readers)
        .await
        .map_err(failed)?;
    Ok(ids.into_iter().map(SubscriptionId::new).collect())
}

fn read(row: &SqliteRow) -> Result<SendingState, StoreError> {
    let own = |name| Column("subscriptions", name);
    let version = |name| Column("subscription_versions", name);
    let headers: Option<Vec<u8>> = row.try_get(7).map_err(failed)?;
    Ok(SendingState {
        id: SubscriptionId::new(row.try_get(0).map_err(failed)?),
        app: AppId::new(row.try_get(1).map_err(failed)?),
        lane: own("lane").lane(row.try_get(2).map_err(failed)?)?,
        status: own("status").word(
            row.try_get(3).map_err(failed)?,
            SubscriptionStatus::from_code,
        )?,
        deleted: row.try_get(4).map_err(failed)?,
        version: row.try_get(5).map_err(failed)?,
        url: row.try_get(6).map_err(failed)?,
        headers: headers.map(Sealed::from_bytes),
        retry: version("retry").json(row.try_get(8).map_err(failed)?)?,
        timeout_ms: version("timeout_ms").number(row.try_get(9).map_err(failed)?)?,
        max_in_flight: version("max_in_flight").number(row.try_get(10).map_err(failed)?)?,
        rate_per_s: row.try_get(13).map_err(failed)?,
        ordering: version("ordering")
            .word(row.try_get(14).map_err(failed)?, Ordering::from_code)?,
        secrets: Vec::new(),
        failing: health::read(row, 15)?,
    })
}
