//! Writes accepted events, their deliveries and their keys.

mod rows;
mod statements;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use ringback_store::{AcceptItem, NewEvent, StoreError};
use sqlx::{Row, postgres::PgRow};

use self::{
    rows::{Bound, Rows, bind_emitted, bind_keys, guard, is_guarded},
    statements::{WRITE_ALL, WRITE_KEYS, WRITE_PLAIN},
};
use super::judge::Plan;
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
    /// The row it was emitted in is gone, or in another's hands.
    Taken,
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
        let rest = rows.bind_more(rows.bind(WRITE_ALL));
        let rest = rows.bind_order(bind_keys(rest, &[], batch.now));
        let rest = bind_emitted(rest, &[]);
        transact_once(&store.pool, move |tx| {
            keys_then_rest(tx, keys, wanted, rest)
        })
        .await?
    } else if rows.are_plain() && plans.iter().all(|plan| !is_guarded(plan)) {
        Some(Answer::of(
            &store.accept.fetch(rows.bind(WRITE_PLAIN)).await?,
        )?)
    } else {
        let all = rows.bind_more(rows.bind(WRITE_ALL));
        let all = rows.bind_order(bind_keys(all, plans, batch.now));
        let all = bind_emitted(all, plans);
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

/// What one statement says it did.
#[derive(Debug, Default)]
struct Answer {
    /// Applications and versions that are not, or no longer; if there are any, nothing
    /// was written.
    stale: HashSet<(i64, i64)>,
    /// Guards whose key was new, and whose emitted row was there.
    won: HashSet<i32>,
    /// Guards whose emitted row was not there.
    taken: HashSet<i32>,
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
                None => {
                    let guard = i32::try_from(version).unwrap_or_default();
                    if guard < 0 {
                        answer.taken.insert(-guard);
                    } else {
                        answer.won.insert(guard);
                    }
                }
            }
        }
        Ok(answer)
    }

    /// - `guard`: that of the plan, if guards were asked; 0 if the plan has none.
    fn fate(&self, batch: &Batch<'_>, plan: &Plan, guard: Option<i32>) -> Fate {
        let is_stale =
            |event: &NewEvent| self.stale.contains(&(event.app.get(), event.app_version));
        if batch.items[plan.item]
            .iter()
            .any(|(event, _)| is_stale(event))
        {
            Fate::Stale
        } else if !self.stale.is_empty() {
            Fate::Open
        } else if guard.is_some_and(|guard| self.taken.contains(&guard)) {
            Fate::Taken
        } else if guard.is_some_and(|guard| guard != 0 && !self.won.contains(&guard)) {
            Fate::Open
        } else {
            Fate::Written
        }
    }
}
