//! Takes in what attempts and statements brought about.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ringback_metrics::Settled;
use ringback_model::{Outcome, SubscriptionId};
use ringback_store::{DeadLetter, Hint, Next, OutboxKey, Settlement, Source, StoreError};
use tokio::task::{Id, JoinError};

use crate::{
    Dispatcher,
    aside::GIVEN_UP,
    row::{Row, Stage},
    schedule::Signal,
    send::{Attempt, Attempted, Transport},
    sending::Service,
    settle,
};

/// The most rows to park in one statement.
const PARK: usize = 2000;

/// The one status that says more than that an attempt failed.
const GONE: u16 = 410;
const GONE_REASON: &str = "410 Gone";

impl<T: Transport> Dispatcher<T> {
    /// Takes in what came of an attempt. One that panicked has failed; one that was cut
    /// off by a stop counts as none.
    pub(crate) fn take_attempted(&mut self, ended: Result<(Id, Attempted), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(in_flight) = self.in_flight.remove(&id) else {
            return;
        };
        let row = in_flight.row;
        match ended {
            Ok((_, attempted)) => self.settle_attempt(row, &in_flight.attempt, attempted),
            Err(error) if error.is_panic() => {
                tracing::error!(delivery.id = %row.delivery, "an attempt panicked");
                let ended_at = self.clock.now();
                let broken = in_flight.attempt.broken(in_flight.started_at, ended_at);
                self.settle_attempt(row, &in_flight.attempt, broken);
            }
            Err(_) => {
                self.lanes.end_work(row.lane);
                self.let_go(row);
            }
        }
        self.schedule.done(row.delivery, self.clock.now());
    }

    fn settle_attempt(&mut self, row: Row, attempt: &Attempt, attempted: Attempted) {
        let Attempted {
            record,
            outcome,
            detail,
            ended_at,
        } = attempted;
        tracing::debug!(
            delivery.id = %row.delivery,
            attempt.number = record.number,
            status = record.answer.as_ref().map(|answer| answer.status_code),
            error = record.error.map(|error| error.as_str()),
            detail,
            total_ms = record.total_ms,
            "attempted"
        );
        self.config.metrics.delivering.attempted(
            record.error,
            record.answer.as_ref().map(|answer| answer.status_code),
            Duration::from_millis(record.total_ms.into()),
        );
        let subscription = row.delivery.subscription;
        let signal = Signal::of(&record, outcome, ended_at);
        let effect = self
            .schedule
            .attempted(subscription, &signal, rand::random());
        self.heed(subscription, row.lane, effect);
        let is_over = self.note_health(row, outcome, ended_at);
        if outcome == Outcome::SubscriptionGone {
            self.give_up(subscription, GONE_REASON);
        } else if is_over && self.give_up(subscription, GIVEN_UP) {
            self.given_up.insert(subscription);
        }
        let current = self.subscriptions.sending(subscription);
        let service = current.map_or(Service::Send, |(_, service)| service);
        let policy = &attempt.sending.retry;
        let next = settle::next(
            outcome,
            service,
            policy,
            row.stage,
            ended_at,
            self.schedule.blocked_until(subscription),
            rand::random(),
        );
        self.settler.push(Settlement {
            lane: row.lane,
            delivery: row.delivery,
            app: attempt.sending.app,
            event_type: attempt.message.event_type.clone(),
            source: row.stage.source(),
            attempt: Some(record),
            next,
        });
        if self.order.upcoming(row.delivery).next().is_some() {
            self.settler.hurry();
        }
    }

    /// Sends nothing more to a subscription, which is about to be disabled. `false` if it
    /// was already.
    fn give_up(&mut self, subscription: SubscriptionId, reason: &'static str) -> bool {
        let disables = self.subscriptions.disable(subscription);
        if disables {
            tracing::warn!(subscription.id = %subscription, reason, "disabling it");
            self.schedule.shut(subscription);
            self.drop_queue(subscription);
            self.schedule.forget(subscription);
            self.health.forget(subscription);
        }
        disables
    }

    /// Writes results, in the name of the lease that is known last: what it does not own
    /// any more is fenced by the store.
    pub(crate) fn settle(&mut self, now: DateTime<Utc>) {
        let Some(lease) = self.lanes.lease().filter(|_| self.pace.settle.is_over(now)) else {
            return;
        };
        while let Some(batch) = self.settler.next(now) {
            self.calls.settle(lease, batch, now);
        }
    }

    /// - `mark`: when it was asked for.
    pub(crate) fn take_settled(
        &mut self,
        batch: Vec<Settlement>,
        mark: u64,
        done: Result<(), StoreError>,
    ) {
        let now = self.clock.now();
        match done {
            Ok(()) => {
                self.pace.settle.worked();
                self.settler.settled(batch.len(), now);
                self.after_settling(batch, mark, now);
            }
            Err(error @ StoreError::Unavailable(_)) => {
                self.pace.settle.failed("settle", &error, now);
                self.settler.failed(batch);
            }
            Err(error) => {
                if let Some(given_up) = self.settler.refused(batch) {
                    // It stays known here, so that it is not sent over and over.
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        delivery.id = %given_up.delivery,
                        "a result cannot be stored"
                    );
                    self.lanes.end_work(given_up.lane);
                }
            }
        }
    }

    fn after_settling(&mut self, batch: Vec<Settlement>, mark: u64, now: DateTime<Utc>) {
        for settled in &batch {
            self.count_settled(settled, now);
            self.lanes.end_work(settled.lane);
            if settled.source != Source::Outbox {
                self.retries.let_go(settled.delivery.subscription, now);
            }
            if !self.settled_in_order(settled, mark, now)
                && let Next::Retry { due_at } = settled.next
                && self.lanes.owns(settled.lane)
            {
                self.retries
                    .expect(settled.delivery.subscription, settled.lane, due_at);
            }
            self.reports.take(settled, now);
            let answer = settled
                .attempt
                .as_ref()
                .and_then(|attempt| attempt.answer.as_ref());
            if answer.is_some_and(|answer| answer.status_code == GONE) {
                self.to_disable
                    .insert(settled.delivery.subscription, GONE_REASON);
            }
            if self.given_up.remove(&settled.delivery.subscription) {
                self.to_disable
                    .insert(settled.delivery.subscription, GIVEN_UP);
            }
        }
        let settled = batch.into_iter().map(|settled| settled.delivery).collect();
        self.known.settled(settled, self.handed_over.transit.mark());
    }

    fn count_settled(&self, settlement: &Settlement, now: DateTime<Utc>) {
        let how = match settlement.next {
            Next::Delivered => Settled::Delivered,
            Next::Dead(_) => Settled::Dead,
            Next::Cancelled => Settled::Cancelled,
            Next::Retry { .. } => return,
        };
        let (made, round_start) = match settlement.source {
            Source::Outbox => (0, 0),
            Source::Retries {
                attempts_made,
                round_start,
            } => (attempts_made, round_start),
        };
        let attempt = settlement.attempt.as_ref();
        let attempts = attempt.map_or(made, |attempt| attempt.number);
        let whole_way = (now - settlement.delivery.event.time())
            .to_std()
            .unwrap_or_default();
        let is_replay = round_start > 0;
        self.config
            .metrics
            .delivering
            .settled(how, attempts, (!is_replay).then_some(whole_way));
    }

    /// Moves rows to the retries that cannot be sent soon.
    pub(crate) fn park(&mut self, now: DateTime<Utc>) {
        let Some(lease) = self.lanes.lease() else {
            return;
        };
        if self.can_park()
            && self.pace.park.is_over(now)
            && let Some((due_at, keys)) = self.parking.next(PARK, now)
        {
            self.pace.parking = true;
            keys.iter().for_each(|key| self.lanes.begin_work(key.lane));
            self.calls.park(lease, keys, due_at);
        }
    }

    /// Whether [`Self::park`] has something to do.
    pub(crate) fn can_park(&self) -> bool {
        !self.parking.is_empty() && !self.pace.parking
    }

    pub(crate) fn take_parked(
        &mut self,
        keys: Vec<OutboxKey>,
        due_at: DateTime<Utc>,
        done: Result<(), StoreError>,
    ) {
        self.pace.parking = false;
        keys.iter().for_each(|key| self.lanes.end_work(key.lane));
        if let Err(error) = done {
            self.pace
                .park
                .failed("park deliveries", &error, self.clock.now());
            let (ours, others) = keys
                .into_iter()
                .partition::<Vec<_>, _>(|key| self.lanes.owns(key.lane));
            ours.into_iter()
                .for_each(|key| self.parking.push(key, Some(due_at)));
            for OutboxKey {
                lane,
                delivery,
                order,
            } in others
            {
                self.not_parked(delivery, order);
                self.let_go(Row {
                    delivery,
                    stage: Stage::OUTBOX,
                    lane,
                });
            }
            return;
        }
        self.pace.park.worked();
        let parked = &self.config.metrics.delivering.parked;
        parked.inc_by(keys.len() as u64);
        for key in &keys {
            let was_in_order = self.not_parked(key.delivery, key.order);
            if was_in_order || !self.lanes.owns(key.lane) {
                continue;
            }
            self.retries
                .expect(key.delivery.subscription, key.lane, due_at);
        }
        let parked = keys.into_iter().map(|key| key.delivery).collect();
        self.known.settled(parked, self.handed_over.transit.mark());
    }

    /// Disables subscriptions whose receivers want no more.
    pub(crate) fn disable(&mut self, now: DateTime<Utc>) {
        if !self.pace.disable.is_over(now) {
            return;
        }
        for (subscription, reason) in self.to_disable.drain() {
            self.disabling += 1;
            self.calls.disable(subscription, reason, now);
        }
    }

    pub(crate) fn take_disabled(
        &mut self,
        subscription: SubscriptionId,
        reason: &'static str,
        done: Result<(), StoreError>,
    ) {
        self.disabling -= 1;
        match done {
            Ok(()) => {
                self.pace.disable.worked();
                self.subscriptions.disabled(subscription);
                self.database.hints.hint(Hint::Subscription(subscription));
                self.database.hints.hint(Hint::Emitted);
            }
            Err(error) => {
                self.pace
                    .disable
                    .failed("disable a subscription", &error, self.clock.now());
                self.to_disable.insert(subscription, reason);
            }
        }
    }

    /// Reports dead letters.
    pub(crate) fn report(&mut self, now: DateTime<Utc>) {
        if self.pace.report.is_over(now)
            && let Some(letters) = self.reports.next()
        {
            self.calls.report(letters);
        }
    }

    pub(crate) fn take_reported(&mut self, letters: Vec<DeadLetter>, done: Result<(), StoreError>) {
        match done {
            Ok(()) => {
                self.pace.report.worked();
                self.reports.written();
                self.database.hints.hint(Hint::Emitted);
            }
            Err(error @ StoreError::Unavailable(_)) => {
                let now = self.clock.now();
                self.pace.report.failed("report dead letters", &error, now);
                self.reports.failed(letters);
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    letters = letters.len(),
                    "dead letters cannot be reported"
                );
                self.reports.written();
            }
        }
    }
}
