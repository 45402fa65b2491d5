//! Accepts events: whatever callers brought in, in as few commits as can be.
//!
//! Without keys, a batch is one statement. With keys, losing a race for one shows in
//! the answer of that statement; only the losers are looked up then, and judged by
//! what was there first. An item with several keys must win all or none, so those
//! share a transaction, which is rolled back when one is lost.

mod judge;
mod write;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use ringback_store::{AcceptItem, AcceptOutcome, StoreError};
use sqlx::PgPool;

pub(crate) use self::judge::ABANDONED;
use self::{
    judge::{Key, Known, Plan, Verdict, judge, keys_of, look_up},
    write::Fate,
};
use crate::{
    Inner,
    failure::{is_missing_partition, is_unavailable_store},
    partitions,
    transaction::retry_collisions,
};

/// How often the holders of the same keys may fail while others wait for them.
const ROUNDS: usize = 20;

type Outcomes = Vec<Option<Result<AcceptOutcome, StoreError>>>;

/// Every round of a batch lost its keys to others, and those failed.
#[derive(Debug, thiserror::Error)]
#[error("the same keys were fought over too long")]
struct Contended;

/// See [`ringback_store::Accept::accept`].
pub(crate) async fn accept(
    store: &Inner,
    items: &[AcceptItem],
    now: DateTime<Utc>,
) -> Result<Vec<Result<AcceptOutcome, StoreError>>, StoreError> {
    let types = items
        .iter()
        .flat_map(|item| &item.events)
        .map(|event| &event.event_type);
    let types = store.event_types.numbers(&store.pool, types).await?;
    let batch = write::Batch::new(items, &types, now);

    let mut outcomes: Outcomes = items.iter().map(|_| None).collect();
    let mut open: Vec<usize> = (0..items.len()).collect();
    let mut known = Known::default();
    for _ in 0..ROUNDS {
        let (round, later) = disjoint(items, &open);
        let (single, several) = plan(items, &round, &known, now, &mut outcomes);
        open = later;
        for (plans, atomic) in [(single, false), (several, true)] {
            let fates = write_all(store, &batch, &plans, atomic).await?;
            open.extend(note(plans, fates, &mut outcomes));
        }
        if open.is_empty() {
            return Ok(outcomes.into_iter().flatten().collect());
        }
        open.sort_unstable();
        look_up(&store.pool, items, &open, &mut known).await?;
    }
    Err(StoreError::unavailable(Contended))
}

/// Takes items that share no key and no emitted row; whoever shares one with an earlier
/// item waits.
fn disjoint(items: &[AcceptItem], open: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut seen: HashSet<Key> = HashSet::new();
    let mut emitted = HashSet::new();
    open.iter().partition(|&&index| {
        let keys: HashSet<Key> = keys_of(&items[index]).collect();
        // All of them, also when one was seen: a third item may share another.
        let fresh = keys.is_disjoint(&seen);
        seen.extend(keys);
        fresh & items[index].emitted.is_none_or(|row| emitted.insert(row))
    })
}

/// Decides what can be decided; the rest is to be written, apart by whether it has
/// more than one key.
fn plan(
    items: &[AcceptItem],
    round: &[usize],
    known: &Known,
    now: DateTime<Utc>,
    outcomes: &mut Outcomes,
) -> (Vec<Plan>, Vec<Plan>) {
    let mut plans = Vec::with_capacity(round.len());
    for &index in round {
        match judge(index, &items[index], known, now) {
            Verdict::Write(plan) => plans.push(plan),
            Verdict::Decided(outcome) => outcomes[index] = Some(outcome),
        }
    }
    plans.into_iter().partition(|plan| plan.keys.len() <= 1)
}

/// Writes plans. What the data of one brings about befalls that one alone: a batch
/// that is refused is split until the guilty is found.
async fn write_all(
    store: &Inner,
    batch: &write::Batch<'_>,
    plans: &[Plan],
    atomic: bool,
) -> Result<Vec<Fate>, StoreError> {
    if plans.is_empty() {
        return Ok(Vec::new());
    }
    match write_days(store, batch, plans, atomic).await {
        Err(error) if is_unavailable_store(&error) => Err(error),
        Err(error) if plans.len() == 1 => Ok(vec![Fate::Failed(error)]),
        Err(_) => {
            let (left, right) = plans.split_at(plans.len() / 2);
            let mut fates = Box::pin(write_all(store, batch, left, atomic)).await?;
            fates.extend(Box::pin(write_all(store, batch, right, atomic)).await?);
            Ok(fates)
        }
        done => done,
    }
}

/// Writes plans, and makes the days they need if those were not made ahead.
async fn write_days(
    store: &Inner,
    batch: &write::Batch<'_>,
    plans: &[Plan],
    atomic: bool,
) -> Result<Vec<Fate>, StoreError> {
    let write = || retry_collisions(|| write::write(store, batch, plans, atomic));
    match write().await {
        Err(error) if is_missing_partition(&error) => {
            let times = batch.events_of(plans).map(|event| event.id.time());
            partitions::make_days_of(&store.pool, times).await?;
            write().await
        }
        done => done,
    }
}

/// Notes what became of plans; answers the items that have to be tried again.
fn note(plans: Vec<Plan>, fates: Vec<Fate>, outcomes: &mut Outcomes) -> Vec<usize> {
    let mut open = Vec::new();
    for (plan, fate) in plans.into_iter().zip(fates) {
        outcomes[plan.item] = match fate {
            Fate::Written => Some(Ok(AcceptOutcome::Accepted(plan.accepted))),
            Fate::Stale => Some(Ok(AcceptOutcome::Stale)),
            Fate::Taken => Some(Ok(AcceptOutcome::Taken)),
            Fate::Failed(error) => Some(Err(error)),
            Fate::Open => {
                open.push(plan.item);
                None
            }
        };
    }
    open
}

/// See [`ringback_store::Usage::came_before`].
pub(crate) async fn came_before(
    pool: &PgPool,
    item: &AcceptItem,
    now: DateTime<Utc>,
) -> Result<Option<AcceptOutcome>, StoreError> {
    if keys_of(item).next().is_none() {
        return Ok(None);
    }
    let mut known = Known::default();
    look_up(pool, std::slice::from_ref(item), &[0], &mut known).await?;
    match judge(0, item, &known, now) {
        Verdict::Decided(outcome) => outcome.map(Some),
        Verdict::Write(plan) if plan.accepted.iter().all(|one| one.duplicate) => {
            Ok(Some(AcceptOutcome::Accepted(plan.accepted)))
        }
        Verdict::Write(_) => Ok(None),
    }
}
