//! What applications use, for their quotas.

use chrono::{DateTime, NaiveDate, Utc};
use ringback_model::{AppId, Quotas};
use ringback_store::{Backlog, StoreError, StoredBytes};
use sqlx::PgPool;

use crate::failure::failed;

type Row = (i64, Option<f64>, Option<i64>, Option<i64>);

/// See [`ringback_store::Usage::quotas`].
pub(crate) async fn quotas(
    pool: &PgPool,
    apps: &[AppId],
) -> Result<Vec<(AppId, Quotas)>, StoreError> {
    let ids: Vec<i64> = apps.iter().map(|app| app.get()).collect();
    let rows: Vec<Row> = sqlx::query_as(
        r#"
        select id, quota_events_per_s, quota_pending_deliveries, quota_stored_bytes
        from ringback.apps
        where id = any($1) and deleted_at is null
        "#,
    )
    .bind(ids)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let quotas = |(id, rate, pending, bytes)| (AppId::new(id), quotas_of(rate, pending, bytes));
    Ok(rows.into_iter().map(quotas).collect())
}

/// See [`ringback_store::Usage::pending_deliveries`].
pub(crate) async fn pending_deliveries(
    pool: &PgPool,
    app: AppId,
    up_to: u64,
) -> Result<u64, StoreError> {
    // The outbox has no column for it: its rows are looked through, a share of each lane,
    // so that one that is full leaves out no other. From the key alone; `offset 0` keeps
    // the limit before the comparison.
    let count: i64 = sqlx::query_scalar(
        r#"
        with mine as materialized (
            select id, lane from ringback.subscriptions
            where app_id = $1 and deleted_at is null and kind = 'standard'
        ),
        lanes as materialized (
            select lane, count(*) over () as all_of_them from mine group by lane
        )
        select (
            select count(*) from (
                select 1 from ringback.retries where app_id = $1 limit $2
            ) r
        ) + (
            select count(*)
            from lanes l
            cross join lateral (
                select o.subscription_id from ringback.outbox o
                where o.lane = l.lane
                order by o.event_id limit greatest(1, $3 / l.all_of_them)
                offset 0
            ) o
            where o.subscription_id in (select id from mine)
        )
        "#,
    )
    .bind(app.get())
    .bind(clipped(up_to))
    .bind(i64::from(Backlog::COUNTED))
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    Ok(count.unsigned_abs())
}

/// See [`ringback_store::Usage::stored_bytes`].
pub(crate) async fn stored_bytes(
    pool: &PgPool,
    app: AppId,
    since: NaiveDate,
) -> Result<u64, StoreError> {
    let bytes: i64 = sqlx::query_scalar(
        "select coalesce(sum(bytes), 0)::int8 from ringback.app_usage \
         where app_id = $1 and day >= $2",
    )
    .bind(app.get())
    .bind(since)
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    Ok(bytes.unsigned_abs())
}

/// See [`ringback_store::Usage::add_stored_bytes`].
pub(crate) async fn add_stored_bytes(
    pool: &PgPool,
    added: &[StoredBytes],
) -> Result<(), StoreError> {
    let apps: Vec<i64> = added.iter().map(|one| one.app.get()).collect();
    let days: Vec<NaiveDate> = added.iter().map(|one| one.day).collect();
    let bytes: Vec<i64> = added.iter().map(|one| clipped(one.bytes)).collect();
    sqlx::query(
        r#"
        insert into ringback.app_usage (app_id, day, bytes)
        select * from unnest($1::int8[], $2::date[], $3::int8[])
        on conflict (app_id, day) do update set bytes = app_usage.bytes + excluded.bytes
        "#,
    )
    .bind(apps)
    .bind(days)
    .bind(bytes)
    .execute(pool)
    .await
    .map(drop)
    .map_err(failed)
}

/// Forgets days that no retention reaches: about one row per application and day.
pub(crate) async fn forget(pool: &PgPool, now: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query("delete from ringback.app_usage where day < $1")
        .bind(StoredBytes::kept_since(now))
        .execute(pool)
        .await
        .map(drop)
        .map_err(failed)
}

/// Quotas from their columns. The schema lets nothing negative in.
pub(crate) fn quotas_of(
    events_per_s: Option<f64>,
    pending_deliveries: Option<i64>,
    stored_bytes: Option<i64>,
) -> Quotas {
    Quotas {
        events_per_s,
        pending_deliveries: pending_deliveries.map(i64::unsigned_abs),
        stored_bytes: stored_bytes.map(i64::unsigned_abs),
    }
}

/// A quota for its column.
pub(crate) fn column_of(quota: Option<u64>) -> Option<i64> {
    quota.map(clipped)
}

fn clipped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
