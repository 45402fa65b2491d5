//! Attempts: the last one of a settled delivery lies with it, all others apart.

use std::collections::{BTreeMap, HashMap};

use ringback_model::DeliveryId;
use ringback_store::{Attempt, AttemptRecord, Sealed, StoreError, Within};
use sqlx::PgPool;

use crate::{deliveries, failure::failed};

/// See [`ringback_store::History::attempts`].
pub(crate) async fn of_delivery(
    pool: &PgPool,
    id: DeliveryId,
    within: Within,
) -> Result<Option<Vec<Attempt>>, StoreError> {
    if deliveries::find(pool, id, within).await?.is_none() {
        return Ok(None);
    }
    let records = records(pool, id).await?;
    let sent_with = sent_with(pool, id, &records).await?;
    let attempt = |record: AttemptRecord| {
        let missing = StoreError::Corrupt {
            table: "subscription_versions",
            column: "version",
        };
        let (url, headers) = sent_with.get(&record.subscription_version).ok_or(missing)?;
        let headers = headers.clone().map(Sealed::from_bytes);
        Ok(Attempt {
            record,
            url: url.clone(),
            headers,
        })
    };
    records
        .into_iter()
        .map(attempt)
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Every record, first to last.
async fn records(pool: &PgPool, id: DeliveryId) -> Result<Vec<AttemptRecord>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        r#"
        select record from ringback.attempts where event_id = $1 and subscription_id = $2
        union all
        select record from ringback.deliveries
        where event_id = $1 and subscription_id = $2 and record is not null
        union all
        select record from ringback.kept_attempts where event_id = $1 and subscription_id = $2
        union all
        select record from ringback.kept_deliveries
        where event_id = $1 and subscription_id = $2 and record is not null
        "#,
    )
    .bind(id.event.get())
    .bind(id.subscription.get())
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    // By number: what is in both places is there once, as it is with the delivery.
    let mut records = BTreeMap::new();
    for row in rows {
        let record = AttemptRecord::unpack("attempts", &row)?;
        records.insert(record.number, record);
    }
    Ok(records.into_values().collect())
}

type SentWith = HashMap<i32, (String, Option<Vec<u8>>)>;

/// URL and headers of the versions that were used.
async fn sent_with(
    pool: &PgPool,
    id: DeliveryId,
    records: &[AttemptRecord],
) -> Result<SentWith, StoreError> {
    let versions: Vec<i32> = records
        .iter()
        .map(|record| record.subscription_version)
        .collect();
    let rows: Vec<(i32, String, Option<Vec<u8>>)> = sqlx::query_as(
        "select version, url, headers from ringback.subscription_versions \
         where subscription_id = $1 and version = any($2)",
    )
    .bind(id.subscription.get())
    .bind(versions)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    Ok(rows
        .into_iter()
        .map(|(version, url, headers)| (version, (url, headers)))
        .collect())
}
