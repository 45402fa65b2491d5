//! What becomes of an item, by what is in the database and what came before it in
//! the same batch.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use ringback_model::EventId;
use ringback_store::{
    AcceptItem, AcceptOutcome, Accepted, EmittedId, ExternalId, IdempotencyKey, NewEvent,
    StoreError,
};
use sqlx::SqliteConnection;

use crate::{
    columns::{Column, json},
    failure::failed,
    idempotency::ABANDONED,
};

/// Owner and SHA-256 of a producer's own id, or of an `Idempotency-Key`.
pub(super) type Key = (i64, [u8; 32]);

/// Keys to be written.
pub(super) type Keys = Vec<(Key, KeyRow)>;

/// A row of `idempotency`.
#[derive(Clone, Debug)]
pub(super) struct KeyRow {
    pub(super) body_hash: [u8; 32],
    created_at: DateTime<Utc>,
    /// Of a producer's own id: what was answered to the first event under it.
    pub(super) first: Option<(EventId, u32)>,
    /// Of an `Idempotency-Key`: what was answered to the first request under it.
    pub(super) answer: Option<Vec<u8>>,
}

/// What a batch puts into the database.
#[derive(Debug, Default)]
pub(super) struct ToWrite<'b> {
    /// Events, with the numbers of their types.
    pub(super) events: Vec<(&'b NewEvent, i64)>,
    pub(super) keys: Keys,
    /// Emitted rows of these events, to be deleted.
    pub(super) picked_up: Vec<EmittedId>,
}

/// Judges items in their order.
pub(super) struct Judge<'b> {
    versions: HashMap<i64, i64>,
    known: HashMap<Key, KeyRow>,
    emitted: HashSet<EmittedId>,
    now: DateTime<Utc>,
    pub(super) to_write: ToWrite<'b>,
}

/// Why an item is not written.
enum Verdict {
    Decided(AcceptOutcome),
    Failed(StoreError),
}

impl<'b> Judge<'b> {
    /// - `versions`: of the applications that are not deleted.
    /// - `known`: keys that came before.
    /// - `emitted`: rows that are there.
    pub(super) fn new(
        versions: Vec<(i64, i64)>,
        known: HashMap<Key, KeyRow>,
        emitted: Vec<EmittedId>,
        now: DateTime<Utc>,
    ) -> Self {
        let versions = versions.into_iter().collect();
        Self {
            versions,
            known,
            emitted: emitted.into_iter().collect(),
            now,
            to_write: ToWrite::default(),
        }
    }

    /// - `types`: the numbers of all events' types, in order.
    pub(super) fn judge_all(
        &mut self,
        items: &'b [AcceptItem],
        types: &[i64],
    ) -> Result<Vec<AcceptOutcome>, StoreError> {
        let mut types = types.iter().copied();
        let judge = |item: &'b AcceptItem| {
            let events: Vec<_> = item.events.iter().zip(types.by_ref()).collect();
            match self.judge(item, &events) {
                Ok(accepted) => Ok(AcceptOutcome::Accepted(accepted)),
                Err(Verdict::Decided(outcome)) => Ok(outcome),
                Err(Verdict::Failed(error)) => Err(error),
            }
        };
        items.iter().map(judge).collect()
    }

    /// Notes what has to be written for one item: all of it, or nothing.
    fn judge(
        &mut self,
        item: &AcceptItem,
        events: &[(&'b NewEvent, i64)],
    ) -> Result<Vec<Accepted>, Verdict> {
        if let Some(key) = item.idempotency {
            self.judge_request(key)?;
        }
        let (accepted, mut keys) = self.judge_events(&item.events)?;
        let answered = events.iter().zip(&accepted);
        let fresh = answered
            .filter(|(_, answer)| !answer.duplicate)
            .map(|(event, _)| *event);
        let fresh: Vec<(&NewEvent, i64)> = fresh.collect();
        let version = |event: &NewEvent| self.versions.get(&event.app.get()).copied();
        if fresh
            .iter()
            .any(|(event, _)| version(event) != Some(event.app_version))
        {
            return Err(Verdict::Decided(AcceptOutcome::Stale));
        }
        if let Some(key) = item.idempotency {
            let answer = Some(Accepted::pack_all(&accepted));
            let row = self.row(key.body_hash, None, answer);
            keys.push(((key.api_key.get(), key.key_hash), row));
        }
        if let Some(row) = item.emitted.filter(|_| !fresh.is_empty()) {
            if !self.emitted.remove(&row) {
                return Err(Verdict::Decided(AcceptOutcome::Taken));
            }
            self.to_write.picked_up.push(row);
        }
        self.known.extend(keys.iter().cloned());
        self.to_write.events.extend(fresh);
        self.to_write.keys.extend(keys);
        Ok(accepted)
    }

    /// What an item is answered that has nothing new in it.
    pub(super) fn came_before(
        &self,
        item: &AcceptItem,
    ) -> Result<Option<AcceptOutcome>, StoreError> {
        let request = item
            .idempotency
            .map_or(Ok(()), |key| self.judge_request(key));
        match request.and_then(|()| self.judge_events(&item.events)) {
            Ok((accepted, _)) if accepted.iter().all(|one| one.duplicate) => {
                Ok(Some(AcceptOutcome::Accepted(accepted)))
            }
            Ok(_) => Ok(None),
            Err(Verdict::Decided(outcome)) => Ok(Some(outcome)),
            Err(Verdict::Failed(error)) => Err(error),
        }
    }

    /// Whether a request with this key is new.
    fn judge_request(&self, key: IdempotencyKey) -> Result<(), Verdict> {
        let Some(row) = self.known.get(&(key.api_key.get(), key.key_hash)) else {
            return Ok(());
        };
        match &row.answer {
            None if row.created_at + ABANDONED < self.now => Ok(()),
            Some(answer) if row.body_hash == key.body_hash => {
                let answer = Accepted::unpack_all(answer).map_err(Verdict::Failed)?;
                Err(Verdict::Decided(AcceptOutcome::Replayed(answer)))
            }
            _ => Err(Verdict::Decided(AcceptOutcome::KeyReused)),
        }
    }

    /// What is answered per event, and the ids that are new.
    fn judge_events(&self, events: &[NewEvent]) -> Result<(Vec<Accepted>, Keys), Verdict> {
        let mut accepted = Vec::with_capacity(events.len());
        let mut keys = Keys::new();
        for (index, event) in events.iter().enumerate() {
            let deliveries = u32::try_from(event.deliveries.len()).unwrap_or(u32::MAX);
            let mut answer = Accepted {
                id: event.id,
                deliveries,
                duplicate: false,
            };
            if let Some(external) = &event.external {
                let key = (event.app.get(), external.id_hash);
                let own = keys.iter().find(|(own, _)| *own == key).map(|(_, row)| row);
                if let Some(row) = own.or_else(|| self.known.get(&key)) {
                    answer = duplicate(row, external)
                        .ok_or(Verdict::Decided(AcceptOutcome::IdReused(index)))?;
                } else {
                    let first = Some((event.id, deliveries));
                    keys.push((key, self.row(external.body_hash, first, None)));
                }
            }
            accepted.push(answer);
        }
        Ok((accepted, keys))
    }

    fn row(
        &self,
        body_hash: [u8; 32],
        first: Option<(EventId, u32)>,
        answer: Option<Vec<u8>>,
    ) -> KeyRow {
        KeyRow {
            body_hash,
            created_at: self.now,
            first,
            answer,
        }
    }
}

/// What the first event under this id was answered; `None` if that was another event.
fn duplicate(row: &KeyRow, external: &ExternalId) -> Option<Accepted> {
    let (id, deliveries) = row.first?;
    let same = row.body_hash == external.body_hash;
    same.then_some(Accepted {
        id,
        deliveries,
        duplicate: true,
    })
}

type Row = (
    i64,
    Vec<u8>,
    Vec<u8>,
    i64,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
);

/// The rows of all keys of these items.
pub(super) async fn look_up(
    connection: &mut SqliteConnection,
    items: &[AcceptItem],
) -> Result<HashMap<Key, KeyRow>, StoreError> {
    let keys: Vec<(i64, String)> = items
        .iter()
        .flat_map(keys_of)
        .map(|(owner, hash)| (owner, hex(hash)))
        .collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Row> = sqlx::query_as(
        "select i.owner_id, i.key_hash, i.body_hash, i.created_at, i.event_id, i.deliveries, \
         i.answer \
         from json_each(?1) j cross join idempotency i \
         on i.owner_id = j.value ->> 0 and i.key_hash = unhex(j.value ->> 1)",
    )
    .bind(json(&keys))
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.into_iter().map(read).collect()
}

fn read(row: Row) -> Result<(Key, KeyRow), StoreError> {
    let (owner, key_hash, body_hash, created_at, event, deliveries, answer) = row;
    let column = |name| Column("idempotency", name);
    let hash = |bytes: Vec<u8>, name| bytes.try_into().map_err(|_| column(name).corrupt());
    let deliveries: u32 = column("deliveries").number(deliveries.unwrap_or(0))?;
    let row = KeyRow {
        body_hash: hash(body_hash, "body_hash")?,
        created_at: column("created_at").time(created_at)?,
        first: event.map(|id| (EventId::new(id), deliveries)),
        answer,
    };
    Ok(((owner, hash(key_hash, "key_hash")?), row))
}

fn keys_of(item: &AcceptItem) -> impl Iterator<Item = Key> {
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

fn hex(hash: [u8; 32]) -> String {
    use std::fmt::Write;
    hash.iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a text cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
