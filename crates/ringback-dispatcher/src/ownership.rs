//! Keeps this node's lanes: takes its share, gives up the rest, and stops.

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::Lane;
use ringback_store::{NodeLease, OutboxKey, StoreError};

use crate::{
    Dispatcher,
    row::{Row, Stage},
    send::Transport,
};

/// Between tries to take lanes that another node still holds.
const RETAKE: TimeDelta = TimeDelta::seconds(1);
/// How long attempts in flight may still take after a stop; then they are cut, and
/// count as none.
const GRACE: TimeDelta = TimeDelta::seconds(18);
/// How long a stop takes at most.
const STOP: TimeDelta = TimeDelta::seconds(20);

impl<T: Transport> Dispatcher<T> {
    /// Takes in what the last heartbeat brought.
    pub(crate) fn take_beat(&mut self) {
        let beat = self.beats.borrow_and_update().clone();
        let mark = self.handed_over.transit.mark();
        let Some((lease, beat)) = beat else {
            let lost = self.lanes.lose_all();
            return self.drop_lanes(&lost);
        };
        if self.stopping_at.is_some() {
            return;
        }
        // Lanes are asked for while the lease is good for as long as this. Only later can
        // others have taken them, and then this beat must not pass for an older one.
        if self.clock.now() >= self.pace.asked_at + NodeLease::MARGIN {
            self.lanes.confirm();
        }
        let changes = self.lanes.beat(lease, &beat, mark);
        self.drop_lanes(&changes.lost);
        self.drop_lanes(&changes.given_up);
        self.add_lanes(&changes.gained);
        if !changes.lost.is_empty() {
            tracing::warn!(lanes = changes.lost.len(), "lanes were lost");
        }
    }

    pub(crate) fn take_taken(&mut self, lease: NodeLease, taken: Result<Vec<Lane>, StoreError>) {
        let now = self.clock.now();
        (self.pace.taking, self.pace.take_at) = (false, now + RETAKE);
        let lanes = match taken {
            Ok(lanes) => lanes,
            Err(error) => return self.pace.lanes.failed("take lanes", &error, now),
        };
        self.pace.lanes.worked();
        // Others may have them by now, and a beat have said so already. If they are ours
        // all the same, the next beats say that.
        if now >= self.pace.asked_at + NodeLease::MARGIN {
            tracing::warn!(
                lanes = lanes.len(),
                "the answer to taking lanes came too late"
            );
            return;
        }
        let mark = self.handed_over.transit.mark();
        if self.lanes.taken(lease, &lanes, mark) && !lanes.is_empty() {
            tracing::debug!(lanes = lanes.len(), "lanes taken");
            self.add_lanes(&lanes);
        }
        if self.stopping_at.is_some() {
            let given_up = self.lanes.leave_all();
            self.drop_lanes(&given_up);
        }
    }

    pub(crate) fn take_released(&mut self, lanes: &[Lane], done: Result<(), StoreError>) {
        self.lanes.released(lanes, done.is_ok());
        match done {
            Ok(()) => {
                tracing::debug!(lanes = lanes.len(), "lanes given back");
                self.pace.lanes.worked();
            }
            Err(error) => self
                .pace
                .lanes
                .failed("give lanes back", &error, self.clock.now()),
        }
    }

    /// Takes what is missing, gives back what is done with.
    pub(crate) fn move_lanes(&mut self, now: DateTime<Utc>) {
        let Some(lease) = self.lanes.lease().filter(|_| self.pace.lanes.is_over(now)) else {
            return;
        };
        let idle = self.lanes.release_idle();
        if !idle.is_empty() {
            self.calls.release(lease, idle);
        }
        let may_take = !self.pace.taking && now >= self.pace.take_at && self.may_act();
        if may_take && !self.lanes.missing().is_empty() {
            (self.pace.taking, self.pace.asked_at) = (true, now);
            self.calls.take(lease, self.lanes.missing().to_vec(), now);
        }
    }

    /// When to call [`Self::move_lanes`], if nothing happens before.
    pub(crate) fn lanes_move_at(&self) -> Option<DateTime<Utc>> {
        let takes = !self.pace.taking && self.may_act() && !self.lanes.missing().is_empty();
        let releases = self.lanes.has_idle().then_some(DateTime::<Utc>::MIN_UTC);
        releases.or(takes.then_some(self.pace.take_at))
    }

    /// Whether this node may send at all: the lease that its lanes are held by is good,
    /// by this node's own clock, and no beat is here that may have taken some away.
    pub(crate) fn may_act(&self) -> bool {
        // The lease first: a beat that renewed it is here by then.
        let lease = self.membership.lease();
        let is_current = lease.is_some() && lease == self.lanes.lease();
        is_current && !self.beats.has_changed().unwrap_or(false) && self.stopping_at.is_none()
    }

    /// Sends nothing new any more.
    pub(crate) fn stop(&mut self) {
        self.stopping_at = Some(self.clock.now());
        let given_up = self.lanes.leave_all();
        self.drop_lanes(&given_up);
    }

    /// Whether everything is settled and given back after a stop, or time is over.
    /// Cuts what takes too long.
    pub(crate) fn is_done(&mut self) -> bool {
        let Some(stopping_at) = self.stopping_at else {
            return false;
        };
        let now = self.clock.now();
        if now >= stopping_at + GRACE && !self.attempts.is_empty() {
            tracing::warn!(
                attempts = self.attempts.len(),
                "attempts cut off by the stop"
            );
            self.attempts.abort_all();
        }
        if now >= stopping_at + STOP {
            tracing::warn!(
                results = self.settler.unsettled(),
                "stopped with results not settled"
            );
            return true;
        }
        let nothing_left = self.in_flight.is_empty() && self.settler.unsettled() == 0;
        let idle = !self.pace.taking && self.disabling == 0 && self.to_disable.is_empty();
        nothing_left && idle && self.lanes.is_empty()
    }

    /// When [`Self::is_done`] may change by time alone.
    pub(crate) fn stop_at(&self) -> Option<DateTime<Utc>> {
        let cut = if self.attempts.is_empty() {
            STOP
        } else {
            GRACE
        };
        let at = self.stopping_at? + cut;
        Some(if at <= self.clock.now() {
            self.stopping_at? + STOP
        } else {
            at
        })
    }

    fn add_lanes(&mut self, lanes: &[Lane]) {
        for lane in lanes {
            self.reader.add(*lane);
            self.handed_over.owned.set(*lane, true);
        }
        // Another node may have served them meanwhile, and written how they are.
        let known = self
            .subscriptions
            .reload_lanes(|lane| lanes.contains(&lane));
        self.health.unknown(known);
        if !lanes.is_empty() {
            self.calls.waiting(lanes.to_vec());
        }
        self.show_lanes();
    }

    fn show_lanes(&self) {
        let owned = self.lanes.owned().count();
        self.config.metrics.delivering.lanes.set(owned as i64);
    }

    /// Forgets what waits in lanes; what is under way goes on.
    fn drop_lanes(&mut self, lanes: &[Lane]) {
        if lanes.is_empty() {
            return;
        }
        for lane in lanes {
            self.handed_over.owned.set(*lane, false);
            self.reader.remove(*lane);
        }
        let dropped = |lane: Lane| lanes.contains(&lane);
        self.schedule
            .clear_lanes(dropped)
            .into_iter()
            .for_each(|row| self.unqueue(row));
        let unripe = self.retries.unripe(|row| dropped(row.lane));
        unripe.into_iter().for_each(|row| self.let_go(row));
        for OutboxKey { lane, delivery, .. } in self.parking.take_lanes(dropped) {
            self.let_go(Row {
                delivery,
                stage: Stage::OUTBOX,
                lane,
            });
        }
        self.retries.drop_lanes(dropped);
        self.health.drop_lanes(dropped);
        self.show_lanes();
    }
}
