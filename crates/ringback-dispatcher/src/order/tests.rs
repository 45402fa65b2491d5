//! The order of keys, alone and against a database that is played.

use proptest::prelude::*;
use ringback_store::Transit;

use super::*;
use crate::known::{Known, TakeIn};

const LANE: Lane = Lane::new(0);
const MOST: usize = 1000;

fn start() -> DateTime<Utc> {
    "2026-01-05T09:00:00Z".parse().unwrap()
}

fn after_s(seconds: i64) -> DateTime<Utc> {
    start() + TimeDelta::seconds(seconds)
}

fn sub() -> SubscriptionId {
    SubscriptionId::new(1)
}

fn key(number: i64) -> OrderKey {
    OrderKey::new(number)
}

fn delivery(event: i64) -> DeliveryId {
    DeliveryId {
        event: EventId::new(event),
        subscription: sub(),
    }
}

fn row(event: i64) -> Row {
    Row {
        delivery: delivery(event),
        stage: Stage::OUTBOX,
        lane: LANE,
    }
}

fn due(event: i64, of: i64, due_at: DateTime<Utc>) -> DueRetry {
    DueRetry {
        lane: LANE,
        delivery: delivery(event),
        order: Some(key(of)),
        attempts_made: 1,
        round_start: 0,
        due_at,
    }
}

/// With its first look done, which brought these heads.
fn opened(heads: Vec<DueRetry>) -> Order {
    let mut order = Order::default();
    assert!(order.open(sub(), LANE, true, 0));
    order.read(LANE, 1, EventId::MAX);
    look_through(&mut order, heads);
    order
}

fn look_through(order: &mut Order, heads: Vec<DueRetry>) {
    let look = order.next_look(start());
    let Some(OrderLook::Heads { after, round, .. }) = look else {
        panic!("{look:?}")
    };
    let found = OrderHeads { heads, next: None };
    order.looked_through(sub(), (after, round), &found, 1, start(), |_| true);
}

/// Rows of the outbox: event and key.
fn insert(order: &mut Order, rows: &[(i64, i64)]) {
    for (event, of) in rows {
        assert!(order.insert(row(*event), key(*of), start(), MOST, false));
    }
}

fn sent(order: &mut Order) -> Vec<i64> {
    std::iter::from_fn(|| order.next())
        .map(|row| row.delivery.event.get())
        .collect()
}

fn settle(order: &mut Order, event: i64, retry: Option<DateTime<Utc>>) -> Displaced {
    order
        .settled(delivery(event), retry, 2, start(), MOST)
        .unwrap()
}

/// Answers the next look, which must be at this key.
fn look_at(order: &mut Order, of: i64, now: DateTime<Utc>, mark: u64, rows: &[DueRetry]) {
    assert_eq!(
        order.next_look(now),
        Some(OrderLook::Keys(vec![(sub(), key(of))]))
    );
    order.looked(&[(sub(), key(of))], rows, mark, now, |_| true);
}

#[test]
fn of_each_key_one_is_out_until_what_became_of_it_is_committed() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(1, 7), (2, 7), (3, 8), (4, 7)]);
    assert_eq!(sent(&mut order), [1, 3]);
    assert_eq!(sent(&mut order), [0; 0]);
    settle(&mut order, 1, None);
    assert_eq!(sent(&mut order), [2]);
    assert_eq!(order.waiting(), 1);
}

#[test]
fn nothing_is_sent_before_all_keys_were_looked_through() {
    let mut order = Order::default();
    order.open(sub(), LANE, true, 0);
    order.read(LANE, 1, EventId::MAX);
    insert(&mut order, &[(5, 7), (6, 8)]);
    assert_eq!(sent(&mut order), [0; 0]);
    look_through(&mut order, vec![due(2, 7, after_s(60))]);
    assert_eq!(sent(&mut order), [6]);
}

#[test]
fn a_row_that_came_late_takes_its_place() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(5, 7), (3, 7)]);
    assert_eq!(sent(&mut order), [3]);
}

#[test]
fn what_waits_for_its_time_blocks_its_key_and_no_other() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(1, 7), (2, 7), (3, 8)]);
    assert_eq!(sent(&mut order), [1, 3]);
    assert_eq!(
        settle(&mut order, 1, Some(after_s(5))),
        Displaced::default()
    );
    settle(&mut order, 3, None);
    assert_eq!(sent(&mut order), [0; 0]);
    assert_eq!(order.look_at(), Some(after_s(5)));
    look_at(&mut order, 7, after_s(5), 2, &[due(1, 7, after_s(5))]);
    assert_eq!(sent(&mut order), [1]);
    settle(&mut order, 1, None);
    assert_eq!(sent(&mut order), [2]);
}

#[test]
fn what_is_gone_from_the_retries_blocks_no_longer() {
    let mut order = opened(vec![due(1, 7, after_s(5))]);
    insert(&mut order, &[(2, 7)]);
    look_at(&mut order, 7, after_s(5), 2, &[]);
    assert_eq!(sent(&mut order), [2]);
}

#[test]
fn a_look_that_began_before_a_row_came_to_the_retries_says_nothing() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(1, 7), (2, 7)]);
    assert_eq!(sent(&mut order), [1]);
    settle(&mut order, 1, Some(start())); // marked 2
    look_at(&mut order, 7, start(), 1, &[]);
    assert_eq!(sent(&mut order), [0; 0]);
    look_at(&mut order, 7, start(), 2, &[due(1, 7, start())]);
    assert_eq!(sent(&mut order), [1]);
}

#[test]
fn a_replay_of_an_older_event_goes_next() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(5, 7), (6, 7)]);
    assert_eq!(sent(&mut order), [5]);
    order.look_through(sub());
    look_through(&mut order, vec![due(2, 7, start())]);
    settle(&mut order, 5, None);
    assert_eq!(sent(&mut order), [2]);
    settle(&mut order, 2, None);
    // Perhaps there are more.
    assert_eq!(sent(&mut order), [0; 0]);
    look_at(&mut order, 7, start(), 2, &[]);
    assert_eq!(sent(&mut order), [6]);
}

#[test]
fn behind_a_row_that_waits_for_long_nothing_stays_in_memory() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(1, 7), (2, 7), (3, 7)]);
    assert_eq!(sent(&mut order), [1]);
    let displaced = settle(&mut order, 1, Some(after_s(61)));
    assert_eq!(displaced.to_park, [(row(2), key(7)), (row(3), key(7))]);
    assert!(!order.insert(row(4), key(7), start(), MOST, false));
    assert_eq!(order.waiting(), 0);
    for event in [2, 3, 4] {
        order.parked(delivery(event), key(7), 3);
    }
    assert_eq!(order.look_at(), Some(after_s(61)));
}

#[test]
fn what_waits_behind_blocked_keys_has_a_tenth_of_the_room() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(1, 7), (2, 8)]);
    assert_eq!(sent(&mut order), [1, 2]);
    settle(&mut order, 1, Some(after_s(5)));
    for event in 10..110 {
        assert!(
            order.insert(row(event), key(7), start(), MOST, false),
            "{event}"
        );
    }
    assert!(!order.insert(row(110), key(7), start(), MOST, false));
    // Who is not blocked may use the rest.
    insert(&mut order, &[(111, 8)]);
    settle(&mut order, 2, None);
    assert_eq!(sent(&mut order), [111]);
}

#[test]
fn a_cancelled_delivery_releases_its_key_wherever_it_is() {
    let mut order = opened(vec![due(1, 7, after_s(50))]);
    insert(&mut order, &[(2, 7), (3, 7), (4, 8), (5, 8)]);
    assert_eq!(order.withdraw(delivery(1), false), None);
    assert_eq!(order.withdraw(delivery(2), false), Some(row(2)));
    assert_eq!(sent(&mut order), [4]);
    // What is beyond the first look is not known yet.
    look_at(&mut order, 7, start(), 2, &[]);
    assert_eq!(sent(&mut order), [3]);
    // Under way: its result is recorded, and nothing follows.
    order.withdraw(delivery(4), false);
    settle(&mut order, 4, Some(after_s(5)));
    look_at(&mut order, 8, start(), 2, &[]);
    assert_eq!(sent(&mut order), [5]);
}

#[test]
fn a_subscription_that_is_paused_goes_to_the_retries_and_comes_back_from_there() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(1, 7), (2, 7), (3, 7)]);
    assert_eq!(sent(&mut order), [1]);
    let displaced = order.pause(sub(), LANE, true);
    let mut events: Vec<_> = displaced
        .to_park
        .iter()
        .map(|(row, _)| row.delivery.event.get())
        .collect();
    events.sort();
    assert_eq!(events, [2, 3]);
    assert!(!order.insert(row(4), key(7), start(), MOST, false));
    assert!(order.open(sub(), LANE, true, 3) && !order.takes(sub(), 2));
    let look = order.next_look(start());
    assert!(matches!(look, Some(OrderLook::Heads { .. })), "{look:?}");
    // One that is out still holds the key.
    insert(&mut order, &[(5, 7)]);
    assert_eq!(sent(&mut order), [0; 0]);
}

#[test]
fn a_lane_that_comes_back_is_looked_through_again() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(1, 7), (2, 7)]);
    assert_eq!(order.drop_lanes(|lane| lane == LANE).len(), 2);
    assert_eq!((sent(&mut order), order.look_at()), (vec![], None));
    order.add_lanes(&[LANE], 5);
    assert!(!order.takes(sub(), 4) && order.takes(sub(), 5));
    insert(&mut order, &[(1, 7)]);
    look_through(&mut order, vec![]);
    assert_eq!(sent(&mut order), [0; 0]);
    order.read(LANE, 2, EventId::new(1));
    assert_eq!(sent(&mut order), [1]);
}

#[test]
fn what_there_was_no_memory_for_is_not_overtaken() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(1, 7)]);
    for event in [3, 4] {
        order.refused(delivery(event), 2, false);
    }
    insert(&mut order, &[(5, 8)]);
    assert_eq!(sent(&mut order), [1]);
    // The next pass gets a little further, the last one to the end.
    insert(&mut order, &[(3, 9)]);
    order.refused(delivery(4), 3, true);
    order.read(LANE, 3, EventId::MAX);
    assert_eq!(sent(&mut order), [3]);
    insert(&mut order, &[(4, 9)]);
    order.read(LANE, 4, EventId::new(4));
    assert_eq!(sent(&mut order), [0; 0]);
    order.read(LANE, 4, EventId::MAX);
    assert_eq!(sent(&mut order), [5]);
}

#[test]
fn a_look_that_failed_is_repeated() {
    let mut order = Order::default();
    order.open(sub(), LANE, true, 0);
    order.read(LANE, 1, EventId::MAX);
    let look = order.next_look(start()).unwrap();
    assert_eq!(order.next_look(start()), None);
    order.look_failed(&look);
    look_through(&mut order, vec![due(1, 7, after_s(5))]);
    let look = order.next_look(after_s(5)).unwrap();
    order.look_failed(&look);
    look_at(&mut order, 7, after_s(5), 2, &[due(1, 7, after_s(5))]);
    assert_eq!(sent(&mut order), [1]);
}

#[test]
fn who_has_nothing_left_is_forgotten() {
    let mut order = opened(vec![]);
    insert(&mut order, &[(1, 7), (2, 7)]);
    assert!(!order.is_idle(sub()));
    sent(&mut order);
    settle(&mut order, 1, None);
    sent(&mut order);
    settle(&mut order, 2, None);
    assert!(order.is_idle(sub()));
    let line = &order.lines[&sub()];
    assert!(line.keys.is_empty() && line.key_of.is_empty());
}

/// When it began, and the events and keys that it saw.
type Read = (ringback_store::Ticket, u64, Vec<(i64, i64)>);

/// A database and a dispatcher that do one thing at a time.
#[derive(Default)]
struct Play {
    order: Order,
    known: Known,
    transit: Transit,
    now_s: i64,
    most: usize,
    next_event: i64,
    outbox: BTreeMap<i64, i64>,
    retries: BTreeMap<i64, Waiting>,
    settled: Vec<(i64, i64)>,
    /// Rows that came back by a replay: when that is noticed is not promised.
    replayed: BTreeSet<i64>,
    sent: Vec<Row>,
    reads: VecDeque<Read>,
    passes: u64,
    look: Option<(ringback_store::Ticket, u64, OrderLook, Vec<DueRetry>)>,
    results: VecDeque<(i64, Option<DateTime<Utc>>)>,
    to_park: Vec<(Row, OrderKey)>,
    parked: VecDeque<Vec<(Row, OrderKey)>>,
}

#[derive(Clone, Copy)]
struct Waiting {
    key: i64,
    attempts: u16,
    round: u16,
    due_s: i64,
}

impl Play {
    fn new(most: usize) -> Self {
        let mut play = Self {
            most,
            ..Self::default()
        };
        play.order.open(sub(), LANE, true, play.transit.mark());
        play
    }

    fn now(&self) -> DateTime<Utc> {
        after_s(self.now_s)
    }

    fn accept(&mut self, key: i64) {
        self.next_event += 1;
        self.outbox.insert(self.next_event, key);
    }

    fn begin_read(&mut self) {
        let mark = self.transit.mark();
        let rows = self.outbox.iter().map(|(event, key)| (*event, *key));
        self.reads
            .push_back((self.transit.begin(), mark, rows.collect()));
    }

    /// - `room`: how many rows there is memory for.
    fn end_read(&mut self, room: usize) {
        let Some((ticket, mark, rows)) = self.reads.pop_front() else {
            return;
        };
        if !self.order.takes(sub(), mark) {
            return;
        }
        self.passes += 1;
        for (index, (event, of)) in rows.into_iter().enumerate() {
            if index >= room {
                if !self.known.contains(delivery(event)) {
                    self.order.refused(delivery(event), self.passes, true);
                }
                continue;
            }
            if self.known.take_in(delivery(event), Stage::OUTBOX) != TakeIn::New {
                continue;
            }
            let (now, most) = (self.now(), self.most);
            if !self
                .order
                .insert(row(event), key(of), now, most, self.order.blocked() > 5)
            {
                self.to_park.push((row(event), key(of)));
            }
        }
        self.order.read(LANE, self.passes, EventId::MAX);
        drop(ticket);
    }

    fn in_retries(&self, of: OrderKey, limit: usize) -> Vec<DueRetry> {
        let of_key = |(_, waiting): &(&i64, &Waiting)| key(waiting.key) == of;
        let rows = self.retries.iter().filter(of_key).take(limit);
        rows.map(|(event, waiting)| DueRetry {
            attempts_made: waiting.attempts,
            round_start: waiting.round,
            ..due(*event, waiting.key, after_s(waiting.due_s))
        })
        .collect()
    }

    fn begin_look(&mut self) {
        if self.look.is_some() {
            return;
        }
        let mark = self.transit.mark();
        let Some(look) = self.order.next_look(self.now()) else {
            return;
        };
        let rows = match &look {
            OrderLook::Heads { .. } => {
                let keys: BTreeSet<_> = self.retries.values().map(|row| row.key).collect();
                let head = |of: &i64| self.in_retries(key(*of), 1);
                keys.iter().flat_map(head).collect()
            }
            OrderLook::Keys(keys) => keys
                .iter()
                .flat_map(|(_, of)| self.in_retries(*of, PER_KEY))
                .collect(),
        };
        self.look = Some((self.transit.begin(), mark, look, rows));
    }

    fn end_look(&mut self) {
        let Some((ticket, mark, look, rows)) = self.look.take() else {
            return;
        };
        let now = self.now();
        let known = &mut self.known;
        let take_in = |row: Row| known.take_in(row.delivery, row.stage) == TakeIn::New;
        match look {
            OrderLook::Heads { after, round, .. } => {
                let found = OrderHeads {
                    heads: rows,
                    next: None,
                };
                self.order
                    .looked_through(sub(), (after, round), &found, mark, now, take_in);
            }
            OrderLook::Keys(keys) => {
                self.order.looked(&keys, &rows, mark, now, take_in);
            }
        }
        drop(ticket);
    }

    /// Sends what may be sent, and asserts that nothing came before it.
    fn send(&mut self) {
        let Some(row) = self.order.next() else {
            return;
        };
        let event = row.delivery.event.get();
        let key = self.key_of(event);
        let before = |(other, of): (&i64, i64)| {
            *other < event && Some(of) == key && !self.replayed.contains(other)
        };
        let outbox = self.outbox.iter().map(|(other, of)| (other, *of));
        let retries = self.retries.iter().map(|(other, row)| (other, row.key));
        let overtaken: Vec<_> = outbox.chain(retries).filter(|one| before(*one)).collect();
        assert!(overtaken.is_empty(), "{event} overtook {overtaken:?}");
        let key_is_free = |other: &Row| self.key_of(other.delivery.event.get()) != key;
        assert!(
            key.is_none() || self.sent.iter().all(key_is_free),
            "{event} is sent beside another of its key"
        );
        self.sent.push(row);
    }

    fn key_of(&self, event: i64) -> Option<i64> {
        let retry = self.retries.get(&event).map(|waiting| waiting.key);
        self.outbox.get(&event).copied().or(retry)
    }

    /// What became of a row is committed; nobody has heard of it yet.
    fn commit(&mut self, which: usize, retry_after_s: Option<i64>) {
        if self.sent.is_empty() {
            return;
        }
        let row = self.sent.remove(which % self.sent.len());
        let event = row.delivery.event.get();
        let attempts = row.stage.attempts_made();
        let is_there = match self.retries.get(&event) {
            Some(waiting) => Stage::retries(waiting.attempts, waiting.round) == row.stage,
            None => row.stage == Stage::OUTBOX && self.outbox.contains_key(&event),
        };
        let retry = retry_after_s.map(|seconds| self.now_s + seconds);
        if is_there {
            let key = self.key_of(event).unwrap();
            self.outbox.remove(&event);
            self.retries.remove(&event);
            match retry {
                Some(due_s) => {
                    let round = row.stage.round_start();
                    let waiting = Waiting {
                        key,
                        attempts: attempts + 1,
                        round,
                        due_s,
                    };
                    self.retries.insert(event, waiting);
                }
                None => self.settled.push((event, key)),
            }
        }
        self.results.push_back((event, retry.map(after_s)));
    }

    fn hear(&mut self) {
        let Some((event, retry)) = self.results.pop_front() else {
            return;
        };
        let mark = self.transit.mark();
        let (now, most) = (self.now(), self.most);
        let displaced = self
            .order
            .settled(delivery(event), retry, mark, now, most)
            .unwrap();
        self.to_park.extend(displaced.to_park);
        for row in displaced.let_go {
            self.known.forget(row.delivery, row.stage, mark);
        }
        self.known.settled(vec![delivery(event)], mark);
    }

    fn park(&mut self) {
        let rows = std::mem::take(&mut self.to_park);
        for (row, _) in &rows {
            let event = row.delivery.event.get();
            if let Some(key) = self.outbox.remove(&event) {
                let waiting = Waiting {
                    key,
                    attempts: 0,
                    round: 0,
                    due_s: self.now_s,
                };
                self.retries.insert(event, waiting);
            }
        }
        self.parked.push_back(rows);
    }

    fn hear_parked(&mut self) {
        let mark = self.transit.mark();
        if let Some(rows) = self.parked.pop_front() {
            for (row, key) in &rows {
                self.order.parked(row.delivery, *key, mark);
            }
            let parked = rows.iter().map(|(row, _)| row.delivery).collect();
            self.known.settled(parked, mark);
        }
    }

    fn cancel(&mut self, which: usize, is_heard_of: bool) {
        let events: Vec<i64> = self
            .outbox
            .keys()
            .chain(self.retries.keys())
            .copied()
            .collect();
        let Some(event) = events.get(which % events.len().max(1)).copied() else {
            return;
        };
        self.outbox.remove(&event);
        self.retries.remove(&event);
        if !is_heard_of {
            return;
        }
        let is_in_hand = self.known.contains(delivery(event));
        let waited = self.order.withdraw(delivery(event), false).is_some();
        if waited || !is_in_hand {
            self.known.withdraw(delivery(event), self.transit.mark());
        }
    }

    fn replay(&mut self, which: usize) {
        if self.settled.is_empty() {
            return;
        }
        let (event, key) = self.settled.remove(which % self.settled.len());
        let waiting = Waiting {
            key,
            attempts: 50,
            round: 50,
            due_s: self.now_s,
        };
        self.replayed.insert(event);
        self.retries.insert(event, waiting);
        self.order.look_through(sub());
    }

    fn lose_and_regain_the_lane(&mut self) {
        let mark = self.transit.mark();
        for row in self.order.drop_lanes(|_| true) {
            self.known.forget(row.delivery, row.stage, mark);
        }
        self.order.add_lanes(&[LANE], mark);
    }

    fn tidy(&mut self) {
        let passed = self.known.passed(&self.transit);
        self.known.drop_passed(passed);
    }

    fn step(&mut self, step: u8, number: usize) {
        match step {
            0..=2 => self.accept((number % 4) as i64),
            3 => self.begin_read(),
            4 if number.is_multiple_of(3) => self.end_read(number % 7),
            4 => self.end_read(usize::MAX),
            5 => self.begin_look(),
            6 => self.end_look(),
            7..=9 => self.send(),
            10 => self.commit(number, None),
            11 => self.commit(number, Some(number as i64 % 90)),
            12 | 13 => self.hear(),
            14 => self.park(),
            15 => self.hear_parked(),
            16 => self.now_s += number as i64 % 40,
            17 => self.cancel(number, number.is_multiple_of(2)),
            18 => self.replay(number),
            _ if number.is_multiple_of(8) => self.lose_and_regain_the_lane(),
            _ => {}
        }
        self.tidy();
    }

    /// Goes on until nothing is left.
    fn finish(&mut self) {
        for round in 0..2000 {
            if self.outbox.is_empty() && self.retries.is_empty() {
                return;
            }
            for step in [3, 4, 5, 6, 7, 7, 7, 10, 10, 12, 12, 14, 15] {
                self.step(step, 1);
            }
            self.now_s += 1;
            if round % 30 == 0 {
                // The scan of all that waits.
                self.order.look_through(sub());
            }
        }
        let left: Vec<_> = self.retries.keys().chain(self.outbox.keys()).collect();
        panic!("never sent: {left:?}\n{:#?}", self.order);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// In whatever order reads, looks, results and parkings begin and end: no event is
    /// sent before another of its key that was accepted earlier, or beside it, and none
    /// is forgotten.
    #[test]
    fn no_interleaving_breaks_the_order_or_forgets_a_row(
        most in prop::sample::select(vec![4, 50, 1000]),
        steps in prop::collection::vec((0u8..20, 0usize..1000), 1..300),
    ) {
        let mut play = Play::new(most);
        for (step, number) in steps {
            play.step(step, number);
        }
        play.finish();
    }
}
