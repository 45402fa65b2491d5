//! Whose turn it is.
//!
//! Two rings: applications take turns, and within each its subscriptions do. Only
//! subscriptions that can be served right now are in a ring, so the cost of choosing
//! does not grow with how many there are, or how much waits. Pure: no I/O, no clock.

use std::collections::HashMap;

use ringback_model::{AppId, DeliveryId, EventId, Lane, SubscriptionId};

mod queue;
mod turns;

use self::{queue::Queue, turns::Turns};
use crate::row::Row;

/// What waits for its turn in this node's memory, and how much is under way.
#[derive(Debug)]
pub(crate) struct Schedule {
    lines: HashMap<SubscriptionId, Line>,
    turns: Turns,
    queued: usize,
    in_flight: usize,
    max_in_flight: usize,
}

/// One subscription.
#[derive(Debug)]
struct Line {
    lane: Lane,
    queue: Queue,
    in_flight: usize,
    /// `None` while it cannot be served.
    open: Option<Open>,
    /// It is in the ring of its application.
    has_turn: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    app: AppId,
    max_in_flight: usize,
}

impl Line {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            queue: Queue::default(),
            in_flight: 0,
            open: None,
            has_turn: false,
        }
    }

    fn clear(&mut self, subscription: SubscriptionId) -> impl Iterator<Item = Row> {
        let lane = self.lane;
        self.queue
            .clear()
            .map(move |item| item.of(subscription, lane))
    }

    /// The application in whose ring it belongs, if it can be served.
    fn servable(&self) -> Option<AppId> {
        let open = self.open?;
        (self.in_flight < open.max_in_flight && self.queue.is_ready()).then_some(open.app)
    }
}

impl Schedule {
    /// - `max_in_flight`: how many may be under way at once, over all subscriptions.
    pub(crate) fn new(max_in_flight: usize) -> Self {
        let (lines, turns) = (HashMap::new(), Turns::default());
        Self {
            lines,
            turns,
            queued: 0,
            in_flight: 0,
            max_in_flight,
        }
    }

    /// Queues a row at the end.
    pub(crate) fn push(&mut self, row: Row) {
        self.line(row.delivery.subscription, row.lane)
            .queue
            .push(row);
        self.queued += 1;
        self.enlist(row.delivery.subscription);
    }

    /// Takes back what [`Self::next`] gave: it is not under way, and comes first.
    pub(crate) fn put_back(&mut self, row: Row) {
        self.line(row.delivery.subscription, row.lane)
            .queue
            .put_back(row);
        self.queued += 1;
        self.done(row.delivery);
    }

    /// What is to be sent now; it is under way from now on, until [`Self::done`].
    pub(crate) fn next(&mut self) -> Option<Row> {
        if self.in_flight >= self.max_in_flight {
            return None;
        }
        loop {
            let subscription = self.turns.next()?;
            // A line that was closed or emptied meanwhile is passed over.
            let Some(line) = self.lines.get_mut(&subscription) else {
                continue;
            };
            line.has_turn = false;
            if line.servable().is_none() {
                continue;
            }
            let (lane, Some(item)) = (line.lane, line.queue.pop()) else {
                continue;
            };
            line.in_flight += 1;
            self.queued -= 1;
            self.in_flight += 1;
            self.enlist(subscription);
            return Some(item.of(subscription, lane));
        }
    }

    /// One that was under way has ended.
    pub(crate) fn done(&mut self, delivery: DeliveryId) {
        let subscription = delivery.subscription;
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(line) = self.lines.get_mut(&subscription) {
            line.in_flight = line.in_flight.saturating_sub(1);
        }
        self.enlist(subscription);
    }

    /// Says that a subscription can be served.
    ///
    /// - `max_in_flight`: how many of its deliveries may be under way at once.
    pub(crate) fn open(
        &mut self,
        subscription: SubscriptionId,
        lane: Lane,
        app: AppId,
        max_in_flight: usize,
    ) {
        self.line(subscription, lane).open = Some(Open { app, max_in_flight });
        self.enlist(subscription);
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
        self.queued -= line.queue.len();
        line.clear(subscription).collect()
    }

    /// Empties the queues of the lanes that `of` says.
    pub(crate) fn clear_lanes(&mut self, of: impl Fn(Lane) -> bool) -> Vec<Row> {
        let mut cleared = Vec::new();
        for (subscription, line) in self.lines.iter_mut().filter(|(_, line)| of(line.lane)) {
            cleared.extend(line.clear(*subscription));
        }
        self.queued -= cleared.len();
        cleared
    }

    /// Takes one delivery out of its queue, if it is there.
    pub(crate) fn remove(&mut self, delivery: DeliveryId) -> Option<Row> {
        let line = self.lines.get_mut(&delivery.subscription)?;
        let item = line.queue.remove(delivery.event)?;
        self.queued -= 1;
        Some(item.of(delivery.subscription, line.lane))
    }

    /// What comes next of one subscription.
    pub(crate) fn upcoming(&self, subscription: SubscriptionId) -> impl Iterator<Item = EventId> {
        let lines = self.lines.get(&subscription).into_iter();
        lines.flat_map(|line| line.queue.upcoming())
    }

    /// How many of a subscription's deliveries are queued.
    pub(crate) fn queued_of(&self, subscription: SubscriptionId) -> usize {
        self.lines
            .get(&subscription)
            .map_or(0, |line| line.queue.len())
    }

    /// How many deliveries are queued in all.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether nothing of a subscription is queued or under way.
    pub(crate) fn is_idle(&self, subscription: SubscriptionId) -> bool {
        let idle = |line: &Line| line.queue.len() == 0 && line.in_flight == 0;
        self.lines.get(&subscription).is_none_or(idle)
    }

    /// Forgets an idle subscription.
    pub(crate) fn drop_line(&mut self, subscription: SubscriptionId) {
        if self.is_idle(subscription) {
            self.lines.remove(&subscription);
        }
    }

    fn line(&mut self, subscription: SubscriptionId, lane: Lane) -> &mut Line {
        self.lines
            .entry(subscription)
            .or_insert_with(|| Line::new(lane))
    }

    fn enlist(&mut self, subscription: SubscriptionId) {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return;
        };
        let Some(app) = line.servable().filter(|_| !line.has_turn) else {
            return;
        };
        line.has_turn = true;
        self.turns.add(app, subscription);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::Stage;

    const LANE: Lane = Lane::new(0);

    fn sub(number: i64) -> SubscriptionId {
        SubscriptionId::new(number)
    }

    fn row(subscription: i64, event: i64) -> Row {
        let event = EventId::new(event);
        let subscription = sub(subscription);
        Row {
            delivery: DeliveryId {
                event,
                subscription,
            },
            stage: Stage::OUTBOX,
            lane: LANE,
        }
    }

    /// Subscriptions 10, 11, … are of application 1, 20, 21, … of application 2.
    fn schedule(max_in_flight: usize, queues: &[(i64, usize, i64)]) -> Schedule {
        let mut schedule = Schedule::new(max_in_flight);
        for &(number, max, length) in queues {
            (0..length).for_each(|event| schedule.push(row(number, event)));
            schedule.open(sub(number), LANE, AppId::new(number / 10), max);
        }
        schedule
    }

    fn served(schedule: &mut Schedule, most: usize) -> Vec<i64> {
        let next = || schedule.next().map(|row| row.delivery.subscription.get());
        std::iter::from_fn(next).take(most).collect()
    }

    #[test]
    fn applications_take_turns_and_so_do_their_subscriptions() {
        let mut schedule = schedule(100, &[(10, 9, 9), (11, 9, 9), (20, 9, 9)]);
        let first = served(&mut schedule, 8);
        assert_eq!(first, [10, 20, 11, 20, 10, 20, 11, 20]);
    }

    #[test]
    fn each_subscription_keeps_its_order_and_its_limit() {
        let mut schedule = schedule(100, &[(10, 2, 3)]);
        let events: Vec<i64> = std::iter::from_fn(|| schedule.next())
            .map(|row| row.delivery.event.get())
            .collect();
        assert_eq!(events, [0, 1]);
        schedule.done(row(10, 0).delivery);
        assert_eq!(schedule.next(), Some(row(10, 2)));
        assert_eq!((schedule.next(), schedule.queued()), (None, 0));
    }

    #[test]
    fn a_node_has_a_limit_of_its_own() {
        let mut schedule = schedule(3, &[(10, 9, 9), (20, 9, 9)]);
        assert_eq!(served(&mut schedule, 9).len(), 3);
        schedule.done(row(10, 0).delivery);
        assert_eq!(served(&mut schedule, 9).len(), 1);
    }

    #[test]
    fn a_closed_subscription_is_not_served_and_delays_nobody() {
        let mut schedule = schedule(100, &[(10, 9, 2), (11, 9, 1)]);
        assert_eq!(schedule.close(sub(10)), [row(10, 0), row(10, 1)]);
        schedule.push(row(10, 5));
        assert_eq!(served(&mut schedule, 9), [11]);
        schedule.open(sub(10), LANE, AppId::new(1), 1);
        assert_eq!(served(&mut schedule, 9), [10]);
    }

    #[test]
    fn what_is_put_back_comes_first() {
        let mut schedule = schedule(100, &[(10, 1, 2)]);
        let first = schedule.next().unwrap();
        schedule.put_back(first);
        assert_eq!(schedule.next(), Some(row(10, 0)));
        assert_eq!(schedule.queued(), 1);
    }

    #[test]
    fn a_withdrawn_delivery_leaves_its_queue() {
        let mut schedule = schedule(100, &[(10, 9, 3)]);
        let delivery = row(10, 1).delivery;
        assert_eq!(schedule.remove(delivery), Some(row(10, 1)));
        assert_eq!(schedule.remove(delivery), None);
        assert_eq!(schedule.queued(), 2);
        assert_eq!(schedule.clear_lanes(|lane| lane == LANE).len(), 2);
        assert_eq!((schedule.next(), schedule.queued()), (None, 0));
    }

    proptest! {
        /// In whatever order things happen, nothing is lost or served twice, no limit is
        /// exceeded, and nobody who can be served is passed over.
        #[test]
        fn nothing_is_lost_and_no_limit_exceeded(
            steps in prop::collection::vec((0u8..5, 0i64..6), 1..300),
        ) {
            let mut schedule = Schedule::new(5);
            let (mut pushed, mut out) = (0, Vec::new());
            let mut in_flight = HashMap::<SubscriptionId, usize>::new();
            for (step, number) in steps {
                let subscription = sub(number);
                match step {
                    0 | 1 => { schedule.push(row(number, pushed)); pushed += 1; }
                    2 => schedule.open(subscription, LANE, AppId::new(number % 2), 2),
                    3 => if in_flight.get(&subscription).is_some_and(|count| *count > 0) {
                        *in_flight.entry(subscription).or_default() -= 1;
                        schedule.done(row(number, 0).delivery);
                    }
                    _ => while let Some(row) = schedule.next() {
                        let count = in_flight.entry(row.delivery.subscription).or_default();
                        *count += 1;
                        prop_assert!(*count <= 2);
                        prop_assert!(in_flight.values().sum::<usize>() <= 5);
                        out.push(row.delivery.event);
                    }
                }
            }
            for number in 0..6 {
                schedule.open(sub(number), LANE, AppId::new(number % 2), usize::MAX);
            }
            schedule.max_in_flight = usize::MAX;
            out.extend(std::iter::from_fn(|| schedule.next()).map(|row| row.delivery.event));
            out.sort();
            prop_assert_eq!(out, (0..pushed).map(EventId::new).collect::<Vec<_>>());
        }
    }
}
