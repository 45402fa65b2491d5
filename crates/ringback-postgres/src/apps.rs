//! Applications.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, Slug, SubscriptionId};
use ringback_store::{App, AppChange, AppRef, Changed, CreatedApp, NewApp, StoreError, Within};
use sqlx::PgPool;

use crate::{
    failure::{failed, is_taken},
    rows::{app_of, from_json, to_json},
    subscriptions,
    transaction::{Tx, transact},
    usage::{column_of, quotas_of},
};

/// See [`ringback_store::Registry::create_app`].
pub(crate) async fn create(
    pool: &PgPool,
    app: NewApp,
    now: DateTime<Utc>,
) -> Result<CreatedApp, StoreError> {
    let row: Option<Row> = sqlx::query_as(
        r#"
        insert into ringback.apps (id, slug, name, metadata, created_at, updated_at,
            quota_events_per_s, quota_pending_deliveries, quota_stored_bytes)
        values ($1, $2, $3, $4, $5, $5, $6, $7, $8)
        on conflict (slug) where deleted_at is null do nothing
        returning id, slug, name, metadata, revision, created_at, updated_at,
            quota_events_per_s, quota_pending_deliveries, quota_stored_bytes
        "#,
    )
    .bind(app.id.get())
    .bind(app.slug.as_str())
    .bind(app.name)
    .bind(to_json(&app.metadata))
    .bind(now)
    .bind(app.quotas.events_per_s)
    .bind(column_of(app.quotas.pending_deliveries))
    .bind(column_of(app.quotas.stored_bytes))
    .fetch_optional(pool)
    .await
    .map_err(failed)?;
    row.map_or(Ok(CreatedApp::SlugTaken), |row| {
        read(row).map(CreatedApp::Created)
    })
}

/// See [`ringback_store::Registry::app`].
pub(crate) async fn one(pool: &PgPool, app: &AppRef) -> Result<Option<App>, StoreError> {
    let row: Option<Row> = match app {
        AppRef::Id(id) => sqlx::query_as(
            "select id, slug, name, metadata, revision, created_at, updated_at, \
             quota_events_per_s, quota_pending_deliveries, quota_stored_bytes \
             from ringback.apps where id = $1 and deleted_at is null",
        )
        .bind(id.get()),
        AppRef::Slug(slug) => sqlx::query_as(
            "select id, slug, name, metadata, revision, created_at, updated_at, \
             quota_events_per_s, quota_pending_deliveries, quota_stored_bytes \
             from ringback.apps where slug = $1 and deleted_at is null",
        )
        .bind(slug.as_str()),
    }
    .fetch_optional(pool)
    .await
    .map_err(failed)?;
    row.map(read).transpose()
}

/// See [`ringback_store::Registry::apps`].
pub(crate) async fn list(
    pool: &PgPool,
    within: Within,
    before: AppId,
    limit: u32,
) -> Result<Vec<App>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        r#"
        select id, slug, name, metadata, revision, created_at, updated_at,
            quota_events_per_s, quota_pending_deliveries, quota_stored_bytes
        from ringback.apps
        where id < $1 and deleted_at is null and ($2::int8 is null or id = $2)
        order by id desc limit $3
        "#,
    )
    .bind(before.get())
    .bind(app_of(within))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter().map(read).collect()
}

/// See [`ringback_store::Registry::update_app`].
pub(crate) async fn update(
    pool: &PgPool,
    app: AppId,
    change: AppChange,
    expected: Option<i64>,
    now: DateTime<Utc>,
) -> Result<Changed<App>, StoreError> {
    let quotas = change.quotas.unwrap_or_default();
    let updated: Result<Option<Row>, StoreError> = sqlx::query_as(
        r#"
        update ringback.apps
        set slug = coalesce($2, slug), name = coalesce($3, name),
            metadata = coalesce($4, metadata),
            quota_events_per_s = case when $7 then $8 else quota_events_per_s end,
            quota_pending_deliveries = case when $7 then $9 else quota_pending_deliveries end,
            quota_stored_bytes = case when $7 then $10 else quota_stored_bytes end,
            revision = revision + 1, version = version + 1, updated_at = $6
        where id = $1 and deleted_at is null and ($5::int8 is null or revision = $5)
        returning id, slug, name, metadata, revision, created_at, updated_at,
            quota_events_per_s, quota_pending_deliveries, quota_stored_bytes
        "#,
    )
    .bind(app.get())
    .bind(change.slug.as_ref().map(Slug::as_str))
    .bind(change.name)
    .bind(change.metadata.as_ref().map(to_json))
    .bind(expected)
    .bind(now)
    .bind(change.quotas.is_some())
    .bind(quotas.events_per_s)
    .bind(column_of(quotas.pending_deliveries))
    .bind(column_of(quotas.stored_bytes))
    .fetch_optional(pool)
    .await
    .map_err(failed);
    match updated {
        Ok(Some(row)) => read(row).map(Changed::Done),
        Ok(None) => Ok(match one(pool, &AppRef::Id(app)).await? {
            Some(_) => Changed::Outdated,
            None => Changed::NotFound,
        }),
        Err(error) if is_taken(&error) => Ok(Changed::NameTaken),
        Err(error) => Err(error),
    }
}

/// See [`ringback_store::Registry::delete_app`].
pub(crate) async fn delete(
    pool: &PgPool,
    app: AppId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    transact(pool, move |tx| delete_in(tx, app, now)).await
}

type Row = (
    i64,
    String,
    String,
    String,
    i64,
    DateTime<Utc>,
    DateTime<Utc>,
    Option<f64>,
    Option<i64>,
    Option<i64>,
);

fn read(row: Row) -> Result<App, StoreError> {
    let (id, slug, name, metadata, revision, created_at, updated_at, rate, pending, bytes) = row;
    let corrupt = StoreError::Corrupt {
        table: "apps",
        column: "slug",
    };
    Ok(App {
        id: AppId::new(id),
        slug: Slug::try_from(slug).map_err(|_| corrupt)?,
        name,
        metadata: from_json("apps", "metadata", &metadata)?,
        quotas: quotas_of(rate, pending, bytes),
        revision,
        created_at,
        updated_at,
    })
}

async fn delete_in(mut tx: Tx, app: AppId, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let deleted = sqlx::query(
        "update ringback.apps set deleted_at = $2, version = version + 1, updated_at = $2 \
         where id = $1 and deleted_at is null",
    )
    .bind(app.get())
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    if deleted.rows_affected() == 0 {
        return Ok(false);
    }
    let doomed: Vec<i64> = sqlx::query_scalar(
        "select id from ringback.subscriptions \
         where app_id = $1 and deleted_at is null order by id",
    )
    .bind(app.get())
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    for id in doomed.into_iter().map(SubscriptionId::new) {
        subscriptions::delete_row(&mut tx, id, app, now).await?;
    }
    tx.commit().await.map_err(failed)?;
    Ok(true)
}
