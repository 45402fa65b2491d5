//! Requests with an `Idempotency-Key`, other than those that bring events.

use chrono::{DateTime, Utc};
use ringback_store::{BegunRequest, IdempotencyKey, Sealed, StoreError};
use sqlx::PgPool;

use crate::{accept::ABANDONED, failure::failed};

/// How often a request may vanish between losing to it and looking at it.
const TRIES: usize = 5;

/// See [`ringback_store::Registry::begin_request`].
pub(crate) async fn begin(
    pool: &PgPool,
    key: IdempotencyKey,
    now: DateTime<Utc>,
) -> Result<BegunRequest, StoreError> {
    for _ in 0..TRIES {
        if claim(pool, key, now).await? {
            return Ok(BegunRequest::New);
        }
        let row: Option<(Vec<u8>, Option<Vec<u8>>)> = sqlx::query_as(
            "select body_hash, answer from ringback.idempotency \
             where owner_id = $1 and key_hash = $2",
        )
        .bind(key.api_key.get())
        .bind(key.key_hash)
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
        match row {
            Some((body_hash, _)) if body_hash != key.body_hash => {
                return Ok(BegunRequest::Reused);
            }
            Some((_, None)) => return Ok(BegunRequest::Running),
            Some((_, Some(answer))) => {
                return Ok(BegunRequest::Finished(Sealed::from_bytes(answer)));
            }
            None => {} // It was forgotten this moment: the key is free.
        }
    }
    Ok(BegunRequest::Running)
}

/// See [`ringback_store::Registry::finish_request`].
pub(crate) async fn finish(
    pool: &PgPool,
    key: IdempotencyKey,
    answer: Option<Sealed>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let query = match &answer {
        // Remembered for a day from its end.
        Some(answer) => sqlx::query(
            "update ringback.idempotency set answer = $4, created_at = $5 \
             where owner_id = $1 and key_hash = $2 and body_hash = $3 and answer is null",
        )
        .bind(key.api_key.get())
        .bind(key.key_hash)
        .bind(key.body_hash)
        .bind(answer.as_bytes())
        .bind(now),
        None => sqlx::query(
            "delete from ringback.idempotency \
             where owner_id = $1 and key_hash = $2 and body_hash = $3 and answer is null",
        )
        .bind(key.api_key.get())
        .bind(key.key_hash)
        .bind(key.body_hash),
    };
    query.execute(pool).await.map_err(failed)?;
    Ok(())
}

/// Whether the key is new, or was begun by somebody who never finished.
async fn claim(pool: &PgPool, key: IdempotencyKey, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let claimed = sqlx::query(
        r#"
        insert into ringback.idempotency as known (owner_id, key_hash, body_hash, created_at)
        values ($1, $2, $3, $4)
        on conflict (owner_id, key_hash) do update
        set body_hash = excluded.body_hash, created_at = excluded.created_at
        where known.answer is null and known.event_id is null and known.created_at < $5
        "#,
    )
    .bind(key.api_key.get())
    .bind(key.key_hash)
    .bind(key.body_hash)
    .bind(now)
    .bind(now - ABANDONED)
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(claimed.rows_affected() > 0)
}
