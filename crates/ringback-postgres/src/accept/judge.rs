//! What becomes of an item, by the keys that are known already.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::EventId;
use ringback_store::{AcceptItem, AcceptOutcome, Accepted, EmittedId, StoreError};
use sqlx::PgPool;

use crate::failure::failed;

/// After this, a request that never ended is forgotten.
pub(crate) const ABANDONED: TimeDelta = TimeDelta::minutes(1);

/// Owner and SHA-256 of a producer's own id, or of an `Idempotency-Key`.
pub(crate) type Key = (i64, [u8; 32]);

/// Rows of `idempotency` that were looked up.
pub(crate) type Known = HashMap<Key, KnownRow>;

/// A row of `idempotency`.
#[derive(Clone, Debug)]
pub(crate) struct KnownRow {
    body_hash: [u8; 32],
    created_at: DateTime<Utc>,
    /// Of a producer's own id: what was answered to the first event under it.
    first: Option<(EventId, u32)>,
    /// Of an `Idempotency-Key`: what was answered to the first request under it.
    answer: Option<Vec<u8>>,
}

/// What is to be written for an item.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Its place in the batch.
    pub(crate) item: usize,
    /// What is answered when it is written.
    pub(crate) accepted: Vec<Accepted>,
    /// All of these must be new.
    pub(crate) keys: Vec<KeyRow>,
    /// This must be there, and is deleted.
    pub(crate) emitted: Option<EmittedId>,
}

/// A key to be written.
#[derive(Debug)]
pub(crate) struct KeyRow {
    pub(crate) key: Key,
    pub(crate) body_hash: [u8; 32],
    pub(crate) first: Option<(EventId, u32)>,
    pub(crate) answer: Option<Vec<u8>>,
}

/// What becomes of an item.
#[derive(Debug)]
pub(crate) enum Verdict {
    Write(Plan),
    Decided(Result<AcceptOutcome, StoreError>),
}

/// Judges an item. An event whose id came before with the same body is answered as
/// then; so is a whole request under its `Idempotency-Key`.
pub(crate) fn judge(
    item: usize,
    request: &AcceptItem,
    known: &Known,
    now: DateTime<Utc>,
) -> Verdict {
    let idempotency = request
        .idempotency
        .map(|key| ((key.api_key.get(), key.key_hash), key));
    if let Some((key, given)) = idempotency
        && let Some(row) = known.get(&key)
        && !(row.answer.is_none() && row.created_at + ABANDONED < now)
    {
        return Verdict::Decided(match &row.answer {
            Some(answer) if row.body_hash == given.body_hash => {
                Accepted::unpack_all(answer).map(AcceptOutcome::Replayed)
            }
            _ => Ok(AcceptOutcome::KeyReused),
        });
    }
    let (accepted, mut keys) = match judge_events(request, known) {
        Ok(judged) => judged,
        Err(index) => return Verdict::Decided(Ok(AcceptOutcome::IdReused(index))),
    };
    if let Some((key, given)) = idempotency {
        let answer = Some(Accepted::pack_all(&accepted));
        keys.push(KeyRow {
            key,
            body_hash: given.body_hash,
            first: None,
            answer,
        });
    } else if accepted.iter().all(|one| one.duplicate) {
        return Verdict::Decided(Ok(AcceptOutcome::Accepted(accepted)));
    }
    Verdict::Write(Plan {
        item,
        accepted,
        keys,
        emitted: request.emitted,
    })
}

/// What is answered per event, and the ids that are new; else the place of an event
/// whose id came before with another.
fn judge_events(
    request: &AcceptItem,
    known: &Known,
) -> Result<(Vec<Accepted>, Vec<KeyRow>), usize> {
    let mut accepted = Vec::with_capacity(request.events.len());
    let mut keys: Vec<KeyRow> = Vec::new();
    for (index, event) in request.events.iter().enumerate() {
        let own = (
            event.id,
            u32::try_from(event.deliveries.len()).unwrap_or(u32::MAX),
        );
        let mut first = (own, false);
        if let Some(external) = &event.external {
            let key = (event.app.get(), external.id_hash);
            let before = keys.iter().find(|row| row.key == key);
            let before = before
                .map(|row| (row.body_hash, row.first))
                .or_else(|| known.get(&key).map(|row| (row.body_hash, row.first)));
            first = match before {
                Some((body_hash, Some(first))) if body_hash == external.body_hash => (first, true),
                Some(_) => return Err(index),
                None => (own, false),
            };
            if !first.1 {
                let body_hash = external.body_hash;
                keys.push(KeyRow {
                    key,
                    body_hash,
                    first: Some(own),
                    answer: None,
                });
            }
        }
        let ((id, deliveries), duplicate) = first;
        accepted.push(Accepted {
            id,
            deliveries,
            duplicate,
        });
    }
    Ok((accepted, keys))
}

/// The keys of an item; one may be there twice.
pub(crate) fn keys_of(item: &AcceptItem) -> impl Iterator<Item = Key> {
    let ids = item.events.iter().filter_map(|event| {
        event
            .external
            .as_ref()
            .map(|external| (event.app.get(), external.id_hash))
    });
    ids.chain(
        item.idempotency
            .map(|key| (key.api_key.get(), key.key_hash)),
    )
}

/// Looks up the keys of the items at `open`.
pub(crate) async fn look_up(
    pool: &PgPool,
    items: &[AcceptItem],
    open: &[usize],
    known: &mut Known,
) -> Result<(), StoreError> {
    let (owners, hashes): (Vec<i64>, Vec<[u8; 32]>) = open
        .iter()
        .flat_map(|&index| keys_of(&items[index]))
        .unzip();
    type Row = (
        i64,
        Vec<u8>,
        Vec<u8>,
        DateTime<Utc>,
        Option<i64>,
        Option<i32>,
        Option<Vec<u8>>,
    );
    let rows: Vec<Row> = sqlx::query_as(
        r#"
        select i.owner_id, i.key_hash, i.body_hash, i.created_at, i.event_id, i.deliveries, i.answer
        from unnest($1::int8[], $2::bytea[]) as k (owner_id, key_hash)
        cross join lateral (
            select * from ringback.idempotency
            where owner_id = k.owner_id and key_hash = k.key_hash
            limit 1
        ) i
        "#,
    )
    .bind(owners)
    .bind(hashes)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    for (owner, key_hash, body_hash, created_at, event, deliveries, answer) in rows {
        let first = event.map(|id| (EventId::new(id), deliveries.map_or(0, i32::cast_unsigned)));
        let row = KnownRow {
            body_hash: hash(body_hash)?,
            created_at,
            first,
            answer,
        };
        known.insert((owner, hash(key_hash)?), row);
    }
    Ok(())
}

fn hash(bytes: Vec<u8>) -> Result<[u8; 32], StoreError> {
    let corrupt = StoreError::Corrupt {
        table: "idempotency",
        column: "key_hash",
    };
    bytes.try_into().map_err(|_| corrupt)
}
