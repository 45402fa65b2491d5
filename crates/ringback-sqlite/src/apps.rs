//! Applications.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, SubscriptionId};
use ringback_store::{
    App, AppChange, AppRef, Changed, CreatedApp, NewApp, StoreError, SubscriptionKind, Within,
};
use sqlx::{SqliteConnection, SqliteExecutor};

use crate::{
    columns::{Column, json},
    failure::failed,
    subscription_status,
    usage::{column_of, quotas_of},
};

type Row = (
    i64,
    String,
    String,
    String,
    i64,
    i64,
    i64,
    Option<f64>,
    Option<i64>,
    Option<i64>,
);

/// See [`ringback_store::Registry::create_app`].
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    app: &NewApp,
    now: DateTime<Utc>,
) -> Result<CreatedApp, StoreError> {
    let row: Option<Row> = sqlx::query_as(
        "insert into apps (id, slug, name, metadata, created_at, updated_at, \
         quota_events_per_s, quota_pending_deliveries, quota_stored_bytes) \
         values (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8) \
         on conflict (slug) where deleted_at is null do nothing \
         returning id, slug, name, metadata, revision, created_at, updated_at, \
         quota_events_per_s, quota_pending_deliveries, quota_stored_bytes",
    )
    .bind(app.id.get())
    .bind(app.slug.as_str())
    .bind(&app.name)
    .bind(json(&app.metadata))
    .bind(now.timestamp_millis())
    .bind(app.quotas.events_per_s)
    .bind(column_of(app.quotas.pending_deliveries))
    .bind(column_of(app.quotas.stored_bytes))
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    Ok(match row {
        Some(row) => CreatedApp::Created(read(row)?),
        None => CreatedApp::SlugTaken,
    })
}

/// See [`ringback_store::Registry::app`].
pub(crate) async fn get(
    executor: impl SqliteExecutor<'_>,
    app: &AppRef,
) -> Result<Option<App>, StoreError> {
    let (id, slug) = app_key(app);
    let row: Option<Row> = sqlx::query_as(
        "select id, slug, name, metadata, revision, created_at, updated_at, \
         quota_events_per_s, quota_pending_deliveries, quota_stored_bytes from apps \
         where id = coalesce(?1, (select id from apps where slug = ?2 and deleted_at is null)) \
         and deleted_at is null",
    )
    .bind(id)
    .bind(slug)
    .fetch_optional(executor)
    .await
    .map_err(failed)?;
    row.map(read).transpose()
}

/// See [`ringback_store::Registry::apps`].
pub(crate) async fn list(
    executor: impl SqliteExecutor<'_>,
    within: Within,
    before: AppId,
    limit: u32,
) -> Result<Vec<App>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, slug, name, metadata, revision, created_at, updated_at, \
         quota_events_per_s, quota_pending_deliveries, quota_stored_bytes from apps \
         where id < ?1 and deleted_at is null and (?2 is null or id = ?2) \
         order by id desc limit ?3",
    )
    .bind(before.get())
    .bind(only(within))
    .bind(limit)
    .fetch_all(executor)
    .await
    .map_err(failed)?;
    rows.into_iter().map(read).collect()
}

/// See [`ringback_store::Registry::update_app`].
pub(crate) async fn update(
    connection: &mut SqliteConnection,
    app: AppId,
    change: &AppChange,
    expected: Option<i64>,
    now: DateTime<Utc>,
) -> Result<Changed<App>, StoreError> {
    let Some(current) = get(&mut *connection, &AppRef::Id(app)).await? else {
        return Ok(Changed::NotFound);
    };
    if expected.is_some_and(|expected| expected != current.revision) {
        return Ok(Changed::Outdated);
    }
    if let Some(slug) = &change.slug
        && get(&mut *connection, &AppRef::Slug(slug.clone()))
            .await?
            .is_some_and(|own| own.id != app)
    {
        return Ok(Changed::NameTaken);
    }
    let quotas = change.quotas.unwrap_or(current.quotas);
    let row: Row = sqlx::query_as(
        "update apps set slug = coalesce(?2, slug), name = coalesce(?3, name), \
         metadata = coalesce(?4, metadata), revision = revision + 1, version = version + 1, \
         updated_at = ?5, quota_events_per_s = ?6, quota_pending_deliveries = ?7, \
         quota_stored_bytes = ?8 where id = ?1 \
         returning id, slug, name, metadata, revision, created_at, updated_at, \
         quota_events_per_s, quota_pending_deliveries, quota_stored_bytes",
    )
    .bind(app.get())
    .bind(change.slug.as_ref().map(|slug| slug.as_str()))
    .bind(change.name.as_deref())
    .bind(change.metadata.as_ref().map(json))
    .bind(now.timestamp_millis())
    .bind(quotas.events_per_s)
    .bind(column_of(quotas.pending_deliveries))
    .bind(column_of(quotas.stored_bytes))
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    read(row).map(Changed::Done)
}

/// See [`ringback_store::Registry::delete_app`].
pub(crate) async fn delete(
    connection: &mut SqliteConnection,
    app: AppId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let deleted = sqlx::query(
        "update apps set deleted_at = ?2, updated_at = ?2, version = version + 1 \
         where id = ?1 and deleted_at is null",
    )
    .bind(app.get())
    .bind(now.timestamp_millis())
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    if deleted.rows_affected() == 0 {
        return Ok(false);
    }
    subscription_status::delete_all(connection, app, now).await?;
    Ok(true)
}

/// Makes everything that was matched before match anew, after a change of one of its
/// subscriptions, and says at which version this was. Callbacks' hidden ones match
/// nothing.
pub(crate) async fn raise_version(
    connection: &mut SqliteConnection,
    app: AppId,
    changed: SubscriptionId,
    kind: SubscriptionKind,
) -> Result<(), StoreError> {
    if kind == SubscriptionKind::Callback {
        return Ok(());
    }
    sqlx::query("update apps set version = version + 1 where id = ?1")
        .bind(app.get())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    sqlx::query(
        "update subscriptions set app_version = (select version from apps where id = ?1) \
         where id = ?2",
    )
    .bind(app.get())
    .bind(changed.get())
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed)
}

/// Id and slug, of which one is null.
pub(crate) fn app_key(app: &AppRef) -> (Option<i64>, Option<&str>) {
    match app {
        AppRef::Id(id) => (Some(id.get()), None),
        AppRef::Slug(slug) => (None, Some(slug.as_str())),
    }
}

/// The one application whose things can be seen; null for all.
pub(crate) fn only(within: Within) -> Option<i64> {
    match within {
        Within::Everything => None,
        Within::App(app) => Some(app.get()),
    }
}

fn read(
    (id, slug, name, metadata, revision, created_at, updated_at, rate, pending, bytes): Row,
) -> Result<App, StoreError> {
    let column = |name| Column("apps", name);
    Ok(App {
        id: AppId::new(id),
        slug: column("slug").parse(&slug)?,
        name,
        metadata: column("metadata").json(&metadata)?,
        quotas: quotas_of(rate, pending, bytes),
        revision,
        created_at: column("created_at").time(created_at)?,
        updated_at: column("updated_at").time(updated_at)?,
    })
}
