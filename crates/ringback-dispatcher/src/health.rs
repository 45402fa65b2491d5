//! Which receivers fail, since when, and what is still to be written about it.
//!
//! Kept for subscriptions that fail alone. The store is told of one that has failed for
//! a minute, when its owner is warned, and when it works again; so one that works never
//! writes. Pure: no I/O, no clock.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{Failing, HealthStep, Lane, SubscriptionId};
use ringback_store::HealthChange;

/// What passes within this is not written.
const BLIP: TimeDelta = TimeDelta::seconds(60);
/// The most changes in one statement.
const BATCH: usize = 500;

/// What is known of receivers that fail.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failing: HashMap<SubscriptionId, Trouble>,
    /// When to write of those that are not written yet.
    to_write: BTreeSet<(DateTime<Utc>, SubscriptionId)>,
    /// What another node wrote of them is not loaded yet.
    unknown: HashSet<SubscriptionId>,
    changes: HashMap<SubscriptionId, HealthChange>,
    /// What keeps its lane from being given back since [`Self::take_work`].
    work: Vec<Lane>,
    writing: bool,
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    failing: Failing,
    lane: Lane,
    /// There is a row of it, or soon will be.
    written: bool,
}

impl Health {
    /// An attempt has failed; says what follows.
    pub(crate) fn failed(
        &mut self,
        subscription: SubscriptionId,
        lane: Lane,
        at: DateTime<Utc>,
    ) -> HealthStep {
        let trouble = match self.failing.entry(subscription) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                self.to_write.insert((at + BLIP, subscription));
                place.insert(Trouble {
                    failing: Failing {
                        since: at,
                        warned: 0,
                    },
                    lane,
                    written: false,
                })
            }
        };
        let step = trouble.failing.failed(at);
        if let HealthStep::Warn(percent) = step {
            (trouble.failing.warned, trouble.written) = (percent, true);
            let failing = Some(trouble.failing);
            self.change(subscription, lane, failing);
        }
        step
    }

    /// An attempt has succeeded.
    pub(crate) fn succeeded(&mut self, subscription: SubscriptionId, lane: Lane) {
        let was_unknown = !self.unknown.is_empty() && self.unknown.remove(&subscription);
        let trouble = self.failing.remove(&subscription);
        if was_unknown || trouble.is_some_and(|trouble| trouble.written) {
            self.change(subscription, lane, None);
        }
    }

    /// Takes over what the store has of a subscription, if nothing later is known here.
    ///
    /// - `anew`: it was not loaded before.
    pub(crate) fn loaded(
        &mut self,
        subscription: SubscriptionId,
        lane: Lane,
        failing: Option<Failing>,
        anew: bool,
    ) {
        if !self.unknown.remove(&subscription) && !anew {
            return;
        }
        let Some(stored) = failing.filter(|_| !self.changes.contains_key(&subscription)) else {
            return;
        };
        let trouble = self.failing.entry(subscription).or_insert(Trouble {
            failing: stored,
            lane,
            written: true,
        });
        // It may have failed again before this came.
        trouble.failing.since = trouble.failing.since.min(stored.since);
        trouble.failing.warned = trouble.failing.warned.max(stored.warned);
        trouble.written = true;
    }

    /// Whether it is known to fail.
    pub(crate) fn is_failing(&self, subscription: SubscriptionId) -> bool {
        self.failing.contains_key(&subscription)
    }

    /// What other nodes wrote of these subscriptions is to be loaded.
    pub(crate) fn unknown(&mut self, subscriptions: impl IntoIterator<Item = SubscriptionId>) {
        self.unknown.extend(subscriptions);
    }

    /// Forgets a subscription that is disabled or deleted.
    pub(crate) fn forget(&mut self, subscription: SubscriptionId) {
        self.failing.remove(&subscription);
        self.unknown.remove(&subscription);
    }

    /// Forgets lanes; what was to be written still is.
    pub(crate) fn drop_lanes(&mut self, of: impl Fn(Lane) -> bool) {
        self.failing.retain(|_, trouble| !of(trouble.lane));
    }

    /// Gives memory back: what is written, and not needed, is loaded again.
    pub(crate) fn drop_written(&mut self, is_needed: impl Fn(SubscriptionId) -> bool) {
        let changes = &self.changes;
        self.failing
            .retain(|id, trouble| !trouble.written || changes.contains_key(id) || is_needed(*id));
        self.unknown.retain(|id| is_needed(*id));
    }

    /// What to write now, if anything; one statement at a time.
    pub(crate) fn next(&mut self, now: DateTime<Utc>) -> Option<Vec<HealthChange>> {
        while let Some((at, subscription)) = self.to_write.first().copied() {
            if at > now {
                break;
            }
            self.to_write.pop_first();
            // It may work again, or have failed anew: then there is a later time.
            if let Some(trouble) = self.failing.get_mut(&subscription)
                && !trouble.written
                && trouble.failing.since + BLIP <= now
            {
                trouble.written = true;
                let (lane, failing) = (trouble.lane, Some(trouble.failing));
                self.change(subscription, lane, failing);
            }
        }
        if self.writing || self.changes.is_empty() {
            return None;
        }
        self.writing = true;
        let ids: Vec<_> = self.changes.keys().take(BATCH).copied().collect();
        Some(
            ids.iter()
                .filter_map(|id| self.changes.remove(id))
                .collect(),
        )
    }

    /// When to call [`Self::next`] again.
    pub(crate) fn next_at(&self) -> Option<DateTime<Utc>> {
        if self.writing {
            return None;
        }
        if !self.changes.is_empty() {
            return Some(DateTime::<Utc>::MIN_UTC);
        }
        self.to_write.first().map(|(at, _)| *at)
    }

    /// Lanes that have something more to be written, one for each.
    pub(crate) fn take_work(&mut self) -> Vec<Lane> {
        std::mem::take(&mut self.work)
    }

    /// A batch is written.
    pub(crate) fn written(&mut self) {
        self.writing = false;
    }

    /// A batch could not be written. Answers what need not be any more, since something
    /// later is to be.
    pub(crate) fn not_written(&mut self, batch: Vec<HealthChange>) -> Vec<HealthChange> {
        self.writing = false;
        let mut outdated = Vec::new();
        for change in batch {
            match self.changes.entry(change.subscription) {
                Entry::Occupied(_) => outdated.push(change),
                Entry::Vacant(place) => drop(place.insert(change)),
            }
        }
        outdated
    }

    fn change(&mut self, subscription: SubscriptionId, lane: Lane, failing: Option<Failing>) {
        let change = HealthChange {
            lane,
            subscription,
            failing,
        };
        if self.changes.insert(subscription, change).is_none() {
            self.work.push(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: Lane = Lane::new(0);

    fn at(s: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(s)
    }

    fn sub() -> SubscriptionId {
        SubscriptionId::new(1)
    }

    fn failing(since_s: i64, warned: u8) -> Failing {
        let since = at(since_s);
        Failing { since, warned }
    }

    /// What is written by then.
    fn written(health: &mut Health, s: i64) -> Vec<Option<Failing>> {
        let batch = health.next(at(s)).unwrap_or_default();
        health.written();
        batch.iter().map(|change| change.failing).collect()
    }

    #[test]
    fn who_fails_for_a_minute_is_written_once_and_once_that_it_works() {
        let mut health = Health::default();
        health.failed(sub(), LANE, at(0));
        health.failed(sub(), LANE, at(5));
        assert_eq!(health.next_at(), Some(at(60)));
        assert!(written(&mut health, 59).is_empty());
        assert_eq!(written(&mut health, 60), [Some(failing(0, 0))]);
        health.failed(sub(), LANE, at(300));
        assert!(written(&mut health, 1000).is_empty());
        health.succeeded(sub(), LANE);
        assert_eq!(written(&mut health, 1001), [None]);
        health.succeeded(sub(), LANE);
        assert!(written(&mut health, 1002).is_empty());
        assert_eq!(health.take_work(), [LANE, LANE]);
    }

    #[test]
    fn a_blip_is_not_written() {
        let mut health = Health::default();
        health.failed(sub(), LANE, at(0));
        health.succeeded(sub(), LANE);
        health.failed(sub(), LANE, at(50));
        assert!(written(&mut health, 60).is_empty());
        assert_eq!(written(&mut health, 110), [Some(failing(50, 0))]);
    }

    #[test]
    fn warnings_are_written_and_the_end_is_said() {
        let mut health = Health::default();
        health.failed(sub(), LANE, at(0));
        written(&mut health, 60);
        let days = |days: f64| at((days * 86_400.0) as i64);
        assert_eq!(health.failed(sub(), LANE, days(2.5)), HealthStep::Warn(50));
        assert_eq!(written(&mut health, 61), [Some(failing(0, 50))]);
        assert_eq!(health.failed(sub(), LANE, days(3.0)), HealthStep::None);
        assert_eq!(health.failed(sub(), LANE, days(4.6)), HealthStep::Warn(90));
        assert_eq!(health.failed(sub(), LANE, days(5.0)), HealthStep::Disable);
    }

    #[test]
    fn what_another_node_wrote_goes_on() {
        let mut health = Health::default();
        health.loaded(sub(), LANE, Some(failing(0, 50)), true);
        assert_eq!(health.failed(sub(), LANE, at(432_000)), HealthStep::Disable);
        health.succeeded(sub(), LANE);
        assert_eq!(written(&mut health, 0), [None]);
    }

    #[test]
    fn what_was_loaded_before_a_success_does_not_bring_the_failures_back() {
        let mut health = Health::default();
        health.loaded(sub(), LANE, Some(failing(0, 0)), true);
        health.succeeded(sub(), LANE);
        health.loaded(sub(), LANE, Some(failing(0, 0)), false);
        assert!(!health.is_failing(sub()));
    }

    /// A lane that went to another node and came back.
    #[test]
    fn a_success_before_it_is_known_how_it_was_elsewhere_counts() {
        let mut health = Health::default();
        health.drop_lanes(|_| true);
        health.unknown([sub()]);
        health.succeeded(sub(), LANE);
        health.loaded(sub(), LANE, Some(failing(0, 0)), false);
        assert!(!health.is_failing(sub()));
        assert_eq!(written(&mut health, 0), [None]);

        health.unknown([sub()]);
        health.failed(sub(), LANE, at(500));
        health.loaded(sub(), LANE, Some(failing(0, 50)), false);
        assert_eq!(health.failed(sub(), LANE, at(432_000)), HealthStep::Disable);
    }

    #[test]
    fn what_could_not_be_written_is_written_again_unless_it_is_outdated() {
        let mut health = Health::default();
        health.failed(sub(), LANE, at(0));
        let batch = health.next(at(60)).unwrap();
        assert_eq!(health.next(at(61)), None);
        assert!(health.not_written(batch.clone()).is_empty());
        assert_eq!(health.next(at(62)), Some(batch.clone()));
        health.succeeded(sub(), LANE);
        assert_eq!(health.not_written(batch.clone()), batch);
        assert_eq!(written(&mut health, 63), [None]);
    }
}
