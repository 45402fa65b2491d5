//! Subscriptions that keep order: per key, each event after the one before it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use ringback_model::Ordering;

use super::*;

/// A retry after a second, and one after another.
const SOON: &str = r#"{"schedule_s":[1,1]}"#;
/// As soon as can be, for tests with many.
const AT_ONCE: &str = r#"{"schedule_s":[0.02,0.02]}"#;

/// A service with a subscription that keeps order, and what was emitted to it.
struct Fifo {
    lab: Lab,
    subscription: SubscriptionId,
    /// In order of acceptance, with the number of the key.
    emitted: Vec<(EventId, u8)>,
}

impl Fifo {
    async fn start(retry_json: &str, config: DispatcherConfig) -> (Self, Node) {
        let lab = Lab::new().await;
        let subscription = lab
            .subscribe_as("/hooks", 10, retry(retry_json), None, Ordering::Fifo)
            .await;
        let node = lab.node("a", config).await;
        let fifo = Self {
            lab,
            subscription,
            emitted: Vec::new(),
        };
        (fifo, node)
    }

    /// Emits an event with this key; it is handed over.
    async fn emit(&mut self, node: &Node, key: u8) -> EventId {
        let ticket = node.hand_over.ticket(EventId::floor(self.lab.clock.now()));
        let (payload, keys) = self.lab.accept_with(Some(&key.to_string()), None).await;
        let event = payload.event;
        if node.hand_over.owns(Lane::of(self.subscription)) {
            node.hand_over.offer(payload, keys);
        }
        drop(ticket);
        self.emitted.push((event, key));
        event
    }

    async fn emit_all(&mut self, node: &Node, keys: impl IntoIterator<Item = u8>) {
        for key in keys {
            self.emit(node, key).await;
        }
    }

    /// The numbers of events as they came, counted from 0 as they were accepted.
    fn came(&self) -> Vec<usize> {
        let number = |event| self.emitted.iter().position(|(other, _)| *other == event);
        let log = self.lab.receiver.log();
        log.iter()
            .filter_map(|request| number(request.event))
            .collect()
    }

    /// Waits until these have come; results are settled every few milliseconds.
    async fn until_came(&self, node: &Node, what: &str, expected: &[usize]) {
        self.lab
            .until_in_time(what, &[node], async || self.came().len() >= expected.len())
            .await;
        assert_eq!(self.came(), expected, "{what}");
    }

    /// Waits until the first of two keys have come, in whatever order.
    async fn until_both_came(&self, node: &Node, expected: [usize; 2]) {
        self.lab
            .until_in_time("the first of each key", &[node], async || {
                self.came().len() >= 2
            })
            .await;
        let mut came = self.came();
        came.sort();
        assert_eq!(came, expected);
    }

    /// Answers these events, by number, with 503.
    fn refuse(&self, events: &[usize]) {
        let refused: BTreeSet<EventId> = events.iter().map(|at| self.emitted[*at].0).collect();
        self.lab.receiver.react(move |request| {
            Reaction::Answers(if refused.contains(&request.event) {
                503
            } else {
                204
            })
        });
    }

    async fn until_settled(&self, nodes: &[&Node]) {
        let events: Vec<_> = self.emitted.iter().map(|(event, _)| *event).collect();
        let settled = std::cell::Cell::new(0);
        self.lab
            .until_in_time("all sent", nodes, async || {
                while let Some(event) = events.get(settled.get())
                    && self.lab.is_settled(&[*event], &[self.subscription]).await
                {
                    settled.set(settled.get() + 1);
                }
                settled.get() == events.len()
            })
            .await;
    }

    /// Per key, no event came before one that was accepted earlier had come.
    fn assert_in_order(&self) {
        let keys: BTreeMap<EventId, u8> = self.emitted.iter().copied().collect();
        let (mut first, mut seen) = (BTreeMap::<u8, Vec<EventId>>::new(), BTreeSet::new());
        for request in self.lab.receiver.log() {
            if seen.insert(request.event) {
                first
                    .entry(keys[&request.event])
                    .or_default()
                    .push(request.event);
            }
        }
        for (key, events) in &first {
            assert!(events.is_sorted(), "key {key}: {events:?}");
        }
        assert_eq!(seen.len(), self.emitted.len());
    }

    fn delivery(&self, number: usize) -> DeliveryId {
        DeliveryId {
            event: self.emitted[number].0,
            subscription: self.subscription,
        }
    }

    async fn rest(&self, node: &Node) {
        self.lab.rest(node).await;
    }
}

/// Two of three first attempts of an event fail.
fn often_fails(request: &crate::tests::receiver::Request) -> Reaction {
    let fails = request.attempt == 1 && request.event.get() % 3 != 0;
    Reaction::Answers(if fails { 500 } else { 204 })
}

#[tokio::test]
async fn what_stands_behind_a_failed_delivery_waits_for_it_and_other_keys_go_on() {
    let (mut fifo, node) = Fifo::start(SOON, config()).await;
    fifo.lab.receiver.hold(true);
    fifo.emit_all(&node, [1, 1, 2, 2, 1]).await;
    fifo.until_both_came(&node, [0, 2]).await;
    fifo.refuse(&[0]);
    fifo.lab.receiver.hold(false);
    let other = fifo.emitted[3].0;
    fifo.lab
        .until_in_time("the other key", &[&node], async || {
            let status = fifo.lab.status(other, fifo.subscription).await;
            status == DeliveryStatus::Delivered
        })
        .await;
    fifo.rest(&node).await;
    assert_eq!(fifo.came().len(), 3);

    fifo.lab.receiver.answers(204);
    let due_at = fifo
        .lab
        .delivery(fifo.emitted[0].0, fifo.subscription)
        .await;
    fifo.lab
        .go_to(due_at.next_attempt_at.unwrap(), &[&node])
        .await;
    fifo.until_settled(&[&node]).await;
    assert_eq!(fifo.came()[3..], [0, 1, 4]);
}

#[tokio::test]
async fn a_dead_delivery_releases_its_key() {
    let (mut fifo, node) = Fifo::start(ONCE, config()).await;
    fifo.lab.receiver.hold(true);
    fifo.emit_all(&node, [1, 1]).await;
    fifo.until_came(&node, "the first", &[0]).await;
    fifo.refuse(&[0]);
    fifo.lab.receiver.hold(false);
    fifo.until_came(&node, "both", &[0, 1]).await;
    fifo.until_settled(&[&node]).await;
    let status = fifo.lab.status(fifo.emitted[0].0, fifo.subscription).await;
    assert_eq!(status, DeliveryStatus::Dead);
}

/// Otherwise a crash in between would have the first sent again after the second.
#[tokio::test]
async fn the_next_is_sent_when_the_one_before_is_settled_and_not_when_it_is_answered() {
    let (mut fifo, node) = Fifo::start(SOON, config()).await;
    fifo.lab.store.hold(Some("settle"));
    fifo.emit_all(&node, [1, 1]).await;
    fifo.lab
        .until("a result to settle", || fifo.lab.store.is_holding())
        .await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fifo.came(), [0]);
    fifo.lab.store.hold(None);
    fifo.until_came(&node, "both", &[0, 1]).await;
}

#[tokio::test]
async fn what_is_handed_over_first_is_not_sent_before_what_was_accepted_first() {
    let (mut fifo, node) = Fifo::start(SOON, config()).await;
    fifo.emit(&node, 1).await;
    fifo.until_came(&node, "one, so that the subscription is known", &[0])
        .await;
    let mut accepted = Vec::new();
    for _ in 0..20 {
        let taken = fifo.lab.accept_with(Some("1"), None).await;
        fifo.emitted.push((taken.0.event, 1));
        accepted.push(taken);
    }
    for (payload, keys) in accepted.into_iter().rev() {
        node.hand_over.offer(payload, keys);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
    fifo.until_came(&node, "all", &(0..21).collect::<Vec<_>>())
        .await;
}

#[tokio::test]
async fn events_without_a_key_share_one() {
    let (mut fifo, node) = Fifo::start(SOON, config()).await;
    for _ in 0..3 {
        let (payload, keys) = fifo.lab.accept_with(None, None).await;
        fifo.emitted.push((payload.event, 0));
        node.hand_over.offer(payload, keys);
    }
    fifo.until_came(&node, "all", &[0, 1, 2]).await;
}

#[tokio::test]
async fn a_replay_of_an_older_event_goes_next() {
    let (mut fifo, node) = Fifo::start(ONCE, config()).await;
    let old = fifo.emit(&node, 1).await;
    fifo.lab
        .until_status(old, fifo.subscription, DeliveryStatus::Delivered)
        .await;
    fifo.lab.receiver.hold(true);
    fifo.emit_all(&node, [1, 1]).await;
    fifo.until_came(&node, "the second", &[0, 1]).await;
    let now = fifo.lab.clock.now();
    fifo.lab
        .store
        .inner
        .replay(fifo.delivery(0), EVERYTHING, now)
        .await
        .unwrap();
    let heads = fifo.lab.store.count("order_heads");
    fifo.lab
        .store
        .hint(Hint::Due(Lane::of(fifo.subscription), fifo.subscription));
    fifo.lab
        .until_in_time("a look", &[&node], async || {
            fifo.lab.store.count("order_heads") > heads
        })
        .await;
    fifo.lab.receiver.hold(false);
    fifo.until_came(&node, "the replay, and then the third", &[0, 1, 0, 2])
        .await;
}

#[tokio::test]
async fn a_cancelled_delivery_releases_its_key() {
    let (mut fifo, node) = Fifo::start(TWICE, config()).await;
    fifo.lab.receiver.hold(true);
    fifo.emit_all(&node, [1, 1, 1]).await;
    fifo.until_came(&node, "the first", &[0]).await;
    fifo.refuse(&[0]);
    fifo.lab.receiver.hold(false);
    fifo.lab
        .until_status(
            fifo.emitted[0].0,
            fifo.subscription,
            DeliveryStatus::Retrying,
        )
        .await;
    fifo.rest(&node).await;
    assert_eq!(fifo.came(), [0]);
    for number in [1, 0] {
        let id = fifo.delivery(number);
        let now = fifo.lab.clock.now();
        fifo.lab
            .store
            .inner
            .cancel(id, EVERYTHING, now)
            .await
            .unwrap();
        fifo.lab.store.hint(Hint::Withdrawn(id));
    }
    fifo.until_came(&node, "the last", &[0, 2]).await;
}

#[tokio::test]
async fn a_paused_subscription_goes_on_in_order_when_it_is_resumed() {
    let (mut fifo, node) = Fifo::start(SOON, config()).await;
    fifo.lab.receiver.hold(true);
    fifo.emit_all(&node, [1, 2, 1, 2, 1]).await;
    fifo.until_both_came(&node, [0, 1]).await;
    let (id, now) = (fifo.subscription, fifo.lab.clock.now());
    let store = &fifo.lab.store.inner;
    store.pause_subscription(id, EVERYTHING, now).await.unwrap();
    fifo.lab.store.hint(Hint::Subscription(id));
    fifo.lab
        .until_in_time("parked", &[&node], async || {
            fifo.lab.store.count("park") > 0
        })
        .await;
    fifo.lab.receiver.hold(false);
    fifo.emit_all(&node, [2, 1]).await;
    fifo.rest(&node).await;
    assert_eq!(fifo.came().len(), 2);

    let now = fifo.lab.clock.now();
    let store = &fifo.lab.store.inner;
    store
        .resume_subscription(id, EVERYTHING, now)
        .await
        .unwrap();
    fifo.lab.store.hint(Hint::Subscription(id));
    fifo.emit_all(&node, [1, 2]).await;
    fifo.until_settled(&[&node]).await;
    fifo.assert_in_order();
}

#[tokio::test]
async fn what_is_parked_for_want_of_room_keeps_its_order() {
    let small = DispatcherConfig {
        queue_per_subscription: 20,
        ..config()
    };
    let (mut fifo, node) = Fifo::start(AT_ONCE, small).await;
    fifo.lab.receiver.react(often_fails);
    for round in 0..10 {
        fifo.emit_all(&node, (0..40).map(|number| (number + round) % 4))
            .await;
    }
    fifo.until_settled(&[&node]).await;
    assert!(fifo.lab.store.count("park") > 0);
    fifo.assert_in_order();
}

#[tokio::test]
async fn a_node_that_is_full_sends_what_comes_first() {
    let small = DispatcherConfig {
        queue_per_node: 12,
        ..config()
    };
    let (mut fifo, node) = Fifo::start(AT_ONCE, small).await;
    fifo.lab.receiver.react(often_fails);
    fifo.emit_all(&node, (0..60).map(|number| number % 7)).await;
    fifo.until_settled(&[&node]).await;
    fifo.assert_in_order();
}

#[tokio::test]
async fn behind_a_long_wait_memory_and_outbox_are_left_and_other_keys_are_not_delayed() {
    let (mut fifo, node) = Fifo::start(TWICE, config()).await;
    fifo.lab.receiver.hold(true);
    fifo.emit_all(&node, [1, 1, 1]).await;
    fifo.until_came(&node, "the first", &[0]).await;
    fifo.refuse(&[0]);
    fifo.lab.receiver.hold(false);
    fifo.lab
        .until_in_time("parked", &[&node], async || {
            fifo.lab.store.count("park") > 0
        })
        .await;
    fifo.emit(&node, 2).await;
    fifo.until_came(&node, "the other key", &[0, 3]).await;
    fifo.lab.receiver.answers(204);
    let first = fifo
        .lab
        .delivery(fifo.emitted[0].0, fifo.subscription)
        .await;
    fifo.lab
        .go_to(first.next_attempt_at.unwrap(), &[&node])
        .await;
    fifo.until_came(&node, "all", &[0, 3, 0, 1, 2]).await;
}

#[tokio::test]
async fn another_node_goes_on_where_the_one_before_ended() {
    let (mut fifo, node) = Fifo::start(AT_ONCE, config()).await;
    fifo.lab.receiver.react(often_fails);
    fifo.emit_all(&node, (0..60).map(|number| number % 5)).await;
    fifo.lab
        .until_in_time("some were sent", &[&node], async || {
            fifo.lab.receiver.count() > 12
        })
        .await;
    // With what is under way not answered, and nothing else going on.
    fifo.lab.receiver.hold(true);
    fifo.rest(&node).await;
    node.vanish().await;
    fifo.lab.receiver.hold(false);
    let next = fifo.lab.late_node("b", config()).await;
    fifo.lab
        .go_to(start() + TimeDelta::seconds(11), &[&next])
        .await;
    fifo.emit_all(&next, (0..20).map(|number| number % 5)).await;
    fifo.until_settled(&[&next]).await;
    fifo.assert_in_order();
    // Nothing is sent again that comes before what is settled, but what was under way.
    let twice = fifo
        .lab
        .receiver
        .tally()
        .values()
        .filter(|n| **n > 2)
        .count();
    assert!(twice <= 5, "{twice}");
}

#[tokio::test]
async fn a_lane_that_moves_away_and_back_keeps_its_order() {
    let (mut fifo, node) = Fifo::start(AT_ONCE, config()).await;
    fifo.lab.receiver.react(often_fails);
    for _ in 0..4 {
        fifo.emit_all(&node, (0..30).map(|number| number % 5)).await;
        let other = fifo.lab.late_node("b", config()).await;
        fifo.lab
            .until_in_time("lanes shared", &[&node, &other], async || other.owned() > 0)
            .await;
        fifo.emit_all(&node, (0..10).map(|number| number % 5)).await;
        let lease = other.membership.lease().unwrap();
        other.stopped(&fifo.lab).await;
        ringback_store::Lanes::leave(&fifo.lab.store.inner, &lease, fifo.lab.clock.now())
            .await
            .unwrap();
    }
    fifo.until_settled(&[&node]).await;
    fifo.assert_in_order();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_replies_are_jumbled_order_is_kept_and_nothing_forgotten() {
    let small = DispatcherConfig {
        queue_per_subscription: 60,
        payload_cache_bytes: 3000,
        ..config()
    };
    let (mut fifo, node) = Fifo::start(AT_ONCE, small).await;
    fifo.lab
        .store
        .jumbled
        .store(true, std::sync::atomic::Ordering::Relaxed);
    fifo.lab.receiver.react(often_fails);
    for _ in 0..12 {
        fifo.emit_all(&node, (0..25).map(|number| number % 6)).await;
        fifo.lab.store.hint(Hint::Everything);
        fifo.lab.tick(Duration::from_millis(700), &[&node]).await;
    }
    fifo.until_settled(&[&node]).await;
    fifo.assert_in_order();
}

#[tokio::test]
async fn an_event_for_later_takes_its_place_when_its_time_has_come() {
    let (mut fifo, node) = Fifo::start(SOON, config()).await;
    let later: DateTime<Utc> = start() + TimeDelta::seconds(20);
    let (payload, keys) = fifo.lab.accept_with(Some("1"), Some(later)).await;
    assert!(keys.len() == 1);
    fifo.emitted.push((payload.event, 1));
    fifo.lab
        .store
        .hint(Hint::Due(Lane::of(fifo.subscription), fifo.subscription));
    fifo.emit(&node, 1).await;
    fifo.until_came(&node, "what is not for later", &[1]).await;
    fifo.lab
        .go_to(later - TimeDelta::milliseconds(1), &[&node])
        .await;
    fifo.rest(&node).await;
    assert_eq!(fifo.came(), [1]);
    fifo.lab.go_to(later, &[&node]).await;
    fifo.until_came(&node, "what was for later", &[1, 0]).await;
}

#[tokio::test]
async fn a_subscription_may_begin_and_cease_to_keep_order_and_loses_nothing() {
    let (mut fifo, node) = Fifo::start(AT_ONCE, config()).await;
    fifo.lab.receiver.react(often_fails);
    for ordering in [
        Ordering::None,
        Ordering::Fifo,
        Ordering::None,
        Ordering::Fifo,
    ] {
        fifo.emit_all(&node, (0..20).map(|number| number % 3)).await;
        let change = SubscriptionChange {
            ordering: Some(ordering),
            ..SubscriptionChange::default()
        };
        let (id, now) = (fifo.subscription, fifo.lab.clock.now());
        let store = &fifo.lab.store.inner;
        store
            .update_subscription(id, EVERYTHING, change, None, now)
            .await
            .unwrap();
        fifo.lab.store.hint(Hint::Subscription(id));
        fifo.emit_all(&node, (0..20).map(|number| number % 3)).await;
        fifo.until_settled(&[&node]).await;
    }
    let tally = fifo.lab.receiver.tally();
    assert!(tally.values().all(|count| *count <= 2), "{tally:?}");
    assert_eq!(tally.len(), fifo.emitted.len());
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_delays_and_breaks_no_order() {
    for call in [
        "in_order",
        "order_heads",
        "read",
        "settle",
        "park",
        "payloads",
    ] {
        for fails in [Fails::Before, Fails::After] {
            let small = DispatcherConfig {
                queue_per_subscription: 20,
                payload_cache_bytes: 1000,
                ..config()
            };
            let (mut fifo, node) = Fifo::start(AT_ONCE, small).await;
            fifo.lab.receiver.react(often_fails);
            fifo.emit_all(&node, (0..30).map(|number| number % 4)).await;
            fifo.lab.store.fail(call, fails);
            fifo.emit_all(&node, (0..30).map(|number| number % 4)).await;
            for _ in 0..4 {
                fifo.lab.tick(Duration::from_millis(600), &[&node]).await;
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
            }
            fifo.lab.store.mend();
            fifo.until_settled(&[&node]).await;
            fifo.assert_in_order();
        }
    }
}

#[tokio::test]
async fn a_receiver_that_wants_no_more_ends_an_ordered_subscription_too() {
    let (mut fifo, node) = Fifo::start(SOON, config()).await;
    fifo.lab.receiver.answers(410);
    fifo.lab.receiver.hold(true);
    fifo.emit_all(&node, (0..30).map(|number| number % 4)).await;
    fifo.lab.receiver.hold(false);
    fifo.until_settled(&[&node]).await;
    let id = fifo.subscription;
    let settled = fifo.lab.status(fifo.emitted[29].0, id).await;
    assert_eq!(settled, DeliveryStatus::Dead);
    fifo.lab.receiver.answers(204);
    let now = fifo.lab.clock.now();
    let store = &fifo.lab.store.inner;
    store
        .resume_subscription(id, EVERYTHING, now)
        .await
        .unwrap();
    fifo.lab.store.hint(Hint::Subscription(id));
    let before = fifo.came().len();
    fifo.emit_all(&node, [1, 1, 1]).await;
    fifo.until_settled(&[&node]).await;
    assert_eq!(fifo.came()[before..], [30, 31, 32]);
}
