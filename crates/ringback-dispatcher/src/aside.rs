//! Puts aside what cannot be sent soon, and writes down how receivers are.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ringback_model::{HealthStep, Lane, Outcome, SubscriptionId};
use ringback_store::{HealthChange, OutboxKey, StoreError};

use crate::{
    Dispatcher,
    row::{Row, Stage},
    schedule::{Effect, Room},
    send::Transport,
    sending::Service,
};

/// Why a subscription is disabled that has failed for too long.
pub(crate) const GIVEN_UP: &str = "nothing but failures for 5 days";

/// Rows on their way from the outbox to the retries.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    /// Due as soon as they are there.
    soon: Vec<OutboxKey>,
    dated: BTreeMap<DateTime<Utc>, Vec<OutboxKey>>,
}

impl Parking {
    /// - `due_at`: when the row is due among the retries; `None` is at once.
    pub(crate) fn push(&mut self, key: OutboxKey, due_at: Option<DateTime<Utc>>) {
        match due_at {
            Some(due_at) => self.dated.entry(due_at).or_default().push(key),
            None => self.soon.push(key),
        }
    }

    /// What to park in one statement: up to so many rows that are due at the same time.
    pub(crate) fn next(
        &mut self,
        most: usize,
        now: DateTime<Utc>,
    ) -> Option<(DateTime<Utc>, Vec<OutboxKey>)> {
        if !self.soon.is_empty() {
            let count = self.soon.len().min(most);
            return Some((now, self.soon.drain(..count).collect()));
        }
        let mut first = self.dated.first_entry()?;
        let due_at = *first.key();
        let keys = first.get_mut();
        let count = keys.len().min(most);
        let batch = keys.drain(..count).collect();
        if keys.is_empty() {
            first.remove();
        }
        Some((due_at, batch))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.soon.is_empty() && self.dated.is_empty()
    }

    /// Takes out what is of these lanes.
    pub(crate) fn take_lanes(&mut self, of: impl Fn(Lane) -> bool) -> Vec<OutboxKey> {
        let lists = std::iter::once(&mut self.soon).chain(self.dated.values_mut());
        let taken = lists
            .flat_map(|keys| keys.extract_if(.., |key| of(key.lane)))
            .collect();
        self.dated.retain(|_, keys| !keys.is_empty());
        taken
    }
}

impl<T: Transport> Dispatcher<T> {
    /// Queues a row that is in hand and may be sent, if there is room and its receiver
    /// wants it before long.
    pub(crate) fn queue_if_room(&mut self, row: Row) {
        let most = self.config.queue_per_subscription;
        let room = self.schedule.room(row, most, self.clock.now());
        match room {
            Room::Here => return self.queue(row),
            Room::Full => self.schedule.overflowed(row.delivery.subscription),
            Room::Blocked => {}
        }
        self.hold(row);
    }

    /// Leaves a row to wait in the retries: it cannot be sent soon.
    pub(crate) fn hold(&mut self, row: Row) {
        let (subscription, now) = (row.delivery.subscription, self.clock.now());
        if row.stage == Stage::OUTBOX {
            let key = OutboxKey {
                lane: row.lane,
                delivery: row.delivery,
                // The row in the database knows.
                order: None,
            };
            let due_at = self.schedule.parked_due_at(subscription, now);
            self.parking.push(key, due_at);
        } else {
            self.let_go(row);
            let blocked_until = self.schedule.blocked_until(subscription);
            let look_at = blocked_until.map_or(now, |until| until.max(now));
            self.retries.expect(subscription, row.lane, look_at);
        }
    }

    /// Parks what a breaker has held back for too long.
    pub(crate) fn hold_back(&mut self, now: DateTime<Utc>) {
        for row in self.schedule.take_held(now) {
            self.cache.release(row.delivery.event);
            self.hold(row);
        }
    }

    /// Does what follows for a subscription's other deliveries from how an attempt ended.
    pub(crate) fn heed(&mut self, subscription: SubscriptionId, lane: Lane, effect: Effect) {
        if effect.opened {
            tracing::warn!(subscription.id = %subscription, "failing: first attempts are held back");
        }
        if effect.closed {
            tracing::info!(subscription.id = %subscription, "works again");
        }
        if !self.lanes.owns(lane) {
            return;
        }
        let now = self.clock.now();
        if effect.blocked_for_long {
            self.hold_all(subscription, false);
        }
        if effect.closed {
            // What was parked meanwhile may come back.
            self.retries.expect(subscription, lane, now);
            self.retries.can_look(subscription, now);
        } else if let Some(at) = self.schedule.wants_probe(subscription) {
            self.retries.expect(subscription, lane, at);
        }
    }

    /// Takes note of how an attempt ended for its subscription's health. Whether that is
    /// the end of it.
    pub(crate) fn note_health(
        &mut self,
        row: Row,
        outcome: Outcome,
        ended_at: DateTime<Utc>,
    ) -> bool {
        let subscription = row.delivery.subscription;
        let is_served = |(_, service)| matches!(service, Service::Send | Service::Hold);
        if !self
            .subscriptions
            .sending(subscription)
            .is_some_and(is_served)
        {
            return false;
        }
        let step = if outcome == Outcome::Delivered {
            self.health.succeeded(subscription, row.lane);
            HealthStep::None
        } else {
            self.health.failed(subscription, row.lane, ended_at)
        };
        self.begin_health_work();
        if let HealthStep::Warn(percent) = step {
            tracing::warn!(
                subscription.id = %subscription,
                percent,
                "nothing but failures: after 5 days it will be disabled"
            );
        }
        step == HealthStep::Disable
    }

    /// Writes how receivers are, in the name of the lease that is known last.
    pub(crate) fn record(&mut self, now: DateTime<Utc>) {
        let Some(lease) = self.lanes.lease().filter(|_| self.pace.record.is_over(now)) else {
            return;
        };
        let batch = self.health.next(now);
        self.begin_health_work();
        if let Some(batch) = batch {
            self.calls.record(lease, batch, now);
        }
    }

    pub(crate) fn take_recorded(&mut self, batch: Vec<HealthChange>, done: Result<(), StoreError>) {
        let over = match done {
            Ok(()) => {
                self.pace.record.worked();
                self.health.written();
                batch
            }
            Err(error) => {
                let now = self.clock.now();
                self.pace.record.failed("record health", &error, now);
                self.health.not_written(batch)
            }
        };
        over.iter()
            .for_each(|change| self.lanes.end_work(change.lane));
    }

    fn begin_health_work(&mut self) {
        for lane in self.health.take_work() {
            self.lanes.begin_work(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use ringback_model::{DeliveryId, EventId};

    use super::*;

    fn key(event: i64, lane: u8) -> OutboxKey {
        OutboxKey {
            lane: Lane::new(lane),
            delivery: DeliveryId {
                event: EventId::new(event),
                subscription: SubscriptionId::new(1),
            },
            order: None,
        }
    }

    #[test]
    fn what_is_due_at_one_time_is_parked_together() {
        let now = DateTime::UNIX_EPOCH;
        let later = now + TimeDelta::hours(1);
        let mut parking = Parking::default();
        for (event, due_at) in [(1, Some(later)), (2, None), (3, Some(later)), (4, None)] {
            parking.push(key(event, 0), due_at);
        }
        parking.push(key(5, 9), None);
        parking.push(key(6, 9), Some(now));
        assert_eq!(
            parking.take_lanes(|lane| lane == Lane::new(9)),
            [key(5, 9), key(6, 9)]
        );
        assert_eq!(
            parking.next(9, now),
            Some((now, vec![key(2, 0), key(4, 0)]))
        );
        assert_eq!(parking.next(1, now), Some((later, vec![key(1, 0)])));
        assert_eq!(parking.next(9, now), Some((later, vec![key(3, 0)])));
        assert!(parking.is_empty() && parking.next(9, now).is_none());
    }
}
