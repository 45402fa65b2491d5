//! Whose turn it is.
//!
//! Two rings: applications take turns, and within each its subscriptions do. There is
//! one such pair for fast subscriptions and one for slow ones, which get half of what may
//! be under way at most. A subscription whose host has no room waits in the host's own
//! ring. One that must wait for a time (its rate, a `Retry-After`, its breaker) is in no
//! ring and comes back by a timer. So the cost of choosing does not grow with how many
//! there are, or how much waits. Pure: no I/O, no clock.
//!
//! | what limits a subscription | where |
//! |---|---|
//! | `max_in_flight`, and how much its receiver can take | `window.rs` |
//! | `rate_per_s` | `rate.rs` |
//! | its receiver fails | `breaker.rs` |
//! | its receiver is slow | `latency.rs` |
//! | its host has no room | `hosts.rs` |

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{AppId, DeliveryId, EventId, Lane, SubscriptionId};

mod line;
pub(crate) use line::Terms;

mod backlog;
mod queue;

mod signal;
pub(crate) use signal::Signal;

mod breaker;
mod latency;
mod pacer;
mod rate;
mod window;

mod hosts;
mod timers;
mod turns;

#[cfg(test)]
mod tests;

use self::{
    hosts::Hosts,
    line::{Line, Open, Place},
    pacer::{Gate, Pacer},
    timers::Timers,
    turns::Turns,
};
use crate::{
    retries::{AHEAD, MayLook},
    row::{Row, Stage},
};

/// What cannot be sent for longer than this does not wait in memory.
const PATIENCE: TimeDelta = TimeDelta::seconds(60);
/// First attempts that an open breaker holds back and that stay in memory, to be probes.
const PROBES: usize = 16;

/// What waits for its turn in this node's memory, and how much is under way.
#[derive(Debug)]
pub(crate) struct Schedule {
    lines: HashMap<SubscriptionId, Line>,
    fast: Turns,
    slow: Turns,
    /// The slow ones are asked first: both take turns.
    slow_first: bool,
    hosts: Hosts,
    /// When lines can be served that cannot now.
    wakes: Timers,
    /// When to park what is held back.
    parks: Timers,
    queued: usize,
    in_flight: usize,
    /// Of them, those of slow subscriptions.
    slow_in_flight: usize,
    max_in_flight: usize,
    open_breakers: usize,
    waiting_for_host: usize,
}

/// Where a row goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Into the queue.
    Here,
    /// There is no room: it is parked.
    Full,
    /// Nothing is sent before long: it waits in the retries.
    Blocked,
}

/// How much there is of everything: for whoever measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Deliveries in queues.
    pub(crate) queued: usize,
    /// Deliveries under way.
    pub(crate) in_flight: usize,
    /// Of them, those of slow subscriptions.
    pub(crate) slow_in_flight: usize,
    /// Subscriptions that wait for a time.
    pub(crate) waiting: usize,
    /// Subscriptions that wait for their host to have room.
    pub(crate) waiting_for_host: usize,
    /// Subscriptions whose first attempts are held back.
    pub(crate) open_breakers: usize,
}

impl Schedule {
    /// - `max_in_flight`: how many may be under way at once, over all subscriptions.
    /// - `max_per_host`: of them, to one host.
    pub(crate) fn new(max_in_flight: usize, max_per_host: usize) -> Self {
        Self {
            lines: HashMap::new(),
            fast: Turns::default(),
            slow: Turns::default(),
            slow_first: false,
            hosts: Hosts::new(max_per_host),
            wakes: Timers::default(),
            parks: Timers::default(),
            queued: 0,
            in_flight: 0,
            slow_in_flight: 0,
            max_in_flight,
            open_breakers: 0,
            waiting_for_host: 0,
        }
    }

    /// Queues a row at the end.
    pub(crate) fn push(&mut self, row: Row, now: DateTime<Utc>) {
        let subscription = row.delivery.subscription;
        self.line(subscription, row.lane).backlog.push(row);
        self.queued += 1;
        self.watch_held(subscription, now);
        self.enlist(subscription, now);
    }

    /// Takes back what [`Self::next`] gave: it is not under way, and comes first.
    pub(crate) fn put_back(&mut self, row: Row, now: DateTime<Utc>) {
        let subscription = row.delivery.subscription;
        let line = self.line(subscription, row.lane);
        line.pacer.give_back(row.stage.is_first_attempt(), now);
        line.backlog.put_back(row);
        self.queued += 1;
        self.done(row.delivery, now);
    }

    /// What is to be sent now; it is under way from now on, until [`Self::done`].
    pub(crate) fn next(&mut self, now: DateTime<Utc>) -> Option<Row> {
        while self.in_flight < self.max_in_flight {
            let (subscription, place) = self.turn()?;
            if let Some(row) = self.serve(subscription, place, now) {
                return Some(row);
            }
        }
        None
    }

    /// Whose turn it is, and in which ring.
    fn turn(&mut self) -> Option<(SubscriptionId, Place)> {
        let may_be_slow = self.slow_in_flight < (self.max_in_flight / 2).max(1);
        let slow_first = std::mem::replace(&mut self.slow_first, false) && may_be_slow;
        if slow_first && let Some(subscription) = self.slow.next() {
            return Some((subscription, Place::Slow));
        }
        if let Some(subscription) = self.fast.next() {
            self.slow_first = true;
            return Some((subscription, Place::Fast));
        }
        let slow = may_be_slow.then(|| self.slow.next()).flatten();
        slow.map(|subscription| (subscription, Place::Slow))
    }

    /// Serves a line whose turn it is, if that is still so.
    fn serve(
        &mut self,
        subscription: SubscriptionId,
        place: Place,
        now: DateTime<Utc>,
    ) -> Option<Row> {
        // One that changed places, was closed or emptied meanwhile is passed over.
        if self.lines.get(&subscription)?.place != place {
            return None;
        }
        self.leave_place(subscription);
        let row = self.take(subscription, place, now);
        self.enlist(subscription, now);
        if row.is_none() {
            self.admit_waiting(subscription, now);
        }
        row
    }

    fn take(
        &mut self,
        subscription: SubscriptionId,
        place: Place,
        now: DateTime<Utc>,
    ) -> Option<Row> {
        let line = self.lines.get_mut(&subscription)?;
        let is_slow = line.pacer.is_slow();
        let has_room = |host: &Arc<str>| self.hosts.has_room(host);
        if (is_slow && place == Place::Fast) || !line.host.as_ref().is_none_or(has_room) {
            return None;
        }
        let Gate::Open(allowed) = line.gate(now) else {
            return None;
        };
        let row = line.backlog.pop(allowed)?.of(subscription, line.lane);
        line.pacer.begin(row.stage.is_first_attempt(), now);
        line.in_flight += 1;
        if let Some(host) = &line.host {
            self.hosts.begin(host);
        }
        self.slow_in_flight += usize::from(is_slow);
        self.queued -= 1;
        self.in_flight += 1;
        Some(row)
    }

    /// One that was under way has ended.
    pub(crate) fn done(&mut self, delivery: DeliveryId, now: DateTime<Utc>) {
        let subscription = delivery.subscription;
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(line) = self.lines.get_mut(&subscription) else {
            return;
        };
        if line.in_flight > 0 {
            line.in_flight -= 1;
            self.slow_in_flight -= usize::from(line.pacer.is_slow());
            if let Some(host) = &line.host {
                self.hosts.end(host);
            }
        }
        self.admit_waiting(subscription, now);
        self.enlist(subscription, now);
    }

    /// Takes in how an attempt ended, before [`Self::done`].
    ///
    /// - `random`: evenly spread over 0 to 1.
    pub(crate) fn attempted(
        &mut self,
        subscription: SubscriptionId,
        signal: &Signal,
        random: f64,
    ) -> Effect {
        let max = self
            .lines
            .get(&subscription)
            .and_then(|line| line.open)
            .map_or(1, |open| open.max_in_flight);
        let state = |line: &Line| (line.pacer.open_since(), line.pacer.blocked_until());
        let before = self.lines.get(&subscription).map(state).unwrap_or_default();
        self.change_pacer(subscription, |pacer| {
            pacer.attempted(signal, max, random);
        });
        let after = self.lines.get(&subscription).map(state).unwrap_or_default();
        self.watch_held(subscription, signal.ended_at);
        let blocked_until = after.1.filter(|_| after.1 != before.1);
        Effect {
            opened: before.0.is_none() && after.0.is_some(),
            closed: before.0.is_some() && after.0.is_none(),
            blocked_for_long: blocked_until.is_some_and(|until| until > signal.ended_at + PATIENCE),
        }
    }

    /// Says that a subscription can be served.
    pub(crate) fn open(
        &mut self,
        subscription: SubscriptionId,
        lane: Lane,
        terms: Terms,
        now: DateTime<Utc>,
    ) {
        if self.line(subscription, lane).host != terms.host {
            self.move_to_host(subscription, terms.host, now);
        }
        let line = self.line(subscription, lane);
        line.pacer.set_rate(terms.rate_per_s);
        line.open = Some(Open {
            app: terms.app,
            max_in_flight: terms.max_in_flight,
            sent_to: terms.sent_to,
        });
        self.enlist(subscription, now);
    }

    /// Says that a subscription cannot be served for now; its queue stays.
    pub(crate) fn shut(&mut self, subscription: SubscriptionId) {
        if let Some(line) = self.lines.get_mut(&subscription) {
            line.open = None;
        }
    }

    /// Says that a subscription cannot be served; empties its queue.
    pub(crate) fn close(&mut self, subscription: SubscriptionId) -> Vec<Row> {
        self.shut(subscription);
        self.clear(subscription)
    }

    /// Empties a queue.
    pub(crate) fn clear(&mut self, subscription: SubscriptionId) -> Vec<Row> {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return Vec::new();
        };
        self.queued -= line.backlog.len();
        line.clear(subscription).collect()
    }

    /// Empties the queues of the lanes that `of` says, and forgets their receivers: other
    /// nodes will know better.
    pub(crate) fn clear_lanes(&mut self, of: impl Fn(Lane) -> bool) -> Vec<Row> {
        let in_lanes = |(_, line): &(&SubscriptionId, &Line)| of(line.lane);
        let ids: Vec<_> = self
            .lines
            .iter()
            .filter(in_lanes)
            .map(|(id, _)| *id)
            .collect();
        let mut cleared = Vec::new();
        for subscription in ids {
            cleared.extend(self.clear(subscription));
            self.forget(subscription);
        }
        cleared
    }

    /// Takes one delivery out of its queue, if it is there.
    pub(crate) fn remove(&mut self, delivery: DeliveryId) -> Option<Row> {
        let line = self.lines.get_mut(&delivery.subscription)?;
        let item = line.backlog.remove(delivery.event)?;
        self.queued -= 1;
        Some(item.of(delivery.subscription, line.lane))
    }

    /// Somebody says that a receiver works again: it is sent to, a little at first.
    pub(crate) fn give_another_chance(&mut self, subscription: SubscriptionId) {
        self.change_pacer(subscription, Pacer::give_another_chance);
    }

    /// A receiver of which nothing is known here has failed often: a little at first.
    pub(crate) fn suspect(&mut self, subscription: SubscriptionId, lane: Lane) {
        self.line(subscription, lane);
        self.change_pacer(subscription, Pacer::suspect);
    }

    /// Forgets what a receiver did.
    pub(crate) fn forget(&mut self, subscription: SubscriptionId) {
        self.change_pacer(subscription, Pacer::forget);
        if let Some(line) = self.lines.get_mut(&subscription) {
            line.overflows = false;
        }
    }

    /// Where a row goes that came.
    ///
    /// - `most`: how much of a subscription may wait in memory.
    pub(crate) fn room(&self, row: Row, most: usize, now: DateTime<Utc>) -> Room {
        let Some(line) = self.lines.get(&row.delivery.subscription) else {
            return Room::Here;
        };
        let blocked_until = line.pacer.blocked_until();
        if blocked_until.is_some_and(|until| until > now + PATIENCE) {
            return Room::Blocked;
        }
        let is_full = line.overflows || line.backlog.len() >= line.capacity(most);
        if is_full && row.stage == Stage::OUTBOX {
            Room::Full
        } else {
            Room::Here
        }
    }

    /// A row of the outbox did not fit: what comes after it does not overtake it, until
    /// [`Self::caught_up`].
    pub(crate) fn overflowed(&mut self, subscription: SubscriptionId) {
        if let Some(line) = self.lines.get_mut(&subscription) {
            line.overflows = true;
        }
    }

    /// What was parked is back.
    pub(crate) fn caught_up(&mut self, subscription: SubscriptionId) {
        if let Some(line) = self.lines.get_mut(&subscription) {
            line.overflows = false;
        }
    }

    /// When a row that has to wait in the retries is due there, if not at once: when the
    /// receiver asked for it; or before everything that became due since the breaker
    /// opened, so that it stands in no probe's way.
    pub(crate) fn parked_due_at(
        &self,
        subscription: SubscriptionId,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let pacer = &self.lines.get(&subscription)?.pacer;
        let blocked_until = pacer.blocked_until().filter(|until| *until > now);
        blocked_until.or(pacer.open_since())
    }

    /// Before which nothing of a subscription is sent, because its receiver asked for it.
    pub(crate) fn blocked_until(&self, subscription: SubscriptionId) -> Option<DateTime<Utc>> {
        self.lines.get(&subscription)?.pacer.blocked_until()
    }

    /// Whether retries of a subscription are to be looked for.
    ///
    /// - `most`: how much of a subscription may wait in memory.
    pub(crate) fn may_look(
        &self,
        subscription: SubscriptionId,
        most: usize,
        now: DateTime<Utc>,
    ) -> MayLook {
        let Some(line) = self.lines.get(&subscription) else {
            return MayLook::Now;
        };
        if let Some(until) = line.pacer.blocked_until().filter(|until| *until > now) {
            return MayLook::NotBefore(until);
        }
        if line.pressing() > line.capacity(most) / 2 {
            return MayLook::No;
        }
        match (line.pacer.open_since(), line.pacer.probe_at()) {
            // What is parked is of use only if there is nothing else to probe with.
            (Some(_), Some(at)) if line.backlog.len() == 0 && at <= now + AHEAD => MayLook::Now,
            (Some(since), _) => MayLook::After(since),
            (None, _) => MayLook::Now,
        }
    }

    /// When a probe has to be looked for: the breaker is open, and nothing is here to
    /// probe with.
    pub(crate) fn wants_probe(&self, subscription: SubscriptionId) -> Option<DateTime<Utc>> {
        let line = self.lines.get(&subscription)?;
        line.pacer.probe_at().filter(|_| line.backlog.len() == 0)
    }

    /// Whether there is room for what had to be left in the retries.
    pub(crate) fn has_room(&self, subscription: SubscriptionId, most: usize) -> bool {
        let has_room = |line: &Line| line.pressing() <= line.capacity(most) / 2;
        self.lines.get(&subscription).is_none_or(has_room)
    }

    /// Gives lines their places whose time has come.
    pub(crate) fn wake(&mut self, now: DateTime<Utc>) {
        while let Some(subscription) = self.wakes.pop(now) {
            if let Some(line) = self.lines.get_mut(&subscription) {
                line.wake_at = None;
            }
            self.enlist(subscription, now);
        }
    }

    /// Rows of the outbox that have been held back for so long that they are to be parked.
    pub(crate) fn take_held(&mut self, now: DateTime<Utc>) -> Vec<Row> {
        let mut held = Vec::new();
        while let Some(subscription) = self.parks.pop(now) {
            let Some(line) = self.lines.get_mut(&subscription) else {
                continue;
            };
            line.park_at = None;
            if line.pacer.open_since().is_none() || line.backlog.firsts() <= PROBES {
                continue;
            }
            let (lane, before) = (line.lane, held.len());
            let firsts: Vec<_> = line.backlog.clear_firsts().collect();
            for (index, item) in firsts.into_iter().enumerate() {
                let row = item.of(subscription, lane);
                if index < PROBES || row.stage != Stage::OUTBOX {
                    line.backlog.push(row);
                } else {
                    held.push(row);
                }
            }
            self.queued -= held.len() - before;
        }
        held
    }

    /// When to call [`Self::wake`] or [`Self::take_held`] again.
    pub(crate) fn next_at(&self) -> Option<DateTime<Utc>> {
        let times = [self.wakes.next_at(), self.parks.next_at()];
        times.into_iter().flatten().min()
    }

    /// What comes next of one subscription.
    pub(crate) fn upcoming(&self, subscription: SubscriptionId) -> impl Iterator<Item = EventId> {
        let lines = self.lines.get(&subscription).into_iter();
        lines.flat_map(|line| line.backlog.upcoming())
    }

    /// How many of a subscription's deliveries are queued.
    #[cfg(test)]
    pub(crate) fn queued_of(&self, subscription: SubscriptionId) -> usize {
        self.lines
            .get(&subscription)
            .map_or(0, |line| line.backlog.len())
    }

    /// How many deliveries are queued in all.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// How much there is of everything.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            queued: self.queued,
            in_flight: self.in_flight,
            slow_in_flight: self.slow_in_flight,
            waiting: self.wakes.len(),
            waiting_for_host: self.waiting_for_host,
            open_breakers: self.open_breakers,
        }
    }

    /// Whether nothing of a subscription is queued or under way.
    pub(crate) fn is_idle(&self, subscription: SubscriptionId) -> bool {
        self.lines.get(&subscription).is_none_or(Line::is_idle)
    }

    /// Forgets idle subscriptions of which nothing has to be remembered.
    ///
    /// - `is_needed`: says which stay all the same.
    pub(crate) fn drop_lines(
        &mut self,
        now: DateTime<Utc>,
        is_needed: impl Fn(SubscriptionId) -> bool,
    ) {
        let at_rest =
            |(id, line): &(&SubscriptionId, &Line)| !is_needed(**id) && line.is_at_rest(now);
        let ids: Vec<_> = self
            .lines
            .iter()
            .filter(at_rest)
            .map(|(id, _)| *id)
            .collect();
        for subscription in ids {
            self.move_to_host(subscription, None, now);
            if let Some(mut line) = self.lines.remove(&subscription) {
                self.open_breakers -= usize::from(line.pacer.open_since().is_some());
                self.wakes.clear(subscription, &mut line.wake_at);
                self.parks.clear(subscription, &mut line.park_at);
            }
        }
    }

    fn line(&mut self, subscription: SubscriptionId, lane: Lane) -> &mut Line {
        self.lines
            .entry(subscription)
            .or_insert_with(|| Line::new(lane))
    }

    /// Gives a line its place, or a time to think of it again.
    fn enlist(&mut self, subscription: SubscriptionId, now: DateTime<Utc>) {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return;
        };
        if line.place != Place::Nowhere {
            return;
        }
        match (line.gate(now), line.open) {
            (Gate::Open(_), Some(open)) => {
                self.wakes.clear(subscription, &mut line.wake_at);
                self.seat(subscription, open.app);
            }
            (Gate::Later(at), _) => self.wakes.set(subscription, &mut line.wake_at, at),
            _ => self.wakes.clear(subscription, &mut line.wake_at),
        }
    }

    fn seat(&mut self, subscription: SubscriptionId, app: AppId) {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return;
        };
        line.place = match &line.host {
            Some(host) if !self.hosts.has_room(host) => {
                self.hosts.wait(host, subscription);
                self.waiting_for_host += 1;
                Place::Host
            }
            _ if line.pacer.is_slow() => {
                self.slow.add(app, subscription);
                Place::Slow
            }
            host => {
                // So that nobody who comes later takes it before its turn.
                if let Some(host) = host {
                    self.hosts.reserve(host);
                }
                self.fast.add(app, subscription);
                Place::Fast
            }
        };
    }

    /// Takes a line out of its ring; what stands there is passed over.
    fn leave_place(&mut self, subscription: SubscriptionId) {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return;
        };
        if let (Place::Fast, Some(host)) = (line.place, &line.host) {
            self.hosts.unreserve(host);
        }
        self.waiting_for_host -= usize::from(line.place == Place::Host);
        line.place = Place::Nowhere;
    }

    /// Lets lines into the ring that waited for the host of this one.
    fn admit_waiting(&mut self, subscription: SubscriptionId, now: DateTime<Utc>) {
        let host = self.lines.get(&subscription);
        if let Some(host) = host.and_then(|line| line.host.clone()) {
            self.admit(&host, now);
        }
    }

    fn admit(&mut self, host: &str, now: DateTime<Utc>) {
        while let Some(waiting) = self.hosts.next_waiting(host) {
            if self
                .lines
                .get(&waiting)
                .is_some_and(|line| line.place == Place::Host && line.host.as_deref() == Some(host))
            {
                self.leave_place(waiting);
                self.enlist(waiting, now);
            }
        }
    }

    fn move_to_host(
        &mut self,
        subscription: SubscriptionId,
        host: Option<Arc<str>>,
        now: DateTime<Utc>,
    ) {
        self.leave_place(subscription);
        let Some(line) = self.lines.get_mut(&subscription) else {
            return;
        };
        let in_flight = line.in_flight;
        if let Some(host) = &host {
            self.hosts.join(host, in_flight);
        }
        if let Some(before) = std::mem::replace(&mut line.host, host) {
            self.hosts.leave(&before, in_flight);
            self.admit(&before, now);
        }
    }

    /// Changes what is known of a receiver; what is under way is slow or fast with it.
    fn change_pacer(&mut self, subscription: SubscriptionId, change: impl FnOnce(&mut Pacer)) {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return;
        };
        let was_slow = line.pacer.is_slow();
        self.open_breakers -= usize::from(line.pacer.open_since().is_some());
        change(&mut line.pacer);
        self.open_breakers += usize::from(line.pacer.open_since().is_some());
        let is_slow = line.pacer.is_slow();
        if was_slow == is_slow {
            return;
        }
        if is_slow {
            self.slow_in_flight += line.in_flight;
        } else {
            self.slow_in_flight -= line.in_flight;
            if line.place == Place::Slow {
                // Its turn may be long in coming there.
                line.place = Place::Nowhere;
            }
        }
    }

    /// Sees to it that what a breaker holds back does not wait here for long.
    fn watch_held(&mut self, subscription: SubscriptionId, now: DateTime<Utc>) {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return;
        };
        let holds = line.pacer.open_since().is_some() && line.backlog.firsts() > PROBES;
        if holds && line.park_at.is_none() {
            self.parks
                .set(subscription, &mut line.park_at, now + PATIENCE);
        }
    }
}

/// What an attempt's end changed for its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// First attempts are held back from now on.
    pub(crate) opened: bool,
    /// They are sent again.
    pub(crate) closed: bool,
    /// Nothing is sent for so long that nothing of it should wait in memory.
    pub(crate) blocked_for_long: bool,
}
