//! Subscriptions, and what their owners chose.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, Lane, Ordering, PayloadFilter, SubscriptionId, SubscriptionStatus};
use ringback_store::{
    Changed, NewSubscription, Sealed, StoreError, Subscription, SubscriptionChange,
    SubscriptionConfig, SubscriptionKind, Within,
};
use sqlx::{Row, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};

use crate::{
    apps::{only, raise_version},
    columns::{Column, json},
    failure::failed,
    secrets,
};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "select s.id, s.app_id, s.lane, s.kind, s.status, s.status_reason, s.version, \
             s.created_at, s.updated_at, v.url, v.event_types, v.headers, v.retry, \
             v.timeout_ms, v.max_in_flight, v.description, v.labels, v.payload_filter, \
             v.rate_per_s, v.ordering, h.failing_since \
             from subscriptions s join subscription_versions v \
             on v.subscription_id = s.id and v.version = s.version \
             left join subscription_health h on h.subscription_id = s.id \
             where s.deleted_at is null and ",
            $tail
        )
    };
}

/// See [`ringback_store::Registry::create_subscription`].
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    new: &NewSubscription,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let created = sqlx::query(
        "insert into subscriptions \
         (id, app_id, kind, lane, status, version, created_at, updated_at) \
         select ?1, id, ?3, ?4, 0, 1, ?5, ?5 from apps where id = ?2 and deleted_at is null",
    )
    .bind(new.id.get())
    .bind(new.app.get())
    .bind(kind_text(new.kind))
    .bind(i64::from(Lane::of(new.id).get()))
    .bind(now.timestamp_millis())
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    if created.rows_affected() == 0 {
        return Ok(None);
    }
    write_version(connection, new.id, 1, &new.config, now).await?;
    secrets::write(connection, new.id, 1, &new.secret, now).await?;
    raise_version(connection, new.app, new.id, new.kind).await?;
    get(connection, new.id, Within::Everything).await
}

/// See [`ringback_store::Registry::subscription`].
pub(crate) async fn get(
    executor: impl SqliteExecutor<'_>,
    id: SubscriptionId,
    within: Within,
) -> Result<Option<Subscription>, StoreError> {
    let row = sqlx::query(select!("s.id = ?1 and (?2 is null or s.app_id = ?2)"))
        .bind(id.get())
        .bind(only(within))
        .fetch_optional(executor)
        .await
        .map_err(failed)?;
    row.map(|row| read(&row)).transpose()
}

/// See [`ringback_store::Registry::subscriptions`].
pub(crate) async fn list(
    executor: impl SqliteExecutor<'_>,
    app: AppId,
    before: SubscriptionId,
    limit: u32,
) -> Result<Vec<Subscription>, StoreError> {
    let rows = sqlx::query(select!(
        "s.kind = 'standard' and s.app_id = ?1 and s.id < ?2 order by s.id desc limit ?3"
    ))
    .bind(app.get())
    .bind(before.get())
    .bind(limit)
    .fetch_all(executor)
    .await
    .map_err(failed)?;
    rows.iter().map(read).collect()
}

/// See [`ringback_store::Registry::update_subscription`].
pub(crate) async fn update(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    within: Within,
    change: SubscriptionChange,
    expected: Option<i32>,
    now: DateTime<Utc>,
) -> Result<Changed<Subscription>, StoreError> {
    let Some(current) = get(&mut *connection, id, within).await? else {
        return Ok(Changed::NotFound);
    };
    if expected.is_some_and(|expected| expected != current.version) {
        return Ok(Changed::Outdated);
    }
    let version = current.version + 1;
    let config = changed(current.config, change);
    write_version(connection, id, version, &config, now).await?;
    sqlx::query("update subscriptions set version = ?2, updated_at = ?3 where id = ?1")
        .bind(id.get())
        .bind(version)
        .bind(now.timestamp_millis())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    raise_version(connection, current.app, id, current.kind).await?;
    let updated = get(connection, id, within).await?;
    Ok(updated.map_or(Changed::NotFound, Changed::Done))
}

async fn write_version(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    version: i32,
    config: &SubscriptionConfig,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into subscription_versions (subscription_id, version, url, event_types, headers, \
         retry, timeout_ms, max_in_flight, description, labels, payload_filter, created_at, \
         rate_per_s, ordering) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.get())
    .bind(version)
    .bind(&config.url)
    .bind(json(&config.event_types))
    .bind(config.headers.as_ref().map(Sealed::as_bytes))
    .bind(json(&config.retry))
    .bind(config.timeout_ms)
    .bind(config.max_in_flight)
    .bind(&config.description)
    .bind(json(&config.labels))
    .bind(config.payload_filter.as_ref().map(PayloadFilter::as_str))
    .bind(now.timestamp_millis())
    .bind(config.rate_per_s)
    .bind(config.ordering.code())
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed)
}

fn changed(config: SubscriptionConfig, change: SubscriptionChange) -> SubscriptionConfig {
    SubscriptionConfig {
        url: change.url.unwrap_or(config.url),
        event_types: change.event_types.unwrap_or(config.event_types),
        payload_filter: change.payload_filter.unwrap_or(config.payload_filter),
        headers: change.headers.unwrap_or(config.headers),
        retry: change.retry.unwrap_or(config.retry),
        timeout_ms: change.timeout_ms.unwrap_or(config.timeout_ms),
        max_in_flight: change.max_in_flight.unwrap_or(config.max_in_flight),
        rate_per_s: change.rate_per_s.unwrap_or(config.rate_per_s),
        ordering: change.ordering.unwrap_or(config.ordering),
        description: change.description.unwrap_or(config.description),
        labels: change.labels.unwrap_or(config.labels),
    }
}

fn kind_text(kind: SubscriptionKind) -> &'static str {
    match kind {
        SubscriptionKind::Standard => "standard",
        SubscriptionKind::Callback => "callback",
    }
}

fn read(row: &SqliteRow) -> Result<Subscription, StoreError> {
    let own = |name| Column("subscriptions", name);
    let failing_since: Option<i64> = row.try_get("failing_since").map_err(failed)?;
    let failing_since =
        failing_since.map(|since| Column("subscription_health", "failing_since").time(since));
    let kind = match row.try_get(3).map_err(failed)? {
        "standard" => SubscriptionKind::Standard,
        "callback" => SubscriptionKind::Callback,
        _ => return Err(own("kind").corrupt()),
    };
    Ok(Subscription {
        id: SubscriptionId::new(row.try_get(0).map_err(failed)?),
        app: AppId::new(row.try_get(1).map_err(failed)?),
        lane: own("lane").lane(row.try_get(2).map_err(failed)?)?,
        kind,
        status: own("status").word(
            row.try_get(4).map_err(failed)?,
            SubscriptionStatus::from_code,
        )?,
        status_reason: row.try_get(5).map_err(failed)?,
        version: row.try_get(6).map_err(failed)?,
        config: read_config(row)?,
        failing_since: failing_since.transpose()?,
        created_at: own("created_at").time(row.try_get(7).map_err(failed)?)?,
        updated_at: own("updated_at").time(row.try_get(8).map_err(failed)?)?,
    })
}

fn read_config(row: &SqliteRow) -> Result<SubscriptionConfig, StoreError> {
    let version = |name| Column("subscription_versions", name);
    let headers: Option<Vec<u8>> = row.try_get(11).map_err(failed)?;
    let payload_filter: Option<&str> = row.try_get(17).map_err(failed)?;
    Ok(SubscriptionConfig {
        url: row.try_get(9).map_err(failed)?,
        event_types: version("event_types").json(row.try_get(10).map_err(failed)?)?,
        payload_filter: payload_filter
            .map(|text| version("payload_filter").parse(text))
            .transpose()?,
        headers: headers.map(Sealed::from_bytes),
        retry: version("retry").json(row.try_get(12).map_err(failed)?)?,
        timeout_ms: version("timeout_ms").number(row.try_get(13).map_err(failed)?)?,
        max_in_flight: version("max_in_flight").number(row.try_get(14).map_err(failed)?)?,
        rate_per_s: row.try_get(18).map_err(failed)?,
        ordering: version("ordering")
            .word(row.try_get(19).map_err(failed)?, Ordering::from_code)?,
        description: row.try_get(15).map_err(failed)?,
        labels: version("labels").json(row.try_get(16).map_err(failed)?)?,
    })
}
