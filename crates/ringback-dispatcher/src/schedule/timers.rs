//! When to think of a line again: one time each.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use ringback_model::SubscriptionId;

/// Times, first come first.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(DateTime<Utc>, SubscriptionId)>);

impl Timers {
    /// Sets the timer of a line.
    ///
    /// - `timer`: what it is set to, as the line remembers it.
    pub(super) fn set(
        &mut self,
        subscription: SubscriptionId,
        timer: &mut Option<DateTime<Utc>>,
        at: DateTime<Utc>,
    ) {
        if *timer != Some(at) {
            self.clear(subscription, timer);
            *timer = Some(at);
            self.0.insert((at, subscription));
        }
    }

    /// Clears the timer of a line.
    pub(super) fn clear(
        &mut self,
        subscription: SubscriptionId,
        timer: &mut Option<DateTime<Utc>>,
    ) {
        if let Some(at) = timer.take() {
            self.0.remove(&(at, subscription));
        }
    }

    /// Whose time has come; its timer is to be forgotten.
    pub(super) fn pop(&mut self, now: DateTime<Utc>) -> Option<SubscriptionId> {
        let (at, subscription) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(subscription)
    }

    /// When the first time comes.
    pub(super) fn next_at(&self) -> Option<DateTime<Utc>> {
        self.0.first().map(|(at, _)| *at)
    }

    /// How many are set.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
