//! Follows what changes of subscriptions: loads them, pauses, resumes, drops.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{Failing, SubscriptionId};
use ringback_store::{SendingState, StoreError};

use crate::{
    Dispatcher,
    schedule::Terms,
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
        self.drop_order(id);
        self.schedule
            .close(id)
            .into_iter()
            .for_each(|row| self.unqueue(row));
    }

    fn take_state(&mut self, state: SendingState) {
        let failing = state.failing;
        let sending = Sending::open(state, &self.vault, self.transport.policy());
        let Some((sending, before)) = self.subscriptions.loaded(sending) else {
            return;
        };
        report_fault(&sending, before.as_deref());
        self.learn_health(&sending, before.as_deref(), failing);
        self.keep_order(&sending);
        match sending.service {
            Service::Send => self.open(&sending, sending.max_in_flight),
            Service::Hold => self.hold_all(sending.id, true),
            Service::Disabled | Service::Deleted => {
                // Its rows were taken away in the same commit; what is left is read again.
                if before.is_some_and(|before| before.service == Service::Send) {
                    self.drop_queue(sending.id);
                }
                self.open_unsent(&sending);
            }
        }
    }

    /// Takes over how a subscription was elsewhere, and notices when its owner did
    /// something about it.
    fn learn_health(
        &mut self,
        sending: &Sending,
        before: Option<&Sending>,
        failing: Option<Failing>,
    ) {
        if matches!(sending.service, Service::Disabled | Service::Deleted) {
            return self.health.forget(sending.id);
        }
        let enabled = before.is_some_and(|before| before.service == Service::Disabled);
        if enabled {
            self.health.forget(sending.id);
        }
        let anew = enabled || before.is_none();
        self.health.loaded(sending.id, sending.lane, failing, anew);
        let Some(before) = before else {
            return;
        };
        let resumed = before.service != Service::Send && sending.service == Service::Send;
        if before.host != sending.host {
            self.schedule.forget(sending.id);
        } else if resumed || before.version != sending.version {
            self.schedule.give_another_chance(sending.id);
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
        let now = self.clock.now();
        let terms = Terms {
            app: sending.app,
            max_in_flight,
            rate_per_s: sending.rate_per_s,
            host: sending.host.clone(),
            sent_to: sending.service == Service::Send,
        };
        self.schedule.open(sending.id, sending.lane, terms, now);
        if self.health.is_failing(sending.id) {
            self.schedule.suspect(sending.id, sending.lane);
        }
        self.retries.can_look(sending.id, now);
    }

    /// Leaves what is in memory of a subscription to wait in the retries.
    ///
    /// - `paused`: and sends nothing any more.
    pub(crate) fn hold_all(&mut self, id: SubscriptionId, paused: bool) {
        if paused {
            self.hold_in_order(id);
            self.schedule.shut(id);
        }
        for row in self.schedule.clear(id) {
            self.cache.release(row.delivery.event);
            self.hold(row);
        }
        let unripe = self.retries.unripe(|row| row.delivery.subscription == id);
        unripe.into_iter().for_each(|row| self.hold(row));
    }

    /// Forgets what is queued of a subscription.
    pub(crate) fn drop_queue(&mut self, id: SubscriptionId) {
        self.drop_order(id);
        self.empty_queue(id);
    }

    /// Forgets what is queued of a subscription, but not its order.
    pub(crate) fn empty_queue(&mut self, id: SubscriptionId) {
        let queued = self.schedule.clear(id);
        let unripe = self.retries.unripe(|row| row.delivery.subscription == id);
        queued.into_iter().for_each(|row| self.unqueue(row));
        unripe.into_iter().for_each(|row| self.let_go(row));
    }

    /// Gives back memory that is not needed.
    pub(crate) fn tidy(&mut self, now: DateTime<Utc>) {
        if !self.pace.take_tidy(now) {
            return;
        }
        let (schedule, order) = (&self.schedule, &self.order);
        let is_idle = |id| schedule.is_idle(id) && order.is_idle(id);
        for id in self.subscriptions.drop_idle(now, is_idle) {
            self.schedule.shut(id);
            self.drop_order(id);
        }
        let is_needed = |id| self.subscriptions.contains(id);
        self.schedule.drop_lines(now, is_needed);
        self.health.drop_written(is_needed);
        tracing::trace!(stats = ?self.schedule.stats(), "the schedule");
        self.reports.tidy(now);
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
