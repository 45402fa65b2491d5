//! Reads emitted events that are not accepted yet. One process serves a file, and only
//! the store itself emits here, so whoever does gives a hint.

use std::time::Duration;

use bytes::Bytes;
use ringback_model::AppId;
use ringback_store::{EmittedId, EmittedPage, EmittedRow, StoreError};
use sqlx::{SqliteConnection, SqlitePool};

use crate::{
    columns::{Column, json},
    failure::failed,
};

/// In case a hint was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// What is read at once, but for the last row.
const MAX_BYTES: i64 = 4 * 1024 * 1024;

type Row = (
    i64,
    i64,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Vec<u8>,
    Option<String>,
    Option<i64>,
);

/// See [`ringback_store::Accept::emitted`].
pub(crate) async fn page(
    readers: &SqlitePool,
    after: EmittedId,
    except: &[EmittedId],
    limit: u32,
) -> Result<EmittedPage, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, app_id, type, external_id, traceparent, labels, data, ordering_key, \
         deliver_at \
         from (select *, sum(length(data)) over (order by id) - length(data) as before \
             from (select * from emitted \
                 where id > ?1 and id not in (select value from json_each(?2)) \
                 order by id limit ?3)) \
         where before < ?4 order by id",
    )
    .bind(after.get())
    .bind(numbers(except))
    .bind(i64::from(limit))
    .bind(MAX_BYTES)
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    let rows = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = rows.iter().map(|row| row.data.len()).sum();
    let is_full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(EmittedPage {
        has_more: is_full || i64::try_from(bytes).is_ok_and(|bytes| bytes >= MAX_BYTES),
        rows,
        ask_again: LOOK_AGAIN,
    })
}

fn read(row: Row) -> Result<EmittedRow, StoreError> {
    let (id, app, event_type, external_id, traceparent, labels, data, ordering_key, at) = row;
    let time = |millis| Column("emitted", "deliver_at").time(millis);
    Ok(EmittedRow {
        id: EmittedId::new(id),
        app: AppId::new(app),
        event_type,
        data: Bytes::from(data),
        external_id,
        traceparent,
        labels,
        ordering_key,
        deliver_at: at.map(time).transpose()?,
    })
}

/// Deletes rows; answers those that were there.
pub(crate) async fn discard(
    connection: &mut SqliteConnection,
    rows: &[EmittedId],
) -> Result<Vec<EmittedId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "delete from emitted where id in (select value from json_each(?1)) returning id",
    )
    .bind(numbers(rows))
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    Ok(ids.into_iter().map(EmittedId::new).collect())
}

/// Those of these rows that are there.
pub(crate) async fn present(
    connection: &mut SqliteConnection,
    rows: &[EmittedId],
) -> Result<Vec<EmittedId>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = sqlx::query_scalar(
        "select e.id from json_each(?1) j cross join emitted e on e.id = j.value",
    )
    .bind(numbers(rows))
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    Ok(ids.into_iter().map(EmittedId::new).collect())
}

fn numbers(rows: &[EmittedId]) -> String {
    json(&rows.iter().map(|row| row.get()).collect::<Vec<_>>())
}
