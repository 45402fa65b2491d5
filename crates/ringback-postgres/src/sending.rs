//! What sending to a subscription needs, and whose changed.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, SubscriptionId, SubscriptionStatus};
use ringback_store::{Sealed, SendingState, StoreError};
use sqlx::{PgPool, Row, postgres::PgRow};

use crate::{
    failure::failed,
    health,
    rows::{from_json, lane, ordering_of},
};

/// See [`ringback_store::Outbox::sending_states`].
pub(crate) async fn states(
    pool: &PgPool,
    subscriptions: &[SubscriptionId],
    now: DateTime<Utc>,
) -> Result<Vec<SendingState>, StoreError> {
    let ids: Vec<i64> = subscriptions.iter().map(|id| id.get()).collect();
    let rows = sqlx::query(
        r#"
        select s.id, s.app_id, s.lane, s.status, s.deleted_at is not null as deleted, s.version,
            v.url, v.headers, v.retry, v.timeout_ms, v.max_in_flight, v.rate_per_s,
            v.ordering, k.secrets, k.ends, h.failing_since, h.warned
        from ringback.subscriptions s
        join ringback.subscription_versions v
            on v.subscription_id = s.id and v.version = s.version
        left join ringback.subscription_health h on h.subscription_id = s.id
        cross join lateral (
            select coalesce(array_agg(secret order by number desc), '{}') as secrets,
                coalesce(array_agg(expires_at order by number desc), '{}') as ends
            from ringback.subscription_secrets
            where subscription_id = s.id and (expires_at is null or expires_at > $2)
        ) k
        where s.id = any($1)
        "#,
    )
    .bind(ids)
    .bind(now)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(read).collect()
}

/// See [`ringback_store::Outbox::changed_since`].
pub(crate) async fn changed_since(
    pool: &PgPool,
    since: DateTime<Utc>,
) -> Result<Vec<SubscriptionId>, StoreError> {
    let ids: Vec<i64> =
        sqlx::query_scalar("select id from ringback.subscriptions where updated_at >= $1")
            .bind(since)
            .fetch_all(pool)
            .await
            .map_err(failed)?;
    Ok(ids.into_iter().map(SubscriptionId::new).collect())
}

fn read(row: &PgRow) -> Result<SendingState, StoreError> {
    let status: i16 = row.try_get("status").map_err(failed)?;
    let corrupt = StoreError::Corrupt {
        table: "subscriptions",
        column: "status",
    };
    let retry: &str = row.try_get("retry").map_err(failed)?;
    let headers: Option<Vec<u8>> = row.try_get("headers").map_err(failed)?;
    let secrets: Vec<Vec<u8>> = row.try_get("secrets").map_err(failed)?;
    let ends: Vec<Option<DateTime<Utc>>> = row.try_get("ends").map_err(failed)?;
    let number = |column| row.try_get::<i32, _>(column).map_err(failed);
    Ok(SendingState {
        id: SubscriptionId::new(row.try_get("id").map_err(failed)?),
        app: AppId::new(row.try_get("app_id").map_err(failed)?),
        lane: lane(row.try_get("lane").map_err(failed)?),
        status: SubscriptionStatus::from_code(status).ok_or(corrupt)?,
        deleted: row.try_get("deleted").map_err(failed)?,
        version: row.try_get("version").map_err(failed)?,
        url: row.try_get("url").map_err(failed)?,
        headers: headers.map(Sealed::from_bytes),
        retry: from_json("subscription_versions", "retry", retry)?,
        timeout_ms: number("timeout_ms")?.unsigned_abs(),
        max_in_flight: u16::try_from(number("max_in_flight")?).unwrap_or(u16::MAX),
        rate_per_s: row.try_get("rate_per_s").map_err(failed)?,
        ordering: ordering_of(row.try_get("ordering").map_err(failed)?)?,
        secrets: secrets
            .into_iter()
            .map(Sealed::from_bytes)
            .zip(ends)
            .collect(),
        failing: health::read(row)?,
    })
}
