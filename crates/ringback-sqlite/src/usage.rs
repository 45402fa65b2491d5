//! What applications use, for their quotas.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use ringback_model::{AppId, Quotas};
use ringback_store::{AcceptItem, AcceptOutcome, Backlog, StoreError, StoredBytes, Usage};
use sqlx::SqliteConnection;

use crate::{
    SqliteStore, accept,
    columns::json,
    failure::failed,
    writer::{Writer, commit},
};

type Row = (i64, Option<f64>, Option<i64>, Option<i64>);

#[async_trait]
impl Usage for SqliteStore {
    async fn quotas(&self, apps: &[AppId]) -> Result<Vec<(AppId, Quotas)>, StoreError> {
        let ids: Vec<i64> = apps.iter().map(|app| app.get()).collect();
        let rows: Vec<Row> = sqlx::query_as(
            "select a.id, a.quota_events_per_s, a.quota_pending_deliveries, a.quota_stored_bytes \
             from json_each(?1) j cross join apps a on a.id = j.value \
             where a.deleted_at is null",
        )
        .bind(json(&ids))
        .fetch_all(&self.0.readers)
        .await
        .map_err(failed)?;
        let quotas = |(id, rate, pending, bytes)| (AppId::new(id), quotas_of(rate, pending, bytes));
        Ok(rows.into_iter().map(quotas).collect())
    }

    async fn pending_deliveries(&self, app: AppId, up_to: u64) -> Result<u64, StoreError> {
        // The outbox has no column for it: its rows are looked through.
        let count: i64 = sqlx::query_scalar(
            "with mine (id, lane) as materialized ( \
                 select id, lane from subscriptions \
                 where app_id = ?1 and deleted_at is null and kind = 'standard') \
             select (select count(*) from (select 1 from retries where app_id = ?1 limit ?2)) \
                 + (select count(*) \
                     from (select subscription_id from outbox \
                         where lane in (select lane from mine) \
                         order by lane, event_id limit ?3) \
                     where subscription_id in (select id from mine))",
        )
        .bind(app.get())
        .bind(clipped(up_to))
        .bind(Backlog::COUNTED)
        .fetch_one(&self.0.readers)
        .await
        .map_err(failed)?;
        Ok(count.unsigned_abs())
    }

    async fn stored_bytes(&self, app: AppId, since: NaiveDate) -> Result<u64, StoreError> {
        let bytes: i64 = sqlx::query_scalar(
            "select coalesce(sum(bytes), 0) from app_usage where app_id = ?1 and day >= ?2",
        )
        .bind(app.get())
        .bind(number_of(since))
        .fetch_one(&self.0.readers)
        .await
        .map_err(failed)?;
        Ok(bytes.unsigned_abs())
    }

    async fn add_stored_bytes(&self, added: &[StoredBytes]) -> Result<(), StoreError> {
        let row = |one: &StoredBytes| (one.app.get(), number_of(one.day), clipped(one.bytes));
        let rows = json(&added.iter().map(row).collect::<Vec<_>>());
        commit!(self, |connection, rows| add(connection, rows))
    }

    async fn came_before(
        &self,
        item: &AcceptItem,
        now: DateTime<Utc>,
    ) -> Result<Option<AcceptOutcome>, StoreError> {
        let mut connection = self.0.readers.acquire().await.map_err(failed)?;
        accept::came_before(&mut connection, item, now).await
    }
}

async fn add(connection: &mut SqliteConnection, rows: String) -> Result<(), StoreError> {
    // `where true`: without it, `on` would be taken for that of a join.
    sqlx::query(
        "insert into app_usage (app_id, day, bytes) \
         select value ->> 0, value ->> 1, value ->> 2 from json_each(?1) where true \
         on conflict (app_id, day) do update set bytes = bytes + excluded.bytes",
    )
    .bind(rows)
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed)
}

/// Forgets days that no retention reaches: about one row per application and day.
pub(crate) async fn forget(writer: &Writer, now: DateTime<Utc>) -> Result<(), StoreError> {
    let end = number_of(StoredBytes::kept_since(now));
    writer
        .run(move |connection| {
            Box::pin(async move {
                sqlx::query("delete from app_usage where day < ?1")
                    .bind(end)
                    .execute(connection)
                    .await
                    .map(drop)
                    .map_err(failed)
            })
        })
        .await
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

/// Days since 1970-01-01.
fn number_of(day: NaiveDate) -> i64 {
    day.signed_duration_since(NaiveDate::default()).num_days()
}
