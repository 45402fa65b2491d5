//! The subscriptions that are being served, as last loaded.
//!
//! Loaded on first need, many at once, and anew when something changed. Pure: says
//! what to load, and hears what came.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{Lane, SubscriptionId};

use crate::sending::{Sending, Service};

/// The most to load in one statement.
const BATCH: usize = 500;
/// What nobody needed for so long is dropped.
const IDLE: TimeDelta = TimeDelta::minutes(5);
/// Above this many, what is not needed right now is dropped.
const MANY: usize = 20_000;

/// What is cached.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    entries: HashMap<SubscriptionId, Entry>,
    to_load: HashSet<SubscriptionId>,
    loading: bool,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Its receiver wants no more: until that has committed, whatever the store says
    /// is out of date.
    disabling: bool,
    /// A row came in after the last load began: it may have been made after a change
    /// that is not known here yet.
    outdated: bool,
    used_at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
enum State {
    Unknown,
    /// There is no such subscription.
    Missing,
    Loaded(Arc<Sending>),
}

/// What can be done for a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is being loaded.
    Unknown,
    /// There is no such subscription.
    Missing,
    /// It is known.
    Known(Service),
}

impl Subscriptions {
    /// How a subscription stands; asks for it if it is not known.
    pub(crate) fn standing(&mut self, id: SubscriptionId, now: DateTime<Utc>) -> Standing {
        let entry = self.entries.entry(id).or_insert_with(|| {
            self.to_load.insert(id);
            Entry {
                state: State::Unknown,
                disabling: false,
                outdated: false,
                used_at: now,
            }
        });
        entry.used_at = now;
        match &entry.state {
            State::Unknown => Standing::Unknown,
            State::Missing => Standing::Missing,
            State::Loaded(_) if entry.disabling => Standing::Known(Service::Disabled),
            State::Loaded(sending) => Standing::Known(sending.service),
        }
    }

    /// What is needed to send, and whether to; `None` if it is not loaded.
    pub(crate) fn sending(&self, id: SubscriptionId) -> Option<(Arc<Sending>, Service)> {
        let entry = self.entries.get(&id)?;
        let State::Loaded(sending) = &entry.state else {
            return None;
        };
        let service = if entry.disabling {
            Service::Disabled
        } else {
            sending.service
        };
        Some((Arc::clone(sending), service))
    }

    /// Something of this subscription changed: loads it anew, if it is cached.
    pub(crate) fn changed(&mut self, id: SubscriptionId) {
        if self.entries.contains_key(&id) {
            self.to_load.insert(id);
        }
    }

    /// Anything may have changed.
    pub(crate) fn all_changed(&mut self) {
        self.to_load.extend(self.entries.keys());
    }

    /// Loads anew what is cached of lanes; answers which those are.
    pub(crate) fn reload_lanes(&mut self, of: impl Fn(Lane) -> bool) -> Vec<SubscriptionId> {
        let in_lanes = |(_, entry): &(&SubscriptionId, &Entry)| match &entry.state {
            State::Loaded(sending) => of(sending.lane),
            State::Unknown | State::Missing => false,
        };
        let ids: Vec<_> = self
            .entries
            .iter()
            .filter(in_lanes)
            .map(|(id, _)| *id)
            .collect();
        self.to_load.extend(&ids);
        ids
    }

    /// Whether it is cached.
    pub(crate) fn contains(&self, id: SubscriptionId) -> bool {
        self.entries.contains_key(&id)
    }

    /// What to load now, if anything; one load at a time.
    pub(crate) fn next_load(&mut self) -> Option<Vec<SubscriptionId>> {
        if self.loading || self.to_load.is_empty() {
            return None;
        }
        let batch: Vec<_> = self.to_load.iter().copied().take(BATCH).collect();
        for id in &batch {
            self.to_load.remove(id);
            if let Some(entry) = self.entries.get_mut(id) {
                entry.outdated = false;
            }
        }
        self.loading = true;
        Some(batch)
    }

    /// A row came in of a subscription that is not known to be served: whatever loads
    /// began before say nothing about it.
    pub(crate) fn row_came(&mut self, id: SubscriptionId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.outdated = true;
        }
    }

    /// Whether what is known is younger than every row that came in.
    pub(crate) fn is_up_to_date(&self, id: SubscriptionId) -> bool {
        let up_to_date = |entry: &Entry| !entry.outdated && !entry.disabling;
        self.entries.get(&id).is_some_and(up_to_date)
    }

    /// Whether [`Self::next_load`] has something to say.
    pub(crate) fn has_load(&self) -> bool {
        !self.loading && !self.to_load.is_empty()
    }

    /// A load failed: it is repeated.
    pub(crate) fn load_failed(&mut self, batch: Vec<SubscriptionId>) {
        self.loading = false;
        self.to_load.extend(batch);
    }

    /// A load is done; [`Self::loaded`] and [`Self::missing`] say what it brought.
    pub(crate) fn load_done(&mut self) {
        self.loading = false;
    }

    /// Takes over what was loaded. Answers with what it was before, unless it is to be
    /// ignored.
    pub(crate) fn loaded(
        &mut self,
        sending: Sending,
    ) -> Option<(Arc<Sending>, Option<Arc<Sending>>)> {
        let entry = self
            .entries
            .get_mut(&sending.id)
            .filter(|entry| !entry.disabling)?;
        let sending = Arc::new(sending);
        let before = std::mem::replace(&mut entry.state, State::Loaded(Arc::clone(&sending)));
        let before = if let State::Loaded(before) = before {
            Some(before)
        } else {
            None
        };
        Some((sending, before))
    }

    /// There is no such subscription.
    pub(crate) fn missing(&mut self, id: SubscriptionId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state = State::Missing;
        }
    }

    /// Treats a subscription as disabled from now on. `false` if it was already.
    pub(crate) fn disable(&mut self, id: SubscriptionId) -> bool {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.disabling) else {
            return false;
        };
        entry.disabling = true;
        true
    }

    /// The store has it disabled: what it says counts again.
    pub(crate) fn disabled(&mut self, id: SubscriptionId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.disabling = false;
            self.to_load.insert(id);
        }
    }

    /// Whether anything is cached that may change.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops what is not needed; `is_idle` says what could be. Answers which.
    pub(crate) fn drop_idle(
        &mut self,
        now: DateTime<Utc>,
        is_idle: impl Fn(SubscriptionId) -> bool,
    ) -> Vec<SubscriptionId> {
        let many = self.entries.len() > MANY;
        let dropped: Vec<_> = self
            .entries
            .iter()
            .filter(|(id, entry)| {
                (many || entry.used_at + IDLE <= now) && !entry.disabling && is_idle(**id)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &dropped {
            self.entries.remove(id);
            self.to_load.remove(id);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use ringback_model::{SubscriptionStatus, TargetPolicy};

    use super::*;
    use crate::sending::tests::{state, vault};

    fn now() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    fn sending(status: SubscriptionStatus) -> Sending {
        let vault = vault();
        let state = ringback_store::SendingState {
            status,
            ..state(&vault)
        };
        Sending::open(state, &vault, &TargetPolicy::default())
    }

    fn id() -> SubscriptionId {
        SubscriptionId::new(7)
    }

    #[test]
    fn a_subscription_is_loaded_once_on_first_need_and_again_after_a_change() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.changed(id()); // nobody needs it
        assert_eq!(subscriptions.next_load(), None);
        assert_eq!(subscriptions.standing(id(), now()), Standing::Unknown);
        assert_eq!(subscriptions.standing(id(), now()), Standing::Unknown);
        assert_eq!(subscriptions.next_load(), Some(vec![id()]));
        subscriptions.changed(id()); // while it is being loaded
        assert_eq!(subscriptions.next_load(), None);
        subscriptions.load_done();
        assert!(
            subscriptions
                .loaded(sending(SubscriptionStatus::Active))
                .is_some()
        );
        assert_eq!(
            subscriptions.standing(id(), now()),
            Standing::Known(Service::Send)
        );
        assert_eq!(subscriptions.next_load(), Some(vec![id()]));
    }

    #[test]
    fn while_it_is_being_disabled_what_the_store_says_is_ignored() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.standing(id(), now());
        subscriptions.loaded(sending(SubscriptionStatus::Active));
        assert!(subscriptions.disable(id()) && !subscriptions.disable(id()));
        assert!(
            subscriptions
                .loaded(sending(SubscriptionStatus::Active))
                .is_none()
        );
        assert_eq!(
            subscriptions.standing(id(), now()),
            Standing::Known(Service::Disabled)
        );
        subscriptions.disabled(id());
        assert!(
            subscriptions
                .loaded(sending(SubscriptionStatus::Active))
                .is_some()
        );
        assert_eq!(
            subscriptions.standing(id(), now()),
            Standing::Known(Service::Send)
        );
    }

    #[test]
    fn what_is_known_is_outdated_by_a_row_that_came_in_after_its_load_began() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.standing(id(), now());
        subscriptions.next_load();
        subscriptions.row_came(id());
        subscriptions.load_done();
        subscriptions.loaded(sending(SubscriptionStatus::Disabled));
        assert!(!subscriptions.is_up_to_date(id()));
        subscriptions.changed(id());
        assert_eq!(subscriptions.next_load(), Some(vec![id()]));
        subscriptions.load_done();
        subscriptions.loaded(sending(SubscriptionStatus::Disabled));
        assert!(subscriptions.is_up_to_date(id()));
    }

    #[test]
    fn what_nobody_needed_for_long_is_dropped() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.standing(id(), now());
        let later = now() + IDLE;
        assert_eq!(subscriptions.drop_idle(now(), |_| true), []);
        assert_eq!(subscriptions.drop_idle(later, |_| false), []);
        assert_eq!(subscriptions.drop_idle(later, |_| true), [id()]);
        assert!(subscriptions.is_empty() && subscriptions.next_load().is_none());
    }
}
