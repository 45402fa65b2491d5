//! Subscriptions and their versions as rows.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, PayloadFilter, SubscriptionId, SubscriptionStatus};
use ringback_store::{Sealed, StoreError, Subscription, SubscriptionConfig, SubscriptionKind};
use sqlx::{Row, postgres::PgRow};

use crate::{
    failure::failed,
    rows::{from_json, lane, ordering_of, payload_filter, to_json},
    transaction::Tx,
};

/// Writes a subscription's configuration as its current version.
pub(super) async fn insert_version(
    tx: &mut Tx,
    subscription: &Subscription,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let config = &subscription.config;
    sqlx::query(
        r#"
        insert into ringback.subscription_versions
            (subscription_id, version, url, event_types, headers, retry, timeout_ms,
             max_in_flight, description, labels, payload_filter, created_at, rate_per_s, ordering)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        "#,
    )
    .bind(subscription.id.get())
    .bind(subscription.version)
    .bind(&config.url)
    .bind(to_json(&config.event_types))
    .bind(config.headers.as_ref().map(Sealed::as_bytes))
    .bind(to_json(&config.retry))
    .bind(i32::try_from(config.timeout_ms).unwrap_or(i32::MAX))
    .bind(i32::from(config.max_in_flight))
    .bind(&config.description)
    .bind(to_json(&config.labels))
    .bind(config.payload_filter.as_ref().map(PayloadFilter::as_str))
    .bind(now)
    .bind(config.rate_per_s)
    .bind(config.ordering.code())
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The kind, as its column has it.
pub(super) fn kind_text(kind: SubscriptionKind) -> &'static str {
    match kind {
        SubscriptionKind::Standard => "standard",
        SubscriptionKind::Callback => "callback",
    }
}

/// Reads a subscription with its current version.
pub(super) fn read(row: &PgRow) -> Result<Subscription, StoreError> {
    let status: i16 = row.try_get("status").map_err(failed)?;
    let kind: &str = row.try_get("kind").map_err(failed)?;
    let corrupt = |column| StoreError::Corrupt {
        table: "subscriptions",
        column,
    };
    Ok(Subscription {
        id: SubscriptionId::new(row.try_get("id").map_err(failed)?),
        app: AppId::new(row.try_get("app_id").map_err(failed)?),
        lane: lane(row.try_get("lane").map_err(failed)?),
        kind: match kind {
            "standard" => SubscriptionKind::Standard,
            "callback" => SubscriptionKind::Callback,
            _ => return Err(corrupt("kind")),
        },
        status: SubscriptionStatus::from_code(status).ok_or_else(|| corrupt("status"))?,
        status_reason: row.try_get("status_reason").map_err(failed)?,
        version: row.try_get("version").map_err(failed)?,
        config: read_config(row)?,
        failing_since: row.try_get("failing_since").map_err(failed)?,
        created_at: row.try_get("created_at").map_err(failed)?,
        updated_at: row.try_get("updated_at").map_err(failed)?,
    })
}

fn read_config(row: &PgRow) -> Result<SubscriptionConfig, StoreError> {
    const TABLE: &str = "subscription_versions";
    let text = |column| row.try_get::<&str, _>(column).map_err(failed);
    let number = |column| row.try_get::<i32, _>(column).map_err(failed);
    let headers: Option<Vec<u8>> = row.try_get("headers").map_err(failed)?;
    Ok(SubscriptionConfig {
        url: text("url")?.to_owned(),
        event_types: from_json(TABLE, "event_types", text("event_types")?)?,
        payload_filter: payload_filter(row.try_get("payload_filter").map_err(failed)?)?,
        headers: headers.map(Sealed::from_bytes),
        retry: from_json(TABLE, "retry", text("retry")?)?,
        timeout_ms: number("timeout_ms")?.unsigned_abs(),
        max_in_flight: u16::try_from(number("max_in_flight")?).unwrap_or(u16::MAX),
        rate_per_s: row.try_get("rate_per_s").map_err(failed)?,
        ordering: ordering_of(row.try_get("ordering").map_err(failed)?)?,
        description: text("description")?.to_owned(),
        labels: from_json(TABLE, "labels", text("labels")?)?,
    })
}
