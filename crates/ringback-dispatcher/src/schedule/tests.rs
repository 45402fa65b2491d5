//! Whose turn it is, under every limit.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{signal::Complaint, *};

const LANE: Lane = Lane::new(0);

fn now() -> DateTime<Utc> {
    "2026-01-05T09:00:00Z".parse().unwrap()
}

fn terms(app: i64, max_in_flight: usize) -> Terms {
    Terms {
        app: AppId::new(app),
        max_in_flight,
        rate_per_s: None,
        host: None,
        sent_to: true,
    }
}

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
    let mut schedule = Schedule::new(max_in_flight, usize::MAX);
    for &(number, max, length) in queues {
        (0..length).for_each(|event| schedule.push(row(number, event), now()));
        schedule.open(sub(number), LANE, terms(number / 10, max), now());
    }
    schedule
}

fn served(schedule: &mut Schedule, most: usize) -> Vec<i64> {
    let next = || {
        schedule
            .next(now())
            .map(|row| row.delivery.subscription.get())
    };
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
    let events: Vec<i64> = std::iter::from_fn(|| schedule.next(now()))
        .map(|row| row.delivery.event.get())
        .collect();
    assert_eq!(events, [0, 1]);
    schedule.done(row(10, 0).delivery, now());
    assert_eq!(schedule.next(now()), Some(row(10, 2)));
    assert_eq!((schedule.next(now()), schedule.queued()), (None, 0));
}

#[test]
fn a_node_has_a_limit_of_its_own() {
    let mut schedule = schedule(3, &[(10, 9, 9), (20, 9, 9)]);
    assert_eq!(served(&mut schedule, 9).len(), 3);
    schedule.done(row(10, 0).delivery, now());
    assert_eq!(served(&mut schedule, 9).len(), 1);
}

#[test]
fn a_closed_subscription_is_not_served_and_delays_nobody() {
    let mut schedule = schedule(100, &[(10, 9, 2), (11, 9, 1)]);
    assert_eq!(schedule.close(sub(10)), [row(10, 0), row(10, 1)]);
    schedule.push(row(10, 5), now());
    assert_eq!(served(&mut schedule, 9), [11]);
    schedule.open(sub(10), LANE, terms(1, 1), now());
    assert_eq!(served(&mut schedule, 9), [10]);
}

#[test]
fn what_is_put_back_comes_first() {
    let mut schedule = schedule(100, &[(10, 1, 2)]);
    let first = schedule.next(now()).unwrap();
    schedule.put_back(first, now());
    assert_eq!(schedule.next(now()), Some(row(10, 0)));
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
    assert_eq!((schedule.next(now()), schedule.queued()), (None, 0));
}

proptest! {
    /// In whatever order things happen, nothing is lost or served twice, no limit is
    /// exceeded, and nobody who can be served is passed over.
    #[test]
    fn nothing_is_lost_and_no_limit_exceeded(
        steps in prop::collection::vec((0u8..5, 0i64..6), 1..300),
    ) {
        let mut schedule = Schedule::new(5, usize::MAX);
        let (mut pushed, mut out) = (0, Vec::new());
        let mut in_flight = HashMap::<SubscriptionId, usize>::new();
        for (step, number) in steps {
            let subscription = sub(number);
            match step {
                0 | 1 => { schedule.push(row(number, pushed), now()); pushed += 1; }
                2 => schedule.open(subscription, LANE, terms(number % 2, 2), now()),
                3 => if in_flight.get(&subscription).is_some_and(|count| *count > 0) {
                    *in_flight.entry(subscription).or_default() -= 1;
                    schedule.done(row(number, 0).delivery, now());
                }
                _ => while let Some(row) = schedule.next(now()) {
                    let count = in_flight.entry(row.delivery.subscription).or_default();
                    *count += 1;
                    prop_assert!(*count <= 2);
                    prop_assert!(in_flight.values().sum::<usize>() <= 5);
                    out.push(row.delivery.event);
                }
            }
        }
        for number in 0..6 {
            schedule.open(sub(number), LANE, terms(number % 2, usize::MAX), now());
        }
        schedule.max_in_flight = usize::MAX;
        out.extend(std::iter::from_fn(|| schedule.next(now())).map(|row| row.delivery.event));
        out.sort();
        prop_assert_eq!(out, (0..pushed).map(EventId::new).collect::<Vec<_>>());
    }
}

fn at(ms: i64) -> DateTime<Utc> {
    now() + TimeDelta::milliseconds(ms)
}

/// A row of the retries, attempted once.
fn retry(subscription: i64, event: i64) -> Row {
    let stage = Stage::retries(1, 0);
    Row {
        stage,
        ..row(subscription, event)
    }
}

fn host(name: &str) -> Option<Arc<str>> {
    Some(name.into())
}

fn success(at: DateTime<Utc>, total_ms: u32) -> Signal {
    Signal {
        started_at: at,
        ended_at: at,
        total_ms,
        timed_out: false,
        failure: None,
    }
}

fn failure(at: DateTime<Utc>, complaint: Complaint) -> Signal {
    Signal {
        failure: Some(complaint),
        ..success(at, 10)
    }
}

/// Serves one, which ends like that.
fn serve(schedule: &mut Schedule, at: DateTime<Utc>, signal: Signal) -> Option<Row> {
    let row = schedule.next(at)?;
    schedule.attempted(row.delivery.subscription, &signal, 0.0);
    schedule.done(row.delivery, at);
    Some(row)
}

/// Opens the breaker of subscription 10.
fn broken(length: i64) -> Schedule {
    let mut schedule = schedule(100, &[(10, 9, length + 5)]);
    let unreachable = Complaint {
        unreachable: true,
        ..Complaint::default()
    };
    for _ in 0..5 {
        serve(&mut schedule, now(), failure(now(), unreachable));
    }
    schedule
}

#[test]
fn slow_subscriptions_get_half_at_most_and_fast_ones_all_that_is_free() {
    let mut schedule = schedule(8, &[(10, 9, 20), (11, 9, 20), (20, 9, 1)]);
    for subscription in [10, 11] {
        schedule.attempted(sub(subscription), &success(now(), 5000), 0.0);
    }
    let first = served(&mut schedule, 9);
    assert_eq!(first.iter().filter(|number| **number != 20).count(), 4);
    assert_eq!(first.len(), 5);
    (0..9).for_each(|event| schedule.push(row(20, event), now()));
    assert_eq!(served(&mut schedule, 9), [20, 20, 20]);
    assert_eq!(schedule.stats().slow_in_flight, 4);
}

#[test]
fn who_answers_fast_again_leaves_the_slow_half() {
    let mut schedule = schedule(4, &[(10, 9, 20)]);
    schedule.attempted(sub(10), &success(now(), 2400), 0.0);
    assert_eq!(served(&mut schedule, 9).len(), 2);
    schedule.attempted(sub(10), &success(now(), 10), 0.0);
    schedule.done(row(10, 0).delivery, now());
    assert_eq!(served(&mut schedule, 9).len(), 3);
    assert_eq!(schedule.stats().slow_in_flight, 0);
}

#[test]
fn who_waits_for_its_rate_comes_back_by_time() {
    let mut schedule = Schedule::new(100, 100);
    (0..4).for_each(|event| schedule.push(row(10, event), now()));
    let limited = Terms {
        rate_per_s: Some(2.0),
        ..terms(1, 9)
    };
    schedule.open(sub(10), LANE, limited, now());
    assert_eq!(served(&mut schedule, 9).len(), 2);
    assert_eq!(schedule.next_at(), Some(at(500)));
    schedule.wake(at(499));
    assert_eq!(schedule.next(at(499)), None);
    schedule.wake(at(500));
    assert_eq!(schedule.next(at(500)), Some(row(10, 2)));
    assert_eq!(schedule.next(at(500)), None);
    // What was not sent after all does not count.
    schedule.put_back(row(10, 2), at(500));
    assert_eq!(schedule.next(at(500)), Some(row(10, 2)));
    assert_eq!(schedule.next_at(), Some(at(1000)));
}

#[test]
fn a_host_has_a_limit_over_all_who_name_it_and_they_take_turns() {
    let mut schedule = Schedule::new(100, 2);
    for number in [10, 11, 20] {
        (0..4).for_each(|event| schedule.push(row(number, event), now()));
        let shared = Terms {
            host: host("r.example"),
            ..terms(number / 10, 9)
        };
        schedule.open(sub(number), LANE, shared, now());
    }
    (0..4).for_each(|event| schedule.push(row(30, event), now()));
    schedule.open(sub(30), LANE, terms(3, 9), now());
    let mut first = served(&mut schedule, 99);
    assert_eq!(first.iter().filter(|number| **number != 30).count(), 2);
    assert_eq!(schedule.hosts.in_flight("r.example"), 2);
    first.retain(|number| *number != 30);
    // Each that ends makes room for the one that has waited longest.
    let mut order = first.clone();
    for index in 0..10 {
        schedule.done(row(order[index], 0).delivery, now());
        order.extend(served(&mut schedule, 9));
        assert_eq!(order.len(), index + 3);
    }
    for turn in order.chunks_exact(3) {
        let mut turn = turn.to_vec();
        turn.sort();
        assert_eq!(turn, [10, 11, 20], "{order:?}");
    }
}

#[test]
fn a_subscription_that_moves_makes_room_at_its_host() {
    let mut schedule = Schedule::new(100, 1);
    let named = |number: i64, name| Terms {
        host: host(name),
        ..terms(number, 9)
    };
    for number in [1, 2] {
        schedule.push(row(number, 1), now());
        schedule.open(sub(number), LANE, named(number, "r.example"), now());
    }
    assert_eq!(served(&mut schedule, 9), [1]);
    schedule.open(sub(1), LANE, named(1, "s.example"), now());
    assert_eq!(served(&mut schedule, 9), [2]);
}

#[test]
fn nothing_is_sent_before_the_receiver_wants_it() {
    let mut schedule = schedule(100, &[(10, 9, 3)]);
    schedule.push(retry(10, 9), now());
    let wait = |seconds| Complaint {
        retry_after: Some(Duration::from_secs(seconds)),
        ..Complaint::default()
    };
    serve(&mut schedule, now(), failure(now(), wait(3)));
    // A shorter one does not shorten it.
    schedule.attempted(sub(10), &failure(at(500), wait(1)), 0.0);
    assert_eq!(
        (schedule.next(at(2999)), schedule.next_at()),
        (None, Some(at(3000)))
    );
    assert_eq!(
        schedule.may_look(sub(10), 100, at(2999)),
        MayLook::NotBefore(at(3000))
    );
    schedule.wake(at(3000));
    assert!(schedule.next(at(3000)).is_some() && schedule.next(at(3000)).is_some());
    assert_eq!(schedule.may_look(sub(10), 100, at(3000)), MayLook::Now);
}

#[test]
fn what_is_not_wanted_for_long_does_not_wait_here() {
    let mut schedule = schedule(100, &[(10, 9, 1)]);
    let wait = Complaint {
        retry_after: Some(Duration::from_secs(3600)),
        ..Complaint::default()
    };
    let effect = schedule.attempted(sub(10), &failure(now(), wait), 0.0);
    assert!(effect.blocked_for_long);
    assert_eq!(schedule.room(row(10, 5), 100, now()), Room::Blocked);
    assert_eq!(schedule.parked_due_at(sub(10), now()), Some(at(3_600_000)));
    assert_eq!(schedule.room(row(10, 5), 100, at(3_540_000)), Room::Here);
}

#[test]
fn an_overloaded_receiver_gets_fewer_at_once_and_first_attempts_pause() {
    let mut schedule = schedule(100, &[(10, 4, 20)]);
    assert_eq!(served(&mut schedule, 99).len(), 4);
    let overloaded = Complaint {
        overloaded: true,
        ..Complaint::default()
    };
    for _ in 0..4 {
        schedule.attempted(sub(10), &failure(now(), overloaded), 0.0);
        schedule.done(row(10, 0).delivery, now());
    }
    schedule.push(retry(10, 99), now());
    assert_eq!(schedule.next(at(249)), Some(retry(10, 99)));
    assert_eq!(
        (schedule.next(at(249)), schedule.next_at()),
        (None, Some(at(250)))
    );
    schedule.wake(at(250));
    assert!(schedule.next(at(250)).is_some());
    assert_eq!(schedule.next(at(250)), None, "two at once, not four");
}

#[test]
fn an_open_breaker_holds_first_attempts_but_no_retry() {
    let mut schedule = broken(9);
    assert_eq!(schedule.next(at(29_999)), None);
    schedule.push(retry(10, 99), now());
    schedule.push(retry(10, 98), now());
    let unreachable = Complaint::default();
    assert_eq!(
        serve(&mut schedule, at(7000), failure(at(7000), unreachable)),
        Some(retry(10, 99))
    );
    assert!(schedule.next(at(7000)).is_some(), "the other retry");
    assert_eq!(schedule.next(at(7000)), None, "one at a time");
}

#[test]
fn without_a_retry_one_first_attempt_is_the_probe() {
    let mut schedule = broken(9);
    assert_eq!(schedule.next(now()), None);
    assert_eq!(schedule.next_at(), Some(at(30_000)));
    schedule.wake(at(30_000));
    assert!(schedule.next(at(30_000)).is_some());
    assert_eq!(schedule.next(at(30_000)), None);
    // It was not sent after all, and is at once.
    schedule.put_back(row(10, 5), at(30_000));
    assert_eq!(schedule.next(at(30_000)), Some(row(10, 5)));
}

/// No herd after an outage.
#[test]
fn a_success_closes_the_breaker_and_what_waits_is_sent_slowly_at_first() {
    let mut schedule = broken(99);
    let row = schedule.next(at(30_000)).or_else(|| {
        schedule.wake(at(30_000));
        schedule.next(at(30_000))
    });
    let effect = schedule.attempted(sub(10), &success(at(30_000), 10), 0.0);
    assert!(effect.closed && !effect.opened);
    schedule.done(row.unwrap().delivery, at(30_000));
    let mut rounds = Vec::new();
    for _ in 0..5 {
        let round: Vec<_> = std::iter::from_fn(|| schedule.next(at(30_000))).collect();
        rounds.push(round.len());
        for row in round {
            schedule.attempted(sub(10), &success(at(30_000), 10), 0.0);
            schedule.done(row.delivery, at(30_000));
        }
    }
    assert_eq!(rounds, [1, 2, 4, 8, 9]);
}

#[test]
fn what_a_breaker_holds_back_for_a_minute_is_parked_but_for_a_few_probes() {
    let mut schedule = broken(40);
    let mut parked_already = row(10, 77);
    parked_already.stage = Stage::retries(0, 0);
    schedule.push(parked_already, at(10));
    assert_eq!(schedule.take_held(at(59_999)), []);
    let held = schedule.take_held(at(60_000));
    let expected: Vec<Row> = (21..45).map(|event| row(10, event)).collect();
    assert_eq!(held, expected);
    assert_eq!(schedule.queued(), PROBES + 1);
    // They stand before what fell due since it opened, and in no probe's way.
    assert_eq!(schedule.parked_due_at(sub(10), at(60_000)), Some(now()));
    assert_eq!(
        schedule.may_look(sub(10), 100, at(60_000)),
        MayLook::After(now())
    );
    // What comes later waits for a minute too.
    schedule.push(row(10, 100), at(70_000));
    assert_eq!(schedule.take_held(at(129_999)), []);
    assert_eq!(schedule.take_held(at(130_000)), [row(10, 100)]);
}

#[test]
fn a_breaker_with_nothing_left_to_probe_with_asks_for_what_is_parked() {
    let schedule = broken(0);
    assert_eq!(schedule.wants_probe(sub(10)), Some(at(30_000)));
    assert_eq!(
        schedule.may_look(sub(10), 100, at(1000)),
        MayLook::After(now())
    );
    assert_eq!(schedule.may_look(sub(10), 100, at(29_000)), MayLook::Now);
}

#[test]
fn what_does_not_fit_is_followed_by_all_that_comes_after_it() {
    let mut schedule = schedule(100, &[(10, 9, 3)]);
    assert_eq!(schedule.room(row(10, 5), 4, now()), Room::Here);
    assert_eq!(schedule.room(row(10, 5), 3, now()), Room::Full);
    assert_eq!(schedule.room(retry(10, 5), 3, now()), Room::Here);
    schedule.overflowed(sub(10));
    assert_eq!(schedule.room(row(10, 6), 4, now()), Room::Full);
    schedule.caught_up(sub(10));
    assert_eq!(schedule.room(row(10, 6), 4, now()), Room::Here);
}

#[test]
fn no_more_waits_here_than_the_rate_lets_through_in_a_minute() {
    let mut schedule = schedule(100, &[(10, 9, 29)]);
    let limited = Terms {
        rate_per_s: Some(0.5),
        ..terms(1, 9)
    };
    schedule.open(sub(10), LANE, limited, now());
    assert_eq!(schedule.room(row(10, 99), 100_000, now()), Room::Here);
    assert!(!schedule.has_room(sub(10), 100_000));
    schedule.push(row(10, 99), now());
    assert_eq!(schedule.room(row(10, 100), 100_000, now()), Room::Full);
}

#[test]
fn who_is_remembered_is_not_dropped_and_who_is_not_leaves_nothing_behind() {
    let mut schedule = Schedule::new(100, 1);
    for number in [1, 2, 3] {
        let named = Terms {
            host: host("r.example"),
            ..terms(number, 9)
        };
        schedule.push(row(number, 1), now());
        schedule.open(sub(number), LANE, named, now());
    }
    // The first is under way, the others wait for its host; one is withdrawn.
    assert_eq!(served(&mut schedule, 9), [1]);
    schedule.remove(row(2, 1).delivery);
    schedule.drop_lines(now(), |_| false);
    schedule.attempted(sub(1), &failure(now(), Complaint::default()), 0.0);
    schedule.done(row(1, 1).delivery, now());
    assert_eq!(served(&mut schedule, 9), [3]);
    schedule.done(row(3, 1).delivery, now());
    schedule.drop_lines(now(), |_| false);
    assert_eq!(schedule.lines.len(), 1, "it failed");
    schedule.drop_lines(now() + TimeDelta::days(1), |_| false);
    assert!(schedule.lines.is_empty() && schedule.hosts.is_empty());
    assert_eq!(schedule.next_at(), None);
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Queued,
    UnderWay,
    Gone,
}

/// Watches a schedule, and knows what it must not do.
struct Watch {
    schedule: Schedule,
    now: DateTime<Utc>,
    rows: BTreeMap<i64, (Row, Fate)>,
    blocked_until: HashMap<SubscriptionId, DateTime<Utc>>,
    begun: HashMap<SubscriptionId, Vec<DateTime<Utc>>>,
}

const NODE: usize = 6;
const PER_HOST: usize = 3;
const SUBSCRIPTIONS: i64 = 6;

/// Two applications, two hosts, every third with a rate.
fn watched(number: i64) -> Terms {
    Terms {
        rate_per_s: (number % 3 == 0).then_some(2.0),
        host: host(["r.example", "s.example"][number as usize % 2]),
        ..terms(number % 2, 2)
    }
}

impl Watch {
    fn new() -> Self {
        Self {
            schedule: Schedule::new(NODE, PER_HOST),
            now: now(),
            rows: BTreeMap::new(),
            blocked_until: HashMap::new(),
            begun: HashMap::new(),
        }
    }

    fn push(&mut self, number: i64, is_retry: bool) {
        let event = self.rows.len() as i64;
        let row = if is_retry {
            retry(number, event)
        } else {
            row(number, event)
        };
        self.rows.insert(event, (row, Fate::Queued));
        self.schedule.push(row, self.now);
    }

    fn open(&mut self, number: i64) {
        self.schedule
            .open(sub(number), LANE, watched(number), self.now);
    }

    fn change(&mut self, row: Row, from: Fate, to: Fate) {
        let known = self.rows.get_mut(&row.delivery.event.get()).unwrap();
        assert_eq!(*known, (row, from));
        known.1 = to;
    }

    fn gone(&mut self, rows: Vec<Row>) {
        rows.into_iter()
            .for_each(|row| self.change(row, Fate::Queued, Fate::Gone));
    }

    fn under_way(&self) -> Vec<Row> {
        let under_way = |(row, fate): &(Row, Fate)| (*fate == Fate::UnderWay).then_some(*row);
        self.rows.values().filter_map(under_way).collect()
    }

    fn serve(&mut self) {
        self.schedule.wake(self.now);
        while let Some(row) = self.schedule.next(self.now) {
            self.change(row, Fate::Queued, Fate::UnderWay);
            self.begun
                .entry(row.delivery.subscription)
                .or_default()
                .push(self.now);
            self.check(row);
        }
    }

    fn check(&self, begun: Row) {
        let count = |of: fn(&Line) -> bool| {
            let lines = self.schedule.lines.values();
            lines.filter(|line| of(line)).count()
        };
        let stats = self.schedule.stats();
        assert_eq!(
            (stats.waiting_for_host, stats.open_breakers),
            (
                count(|line| line.place == Place::Host),
                count(|line| line.pacer.open_since().is_some())
            )
        );
        let subscription = begun.delivery.subscription;
        let under_way = self.under_way();
        let of = |number: i64| {
            let of_it = |row: &&Row| row.delivery.subscription == sub(number);
            under_way.iter().filter(of_it).count()
        };
        assert!(under_way.len() <= NODE && of(subscription.get()) <= 2);
        for host in 0..2 {
            let of_host: usize = (0..SUBSCRIPTIONS).filter(|n| n % 2 == host).map(of).sum();
            assert!(of_host <= PER_HOST);
        }
        let blocked = self.blocked_until.get(&subscription);
        assert!(
            blocked.is_none_or(|until| *until <= self.now),
            "Retry-After"
        );
        let line = &self.schedule.lines[&subscription];
        if line.pacer.open_since().is_some() {
            assert_eq!(of(subscription.get()), 1, "a probe at a time");
        }
        if let (Some(per_s), Some(begun)) = (
            watched(subscription.get()).rate_per_s,
            self.begun.get(&subscription),
        ) {
            let second = |at: &&DateTime<Utc>| **at > self.now - TimeDelta::seconds(1);
            assert!(begun.iter().filter(second).count() as f64 <= 2.0 * per_s);
        }
    }

    /// The `index`-th of what is under way ends.
    fn end(&mut self, index: usize, how: u8) {
        let under_way = self.under_way();
        let Some(row) = under_way.get(index % under_way.len().max(1)).copied() else {
            return;
        };
        let subscription = row.delivery.subscription;
        let signal = match how {
            0..=3 => success(self.now, 10),
            4 => success(self.now, 30_000),
            5 => failure(
                self.now,
                Complaint {
                    retry_after: Some(Duration::from_secs(7)),
                    ..Complaint::default()
                },
            ),
            6 => failure(
                self.now,
                Complaint {
                    overloaded: true,
                    ..Complaint::default()
                },
            ),
            7 => {
                // Its message is missing.
                self.change(row, Fate::UnderWay, Fate::Queued);
                return self.schedule.put_back(row, self.now);
            }
            _ => Signal {
                timed_out: true,
                ..failure(
                    self.now,
                    Complaint {
                        unreachable: true,
                        ..Complaint::default()
                    },
                )
            },
        };
        self.change(row, Fate::UnderWay, Fate::Gone);
        let effect = self.schedule.attempted(subscription, &signal, 0.5);
        assert!(!effect.blocked_for_long);
        if how == 5 {
            let until = self.now + TimeDelta::seconds(7);
            self.blocked_until.insert(subscription, until);
        }
        self.schedule.done(row.delivery, self.now);
    }

    /// All that waits is served, and woken by nothing but its own times.
    fn drain(&mut self) {
        (0..SUBSCRIPTIONS).for_each(|number| self.open(number));
        while self.rows.values().any(|(_, fate)| *fate != Fate::Gone) {
            self.serve();
            if self.under_way().is_empty() {
                let next_at = self.schedule.next_at();
                let waiting = || self.rows.values().filter(|(_, fate)| *fate == Fate::Queued);
                assert!(next_at.is_some(), "forgotten: {:?}", waiting().next());
                self.now = self.now.max(next_at.unwrap());
                let held = self.schedule.take_held(self.now);
                self.gone(held);
            }
            while !self.under_way().is_empty() {
                self.end(0, 0);
            }
        }
        assert_eq!(
            (self.schedule.queued(), self.schedule.stats()),
            (
                0,
                Stats {
                    waiting: self.schedule.wakes.len(),
                    open_breakers: self.schedule.stats().open_breakers,
                    ..Stats::default()
                }
            )
        );
        let later = self.now + TimeDelta::days(2);
        self.schedule.wake(later);
        self.schedule.take_held(later);
        self.schedule.drop_lines(later, |_| false);
        assert!(self.schedule.lines.is_empty() && self.schedule.hosts.is_empty());
        assert_eq!(self.schedule.next_at(), None);
        assert_eq!(self.schedule.stats(), Stats::default());
    }
}

proptest! {
    /// Whatever receivers do, and whatever is paused, moved, withdrawn or lost meanwhile:
    /// no limit is exceeded, nobody is called before it wants to be, and no row is
    /// forgotten in whatever list it waits.
    #[test]
    fn no_receiver_makes_it_forget_a_row_or_exceed_a_limit(
        steps in prop::collection::vec((0u8..24, 0i64..SUBSCRIPTIONS, 0u8..11), 1..400),
    ) {
        let mut watch = Watch::new();
        for (step, number, how) in steps {
            match step {
                0..=5 => watch.push(number, how < 4),
                6..=8 => watch.open(number),
                9..=13 => watch.end(number as usize, how),
                14..=16 => watch.now += TimeDelta::milliseconds(i64::from(how) * 1700),
                17 => {
                    let rows = watch.schedule.close(sub(number));
                    watch.gone(rows);
                }
                18 => watch.schedule.shut(sub(number)),
                19 => {
                    let event = i64::from(how) % watch.rows.len().max(1) as i64;
                    if let Some((row, Fate::Queued)) = watch.rows.get(&event).copied() {
                        prop_assert_eq!(watch.schedule.remove(row.delivery), Some(row));
                        watch.change(row, Fate::Queued, Fate::Gone);
                    }
                }
                20 if how == 0 => {
                    let rows = watch.schedule.clear_lanes(|lane| lane == LANE);
                    watch.gone(rows);
                    watch.blocked_until.clear();
                }
                20 => {
                    // Its owner sends it elsewhere, and back.
                    let is_idle = watch
                        .under_way()
                        .iter()
                        .all(|row| row.delivery.subscription != sub(number));
                    let moved = Terms { host: None, ..watched(number) };
                    watch.schedule.shut(sub(number));
                    if is_idle {
                        watch.schedule.open(sub(number), LANE, moved, watch.now);
                        watch.schedule.shut(sub(number));
                    }
                }
                21 => watch.schedule.give_another_chance(sub(number)),
                22 => {
                    let held = watch.schedule.take_held(watch.now);
                    watch.gone(held);
                }
                _ => watch.serve(),
            }
        }
        watch.drain();
    }
}
