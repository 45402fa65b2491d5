//! Follows what changes of subscriptions: loads them, pauses, resumes, drops.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::SubscriptionId;
use ringback_store::{SendingState, StoreError};

use crate::{
    Dispatcher,
    send::Transport,
    sending::{Sending, Service},
};

/// How far windows of changes overlap: a change is dated before it commits.
const OVERLAP: TimeDelta = TimeDelta::seconds(5);
/// Deliveries of a disabled or deleted subscription that are settled at once.
const UNSENT_AT_ONCE: usize = 64;

impl<T: Transport> Dispatcher<T> {
    /// Loads subscriptions that are needed or changed.
    pub(crate) fn load(&mut self, now: DateTime<Utc>) {
        if self.pace.load.is_over(now)
            && let Some(ids) = self.subscriptions.next_load()
        {
            self.calls.states(ids, now);
        }
        if !self.pace.take_changes(now) {
            return;
        }
        if self.subscriptions.is_empty() {
            self.pace.changes_since = now;
        } else {
            self.calls.changed(self.pace.changes_since - OVERLAP, now);
        }
    }

    /// - `at`: when these changes were asked for.
    pub(crate) fn take_changed(
        &mut self,
        at: DateTime<Utc>,
        found: Result<Vec<SubscriptionId>, StoreError>,
    ) {
        match found {
            Ok(changed) => {
                self.pace.changes_since = at;
                changed
                    .into_iter()
                    .for_each(|id| self.subscriptions.changed(id));
            }
            Err(error) => {
                let now = self.clock.now();
                self.pace
                    .load
                    .failed("look for changed subscriptions", &error, now);
            }
        }
    }

    pub(crate) fn take_states(
        &mut self,
        ids: Vec<SubscriptionId>,
        found: Result<Vec<SendingState>, StoreError>,
    ) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.subscriptions.load_failed(ids);
                return self
                    .pace
                    .load
                    .failed("load subscriptions", &error, self.clock.now());
            }
        };
        self.pace.load.worked();
        self.subscriptions.load_done();
        for id in ids {
            if !found.iter().any(|state| state.id == id) {
                self.take_missing(id);
            }
        }
        found.into_iter().for_each(|state| self.take_state(state));
    }

    fn take_missing(&mut self, id: SubscriptionId) {
        tracing::warn!(subscription.id = %id, "there are rows of a subscription that never was");
        self.subscriptions.missing(id);
        self.schedule
            .close(id)
            .into_iter()
            .for_each(|row| self.unqueue(row));
    }

    fn take_state(&mut self, state: SendingState) {
        let sending = Sending::open(state, &self.vault, self.transport.policy());
        let Some((sending, before)) = self.subscriptions.loaded(sending) else {
            return;
        };
        report_fault(&sending, before.as_deref());
        match sending.service {
            Service::Send => self.open(&sending, sending.max_in_flight),
            Service::Hold => self.hold_all(sending.id),
            Service::Disabled | Service::Deleted => {
                // Its rows were taken away in the same commit; what is left is read again.
                if before.is_some_and(|before| before.service == Service::Send) {
                    self.drop_queue(sending.id);
                }
                self.open_unsent(&sending);
            }
        }
    }

    /// Has rows settled that no attempt is made for. Those of a disabled subscription
    /// wait until it is certain that it was not enabled again before they were made.
    fn open_unsent(&mut self, sending: &Arc<Sending>) {
        if sending.service == Service::Deleted || self.subscriptions.is_up_to_date(sending.id) {
            self.open(sending, UNSENT_AT_ONCE);
        } else {
            self.schedule.shut(sending.id);
            self.subscriptions.changed(sending.id);
        }
    }

    fn open(&mut self, sending: &Arc<Sending>, max_in_flight: usize) {
        self.schedule
            .open(sending.id, sending.lane, sending.app, max_in_flight);
        self.retries.can_look(sending.id, self.clock.now());
    }

    /// Sends nothing of a paused subscription: what is queued waits in the retries.
    fn hold_all(&mut self, id: SubscriptionId) {
        for row in self.schedule.close(id) {
            self.cache.release(row.delivery.event);
            self.hold(row);
        }
        let unripe = self.retries.unripe(|row| row.delivery.subscription == id);
        unripe.into_iter().for_each(|row| self.hold(row));
    }

    /// Forgets what is queued of a subscription.
    pub(crate) fn drop_queue(&mut self, id: SubscriptionId) {
        self.schedule
            .clear(id)
            .into_iter()
            .for_each(|row| self.unqueue(row));
        let unripe = self.retries.unripe(|row| row.delivery.subscription == id);
        unripe.into_iter().for_each(|row| self.let_go(row));
    }

    /// Gives back memory that is not needed.
    pub(crate) fn tidy(&mut self, now: DateTime<Utc>) {
        if !self.pace.take_tidy(now) {
            return;
        }
        let schedule = &self.schedule;
        for id in self.subscriptions.drop_idle(now, |id| schedule.is_idle(id)) {
            self.schedule.drop_line(id);
        }
        self.known.shrink();
        self.cache.shrink();
    }
}

/// Says once why nothing can be sent to a subscription.
fn report_fault(sending: &Sending, before: Option<&Sending>) {
    let known = before.and_then(|before| before.endpoint.as_ref().err());
    if let Err(fault) = &sending.endpoint
        && known != Some(fault)
    {
        tracing::error!(subscription.id = %sending.id, %fault, "nothing can be sent to it");
    }
}
