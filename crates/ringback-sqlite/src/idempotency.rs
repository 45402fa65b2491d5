//! Requests with an `Idempotency-Key`, other than those that accept events.

use chrono::{DateTime, TimeDelta, Utc};
use ringback_store::{BegunRequest, IdempotencyKey, Sealed, StoreError};
use sqlx::SqliteConnection;

use crate::{columns::Column, failure::failed, writer::Writer};

/// After this, a request that never ended is forgotten.
pub(crate) const ABANDONED: TimeDelta = TimeDelta::minutes(1);
/// For so long a key is remembered.
const REMEMBERED: TimeDelta = TimeDelta::hours(24);
/// How many are forgotten at once: what waits behind must not wait long.
const FORGOTTEN_AT_ONCE: u64 = 500;

/// See [`ringback_store::Registry::begin_request`].
pub(crate) async fn begin(
    connection: &mut SqliteConnection,
    key: IdempotencyKey,
    now: DateTime<Utc>,
) -> Result<BegunRequest, StoreError> {
    let before: Option<(Vec<u8>, i64, Option<Vec<u8>>)> = sqlx::query_as(
        "select body_hash, created_at, answer from idempotency \
         where owner_id = ?1 and key_hash = ?2",
    )
    .bind(key.api_key.get())
    .bind(&key.key_hash[..])
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    if let Some((body_hash, created_at, answer)) = before {
        let began_at = Column("idempotency", "created_at").time(created_at)?;
        let abandoned = answer.is_none() && began_at + ABANDONED < now;
        if !abandoned {
            return Ok(match answer {
                _ if body_hash != key.body_hash => BegunRequest::Reused,
                Some(answer) => BegunRequest::Finished(Sealed::from_bytes(answer)),
                None => BegunRequest::Running,
            });
        }
    }
    write(connection, key, None, now).await?;
    Ok(BegunRequest::New)
}

/// See [`ringback_store::Registry::finish_request`].
pub(crate) async fn finish(
    connection: &mut SqliteConnection,
    key: IdempotencyKey,
    answer: Option<&Sealed>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if answer.is_some() {
        return write(connection, key, answer, now).await;
    }
    sqlx::query(
        "delete from idempotency \
         where owner_id = ?1 and key_hash = ?2 and body_hash = ?3 and answer is null",
    )
    .bind(key.api_key.get())
    .bind(&key.key_hash[..])
    .bind(&key.body_hash[..])
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed)
}

/// Forgets keys that are out of their time, a few at a time.
pub(crate) async fn forget(writer: &Writer, now: DateTime<Utc>) -> Result<(), StoreError> {
    let end = (now - REMEMBERED).timestamp_millis();
    loop {
        let forgotten = writer
            .run(move |connection| Box::pin(forget_some(connection, end)))
            .await?;
        if forgotten < FORGOTTEN_AT_ONCE {
            return Ok(());
        }
    }
}

async fn forget_some(connection: &mut SqliteConnection, end: i64) -> Result<u64, StoreError> {
    let forgotten = sqlx::query(
        "delete from idempotency where created_at < ?1 \
         and rowid in (select rowid from idempotency order by rowid limit 500)",
    )
    .bind(end)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(forgotten.rows_affected())
}

/// Writes a key, over one without an answer.
async fn write(
    connection: &mut SqliteConnection,
    key: IdempotencyKey,
    answer: Option<&Sealed>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into idempotency (owner_id, key_hash, body_hash, created_at, answer) \
         values (?1, ?2, ?3, ?4, ?5) on conflict (owner_id, key_hash) do update set \
         body_hash = excluded.body_hash, created_at = excluded.created_at, \
         answer = excluded.answer where answer is null",
    )
    .bind(key.api_key.get())
    .bind(&key.key_hash[..])
    .bind(&key.body_hash[..])
    .bind(now.timestamp_millis())
    .bind(answer.map(Sealed::as_bytes))
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed)
}
