//! Writes accepted events, their deliveries and their keys.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use ringback_store::{AcceptItem, NewDelivery, NewEvent, StoreError};
use sqlx::{
    Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::judge::{ABANDONED, Plan};
use crate::{
    Inner,
    failure::failed,
    transaction::{Tx, transact_once},
};

/// What became of a plan.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is on disk.
    Written,
    /// Its application is at another version, or gone.
    Stale,
    /// Nothing was written, for the sake of others or because a key was taken.
    Open,
    /// The database refused it.
    Failed(StoreError),
}

/// All events of one call, with their types' numbers.
#[derive(Debug)]
pub(crate) struct Batch<'i> {
    /// Per item, its events.
    items: Vec<Vec<(&'i NewEvent, i32)>>,
    now: DateTime<Utc>,
}

impl<'i> Batch<'i> {
    /// - `types`: of all events of all items, in order.
    pub(crate) fn new(items: &'i [AcceptItem], types: &[i32], now: DateTime<Utc>) -> Self {
        let mut types = types.iter().copied();
        let items = items
            .iter()
            .map(|item| item.events.iter().zip(types.by_ref()).collect());
        Self {
            items: items.collect(),
            now,
        }
    }

    /// All events of these plans' items.
    pub(crate) fn events_of(&self, plans: &[Plan]) -> impl Iterator<Item = &'i NewEvent> {
        plans
            .iter()
            .flat_map(|plan| self.items[plan.item].iter().map(|(event, _)| *event))
    }
}

/// Writes plans in one commit.
///
/// - `atomic`: all keys of all plans must be new, or nothing is written; else each
///   plan has at most one, and those that lose it are left out.
pub(crate) async fn write(
    store: &Inner,
    batch: &Batch<'_>,
    plans: &[Plan],
    atomic: bool,
) -> Result<Vec<Fate>, StoreError> {
    let rows = Rows::of(batch, plans, atomic);
    let answer = if atomic {
        let wanted = plans.iter().map(|plan| plan.keys.len()).sum();
        let keys = bind_keys(sqlx::query(WRITE_KEYS), plans, batch.now);
        let rest = rows.bind_more(rows.bind(WRITE_ALL), batch.now);
        let rest = bind_keys(rest, &[], batch.now);
        transact_once(&store.pool, move |tx| {
            keys_then_rest(tx, keys, wanted, rest)
        })
        .await?
    } else if rows.are_plain() && plans.iter().all(|plan| plan.keys.is_empty()) {
        Some(Answer::of(
            &store.accept.fetch(rows.bind(WRITE_PLAIN)).await?,
        )?)
    } else {
        let all = rows.bind_more(rows.bind(WRITE_ALL), batch.now);
        let all = bind_keys(all, plans, batch.now);
        Some(Answer::of(&store.accept.fetch(all).await?)?)
    };
    let fate = |(number, plan): (usize, &Plan)| match &answer {
        Some(answer) => answer.fate(batch, plan, (!atomic).then(|| guard(number, plan))),
        None => Fate::Open,
    };
    Ok(plans.iter().enumerate().map(fate).collect())
}

/// The keys first, in a statement of their own: if not all were new, none is kept.
async fn keys_then_rest(
    mut tx: Tx,
    keys: Bound,
    wanted: usize,
    rest: Bound,
) -> Result<Option<Answer>, StoreError> {
    let won = keys.fetch_all(&mut *tx).await.map_err(failed)?;
    if won.len() < wanted {
        tx.rollback().await.map_err(failed)?;
        return Ok(None);
    }
    let answer = Answer::of(&rest.fetch_all(&mut *tx).await.map_err(failed)?)?;
    if answer.stale.is_empty() {
        tx.commit().await.map_err(failed)?;
    } else {
        tx.rollback().await.map_err(failed)?;
    }
    Ok(Some(answer))
}

/// A statement with its values.
type Bound = Query<'static, Postgres, PgArguments>;

/// What one statement says it did.
#[derive(Debug, Default)]
struct Answer {
    /// Applications and versions that are not, or no longer; if there are any, nothing
    /// was written.
    stale: HashSet<(i64, i64)>,
    /// Guards whose key was new.
    won: HashSet<i32>,
}

impl Answer {
    fn of(rows: &[PgRow]) -> Result<Self, StoreError> {
        let mut answer = Self::default();
        for row in rows {
            let (app, version): (Option<i64>, i64) = (
                row.try_get(0).map_err(failed)?,
                row.try_get(1).map_err(failed)?,
            );
            match app {
                Some(app) => drop(answer.stale.insert((app, version))),
                // A guard was an `int4` on its way in.
                None => drop(
                    answer
                        .won
                        .insert(i32::try_from(version).unwrap_or_default()),
                ),
            }
        }
        Ok(answer)
    }

    /// - `guard`: that of the plan, if keys were guarded; 0 if the plan has none.
    fn fate(&self, batch: &Batch<'_>, plan: &Plan, guard: Option<i32>) -> Fate {
        let is_stale =
            |event: &NewEvent| self.stale.contains(&(event.app.get(), event.app_version));
        if batch.items[plan.item]
            .iter()
            .any(|(event, _)| is_stale(event))
        {
            Fate::Stale
        } else if !self.stale.is_empty()
            || guard.is_some_and(|guard| guard != 0 && !self.won.contains(&guard))
        {
            Fate::Open
        } else {
            Fate::Written
        }
    }
}

/// What a plan's rows hang on: its place in the batch if it has a key, else 0.
fn guard(number: usize, plan: &Plan) -> i32 {
    // Batches are of hundreds.
    if plan.keys.is_empty() {
        0
    } else {
        i32::try_from(number + 1).unwrap_or(i32::MAX)
    }
}

/// The rows to be written, a column each.
#[derive(Debug, Default)]
struct Rows<'i> {
    versions: BTreeSet<(i64, i64)>,
    events: Vec<&'i NewEvent>,
    types: Vec<i32>,
    guards: Vec<i32>,
    /// Place in `events`, and the delivery.
    sent: Vec<(usize, NewDelivery)>,
    held: Vec<(usize, NewDelivery)>,
    labels: Vec<(usize, &'i str, &'i str)>,
}

impl<'i> Rows<'i> {
    fn of(batch: &Batch<'i>, plans: &[Plan], atomic: bool) -> Self {
        let mut rows = Self::default();
        for (number, plan) in plans.iter().enumerate() {
            let guard = if atomic { 0 } else { guard(number, plan) };
            for ((event, event_type), accepted) in batch.items[plan.item].iter().zip(&plan.accepted)
            {
                rows.versions.insert((event.app.get(), event.app_version));
                if !accepted.duplicate {
                    rows.push(event, *event_type, guard);
                }
            }
        }
        rows
    }

    fn push(&mut self, event: &'i NewEvent, event_type: i32, guard: i32) {
        let place = self.events.len();
        self.events.push(event);
        self.types.push(event_type);
        self.guards.push(guard);
        for delivery in &event.deliveries {
            let rows = if delivery.held {
                &mut self.held
            } else {
                &mut self.sent
            };
            rows.push((place, *delivery));
        }
        let labels = event
            .labels
            .iter()
            .map(|(name, value)| (place, &**name, &**value));
        self.labels.extend(labels);
    }

    /// Whether events and outbox are all there is to write.
    fn are_plain(&self) -> bool {
        self.held.is_empty() && self.labels.is_empty()
    }

    fn bind(&self, sql: &'static str) -> Bound {
        let (apps, versions): (Vec<i64>, Vec<i64>) = self.versions.iter().copied().unzip();
        let events = || self.events.iter();
        sqlx::query(sql)
            .bind(apps)
            .bind(versions)
            .bind(events().map(|event| event.id.get()).collect::<Vec<_>>())
            .bind(events().map(|event| event.app.get()).collect::<Vec<_>>())
            .bind(&self.types)
            .bind(
                events()
                    .map(|event| event.external.as_ref().map(|external| &*external.id))
                    .collect::<Vec<_>>(),
            )
            .bind(
                events()
                    .map(|event| event.traceparent.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(events().map(|event| labels_text(event)).collect::<Vec<_>>())
            .bind(events().map(|event| &*event.data).collect::<Vec<&[u8]>>())
            .bind(self.event_ids(&self.sent))
            .bind(subscriptions(&self.sent))
            .bind(lanes(&self.sent))
    }

    fn bind_more(&self, query: Bound, now: DateTime<Utc>) -> Bound {
        let guards = |rows: &[(usize, NewDelivery)]| -> Vec<i32> {
            rows.iter().map(|(place, _)| self.guards[*place]).collect()
        };
        let labels = || self.labels.iter();
        query
            .bind(&self.guards)
            .bind(guards(&self.sent))
            .bind(self.event_ids(&self.held))
            .bind(subscriptions(&self.held))
            .bind(lanes(&self.held))
            .bind(
                self.held
                    .iter()
                    .map(|row| self.events[row.0].app.get())
                    .collect::<Vec<_>>(),
            )
            .bind(
                self.held
                    .iter()
                    .map(|row| self.types[row.0])
                    .collect::<Vec<_>>(),
            )
            .bind(guards(&self.held))
            .bind(
                labels()
                    .map(|row| self.events[row.0].app.get())
                    .collect::<Vec<_>>(),
            )
            .bind(labels().map(|row| row.1).collect::<Vec<_>>())
            .bind(labels().map(|row| row.2).collect::<Vec<_>>())
            .bind(
                labels()
                    .map(|row| self.events[row.0].id.get())
                    .collect::<Vec<_>>(),
            )
            .bind(labels().map(|row| self.guards[row.0]).collect::<Vec<_>>())
            .bind(now)
    }

    fn event_ids(&self, rows: &[(usize, NewDelivery)]) -> Vec<i64> {
        rows.iter()
            .map(|(place, _)| self.events[*place].id.get())
            .collect()
    }
}

fn subscriptions(rows: &[(usize, NewDelivery)]) -> Vec<i64> {
    rows.iter()
        .map(|(_, delivery)| delivery.subscription.get())
        .collect()
}

fn lanes(rows: &[(usize, NewDelivery)]) -> Vec<i16> {
    rows.iter()
        .map(|(_, delivery)| i16::from(delivery.lane.get()))
        .collect()
}

fn labels_text(event: &NewEvent) -> Option<String> {
    // Texts with texts for keys are JSON in any case.
    (!event.labels.is_empty()).then(|| serde_json::to_string(&event.labels).unwrap_or_default())
}

fn bind_keys(query: Bound, plans: &[Plan], now: DateTime<Utc>) -> Bound {
    let rows = || {
        let numbered = plans.iter().enumerate();
        numbered
            .flat_map(|(number, plan)| plan.keys.iter().map(move |row| (guard(number, plan), row)))
    };
    query
        .bind(rows().map(|(_, row)| row.key.0).collect::<Vec<_>>())
        .bind(rows().map(|(_, row)| row.key.1).collect::<Vec<_>>())
        .bind(rows().map(|(_, row)| row.body_hash).collect::<Vec<_>>())
        .bind(
            rows()
                .map(|(_, row)| row.first.map(|(id, _)| id.get()))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows()
                .map(|(_, row)| row.first.map(|(_, deliveries)| deliveries.cast_signed()))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows()
                .map(|(_, row)| row.answer.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(rows().map(|(guard, _)| guard).collect::<Vec<_>>())
        .bind(now)
        .bind(now - ABANDONED)
}

/// Events without labels or keys, for subscriptions that are active: nearly all.
///
/// Answers which applications are no longer as they were when their events were
/// matched; if any is, it writes nothing, and takes no time to find that out per row.
const WRITE_PLAIN: &str = r#"
    with stale as (
        select p.app_id, p.version from unnest($1::int8[], $2::int8[]) as p (app_id, version)
        where p.version is distinct from (
            select a.version from ringback.apps a where a.id = p.app_id and a.deleted_at is null
        )
    ), written as (
        insert into ringback.events
            (id, app_id, type_id, external_id, traceparent, labels, data)
        select * from unnest(
            $3::int8[], $4::int8[], $5::int4[], $6::text[], $7::text[], $8::text[], $9::bytea[]
        )
        where not exists (select from stale)
    ), sent as (
        insert into ringback.outbox (event_id, subscription_id, lane)
        select * from unnest($10::int8[], $11::int8[], $12::int2[])
        where not exists (select from stale)
    )
    select app_id, version from stale
"#;

/// The same with everything that events can have. Rows hang on a guard: 0, or one
/// whose key was new. Answers stale applications as above, and the guards that were
/// won, without an application.
const WRITE_ALL: &str = r#"
    with stale as (
        select p.app_id, p.version from unnest($1::int8[], $2::int8[]) as p (app_id, version)
        where p.version is distinct from (
            select a.version from ringback.apps a where a.id = p.app_id and a.deleted_at is null
        )
    ), key as materialized (
        select * from unnest(
            $27::int8[], $28::bytea[], $29::bytea[], $30::int8[], $31::int4[], $32::bytea[],
            $33::int4[]
        ) as k (owner_id, key_hash, body_hash, event_id, deliveries, answer, guard)
        where not exists (select from stale)
    ), new as (
        insert into ringback.idempotency as known
            (owner_id, key_hash, body_hash, created_at, event_id, deliveries, answer)
        select owner_id, key_hash, body_hash, $34, event_id, deliveries, answer
        from key
        -- So that two batches with the same keys wait in one direction.
        order by owner_id, key_hash
        on conflict (owner_id, key_hash) do update
        set body_hash = excluded.body_hash, created_at = excluded.created_at,
            event_id = excluded.event_id, deliveries = excluded.deliveries,
            answer = excluded.answer
        where known.answer is null and known.event_id is null and known.created_at < $35
        returning owner_id, key_hash
    ), won as materialized (
        select key.guard from key join new using (owner_id, key_hash)
        union all select 0 where not exists (select from stale)
    ), written as (
        insert into ringback.events
            (id, app_id, type_id, external_id, traceparent, labels, data)
        select id, app_id, type_id, external_id, traceparent, labels, data
        from unnest(
            $3::int8[], $4::int8[], $5::int4[], $6::text[], $7::text[], $8::text[], $9::bytea[],
            $13::int4[]
        ) as e (id, app_id, type_id, external_id, traceparent, labels, data, guard)
        where guard in (select guard from won)
    ), sent as (
        insert into ringback.outbox (event_id, subscription_id, lane)
        select event_id, subscription_id, lane
        from unnest($10::int8[], $11::int8[], $12::int2[], $14::int4[])
            as s (event_id, subscription_id, lane, guard)
        where guard in (select guard from won)
    ), held as (
        insert into ringback.retries
            (event_id, subscription_id, lane, app_id, type_id, attempts_made, due_at)
        select event_id, subscription_id, lane, app_id, type_id, 0, $26
        from unnest($15::int8[], $16::int8[], $17::int2[], $18::int8[], $19::int4[], $20::int4[])
            as h (event_id, subscription_id, lane, app_id, type_id, guard)
        where guard in (select guard from won)
    ), labelled as (
        insert into ringback.event_labels (app_id, name, value, event_id)
        select app_id, name, value, event_id
        from unnest($21::int8[], $22::text[], $23::text[], $24::int8[], $25::int4[])
            as l (app_id, name, value, event_id, guard)
        where guard in (select guard from won)
    )
    select app_id, version from stale
    union all select null, guard from won where guard <> 0
"#;

/// Keys alone; answers a row for each that was new.
const WRITE_KEYS: &str = r#"
    insert into ringback.idempotency as known
        (owner_id, key_hash, body_hash, created_at, event_id, deliveries, answer)
    select owner_id, key_hash, body_hash, $8, event_id, deliveries, answer
    from unnest(
        $1::int8[], $2::bytea[], $3::bytea[], $4::int8[], $5::int4[], $6::bytea[], $7::int4[]
    ) as k (owner_id, key_hash, body_hash, event_id, deliveries, answer, guard)
    order by owner_id, key_hash
    on conflict (owner_id, key_hash) do update
    set body_hash = excluded.body_hash, created_at = excluded.created_at,
        event_id = excluded.event_id, deliveries = excluded.deliveries,
        answer = excluded.answer
    where known.answer is null and known.event_id is null and known.created_at < $9
    returning 1
"#;
