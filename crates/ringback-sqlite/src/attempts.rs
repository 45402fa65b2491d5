//! All finished attempts of a delivery.

use std::collections::{BTreeMap, BTreeSet};

use ringback_model::DeliveryId;
use ringback_store::{Attempt, AttemptRecord, Sealed, StoreError, Within};
use sqlx::SqlitePool;

use crate::{columns::json, delivery, failure::failed};

/// See [`ringback_store::History::attempts`].
pub(crate) async fn list(
    readers: &SqlitePool,
    id: DeliveryId,
    within: Within,
) -> Result<Option<Vec<Attempt>>, StoreError> {
    if delivery::get(readers, id, within).await?.is_none() {
        return Ok(None);
    }
    // The last one is with the settled delivery, if it is settled; it comes second, so
    // that it stands if both have that number.
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "select 0 as rank, record from attempts where event_id = ?1 and subscription_id = ?2 \
         union all \
         select 1, record from deliveries \
         where event_id = ?1 and subscription_id = ?2 and record is not null \
         order by rank",
    )
    .bind(id.event.get())
    .bind(id.subscription.get())
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    let mut records = BTreeMap::new();
    for (rank, bytes) in rows {
        let table = if rank == 0 { "attempts" } else { "deliveries" };
        let record = AttemptRecord::unpack(table, &bytes)?;
        records.insert(record.number, record);
    }
    let records: Vec<AttemptRecord> = records.into_values().collect();
    with_requests(readers, id, records).await.map(Some)
}

/// Adds what each attempt was sent with: versions of a subscription never change.
async fn with_requests(
    readers: &SqlitePool,
    id: DeliveryId,
    records: Vec<AttemptRecord>,
) -> Result<Vec<Attempt>, StoreError> {
    let versions: BTreeSet<i32> = records
        .iter()
        .map(|record| record.subscription_version)
        .collect();
    let rows: Vec<(i32, String, Option<Vec<u8>>)> = sqlx::query_as(
        "select version, url, headers from subscription_versions \
         where subscription_id = ?1 and version in (select value from json_each(?2))",
    )
    .bind(id.subscription.get())
    .bind(json(&versions))
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    let requests: BTreeMap<i32, (String, Option<Vec<u8>>)> = rows
        .into_iter()
        .map(|(version, url, headers)| (version, (url, headers)))
        .collect();
    let attempt = |record: AttemptRecord| {
        let corrupt = StoreError::Corrupt {
            table: "attempts",
            column: "record",
        };
        let (url, headers) = requests
            .get(&record.subscription_version)
            .cloned()
            .ok_or(corrupt)?;
        Ok(Attempt {
            record,
            url,
            headers: headers.map(Sealed::from_bytes),
        })
    };
    records.into_iter().map(attempt).collect()
}
