//! The whole loop, on SQLite, with time moved by hand.

mod lab;
mod receiver;
mod store;

use std::time::Duration;

use chrono::TimeDelta;
use ringback_model::{
    AttemptError, DeadReason, DeliveryId, DeliveryStatus, EventId, Lane, SubscriptionId,
    SubscriptionStatus,
};
use ringback_store::{
    Hint, Hints, History, NodeLease, Outbox, OutboxKey, Registry, ReplayOutcome,
    SubscriptionChange, Within,
};

use crate::{
    DispatcherConfig,
    retries::AHEAD,
    settle::Settler,
    tests::{
        lab::{Lab, Node, retry, start},
        receiver::Reaction,
        store::Fails,
    },
};

const STANDARD: &str = r#"{"preset":"standard"}"#;
const ONCE: &str = r#"{"schedule_s":[]}"#;
/// One retry, an hour later.
const TWICE: &str = r#"{"schedule_s":[3600]}"#;
const EVERYTHING: Within = Within::Everything;

fn config() -> DispatcherConfig {
    DispatcherConfig::default()
}

async fn lab_with(retry_json: &str, max_in_flight: u16) -> (Lab, Node, SubscriptionId) {
    let lab = Lab::new().await;
    let subscription = lab
        .subscribe("/hooks", max_in_flight, retry(retry_json))
        .await;
    let node = lab.node("a", config()).await;
    (lab, node, subscription)
}

/// Emits many events, every third only to be found by reading.
async fn emit_many(lab: &Lab, node: &Node, count: usize) -> Vec<EventId> {
    let mut events = Vec::new();
    for number in 0..count {
        events.push(match number % 3 {
            0 => lab.emit_silently().await,
            _ => lab.emit(node).await,
        });
    }
    events
}

fn assert_once_each(lab: &Lab, events: &[EventId], paths: usize) {
    let tally = lab.receiver.tally();
    assert!(
        tally.values().all(|count| *count == 1),
        "sent twice: {tally:?}"
    );
    assert_eq!(tally.len(), events.len() * paths);
}

// Sending.

#[tokio::test]
async fn a_delivery_that_was_handed_over_is_sent_and_settled_while_time_stands_still() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let event = lab.emit(&node).await;
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
    let [request] = &lab.receiver.log()[..] else {
        panic!("one request")
    };
    assert_eq!(
        (request.event, request.attempt, request.at),
        (event, 1, start())
    );
    assert!(
        request.body.ends_with(r#""data":{"total": 1.10}}"#),
        "{}",
        request.body
    );
    assert_eq!(
        request.headers["webhook-timestamp"],
        start().timestamp().to_string()
    );
    let attempts = lab.attempts(event, subscription).await;
    assert_eq!(attempts[0].record.answer.as_ref().unwrap().status_code, 204);
}

#[tokio::test]
async fn a_delivery_that_nobody_told_of_is_found_within_half_a_second() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let event = lab.emit_silently().await;
    lab.rest(&node).await;
    lab.go_to(start() + TimeDelta::milliseconds(500), &[&node])
        .await;
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
}

#[tokio::test]
async fn a_hint_is_followed_at_once() {
    let (lab, _node, subscription) = lab_with(STANDARD, 10).await;
    for (number, hint) in (1..).zip([Hint::Lane(Lane::of(subscription)), Hint::Everything]) {
        lab.emit_silently().await;
        lab.store.hint(hint);
        lab.until("it is sent", || lab.receiver.count() == number)
            .await;
    }
}

#[tokio::test]
async fn what_was_accepted_before_the_start_is_sent_at_the_start() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 10, retry(STANDARD)).await;
    let event = lab.emit_silently().await;
    let _node = lab.node("a", config()).await;
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
}

#[tokio::test]
async fn a_subscription_gets_no_more_at_once_than_it_wants() {
    let (lab, node, subscription) = lab_with(STANDARD, 2).await;
    lab.receiver.hold(true);
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(lab.emit(&node).await);
    }
    lab.until("two requests", || lab.receiver.count() == 2)
        .await;
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 2);
    lab.receiver.hold(false);
    lab.until_in_time("all sent", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert_once_each(&lab, &events, 1);
}

#[tokio::test]
async fn a_url_that_policy_forbids_fails_without_a_connection() {
    let (lab, node, subscription) = lab_with(TWICE, 10).await;
    let cases = [
        ("https://127.0.0.1/", AttemptError::BlockedAddress),
        ("http://r.example/", AttemptError::BlockedAddress),
        ("no URL", AttemptError::Protocol),
    ];
    for (url, error) in cases {
        let change = SubscriptionChange {
            url: Some(url.to_owned()),
            ..SubscriptionChange::default()
        };
        let now = lab.clock.now();
        lab.store
            .inner
            .update_subscription(subscription, EVERYTHING, change, None, now)
            .await
            .unwrap();
        lab.store.hint(Hint::Subscription(subscription));
        lab.rest(&node).await;
        let event = lab.emit(&node).await;
        lab.until_in_time("retrying", &[&node], async || {
            lab.status(event, subscription).await == DeliveryStatus::Retrying
        })
        .await;
        assert_eq!(
            lab.delivery(event, subscription).await.last_error,
            Some(error),
            "{url}"
        );
    }
    assert_eq!(lab.receiver.count(), 0);
}

#[tokio::test]
async fn a_panic_is_one_failed_attempt_and_hurts_nobody_else() {
    let (lab, node, subscription) = lab_with(TWICE, 10).await;
    lab.receiver.react(|_| Reaction::Panics);
    let broken = lab.emit(&node).await;
    lab.until_status(broken, subscription, DeliveryStatus::Retrying)
        .await;
    let delivery = lab.delivery(broken, subscription).await;
    assert_eq!(delivery.last_error, Some(AttemptError::Protocol));
    lab.receiver.answers(200);
    let whole = lab.emit(&node).await;
    lab.until_in_time("delivered", &[&node], async || {
        lab.status(whole, subscription).await == DeliveryStatus::Delivered
    })
    .await;
}

// Retrying.

#[tokio::test]
async fn ten_attempts_are_made_over_three_days_each_exactly_when_due() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    lab.receiver.answers(503);
    let event = lab.emit(&node).await;
    let waits_s = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
    let mut last = start();
    for (attempt, wait_s) in (1..).zip(waits_s) {
        lab.until_attempts(event, subscription, attempt).await;
        let delivery = lab.delivery(event, subscription).await;
        assert_eq!(
            (delivery.status, delivery.attempts),
            (DeliveryStatus::Retrying, attempt)
        );
        let due_at = delivery.next_attempt_at.unwrap();
        let wait = due_at - last;
        assert!(
            wait >= TimeDelta::seconds(wait_s),
            "{wait} before attempt {}",
            attempt + 1
        );
        assert!(wait <= TimeDelta::milliseconds(wait_s * 1100 + 1), "{wait}");

        for early in [AHEAD, TimeDelta::milliseconds(1)] {
            lab.go_to(due_at - early, &[&node]).await;
            lab.rest(&node).await;
            assert_eq!(lab.receiver.count(), usize::from(attempt), "early");
        }
        lab.go_to(due_at, &[&node]).await;
        lab.until("the next attempt", || {
            lab.receiver.count() > usize::from(attempt)
        })
        .await;
        let request = lab.receiver.log().pop().unwrap();
        assert_eq!((request.at, request.attempt), (due_at, attempt + 1));
        last = due_at;
    }
    lab.until_status(event, subscription, DeliveryStatus::Dead)
        .await;
    let delivery = lab.delivery(event, subscription).await;
    assert_eq!(delivery.dead_reason, Some(DeadReason::OutOfAttempts));
    assert_eq!(
        (delivery.attempts, delivery.last_status_code),
        (10, Some(503))
    );
    assert_eq!(lab.attempts(event, subscription).await.len(), 10);
    assert!(lab.clock.now() - start() >= TimeDelta::seconds(75 * 3600 + 35 * 60 + 5));
}

#[tokio::test]
async fn retries_survive_a_restart() {
    let (lab, node, subscription) = lab_with(TWICE, 10).await;
    lab.receiver.react(|_| Reaction::Resets);
    let event = lab.emit(&node).await;
    lab.until_status(event, subscription, DeliveryStatus::Retrying)
        .await;
    node.stopped(&lab).await;
    lab.receiver.answers(200);
    let node = lab.node("a", config()).await;
    let due_at = lab
        .delivery(event, subscription)
        .await
        .next_attempt_at
        .unwrap();
    lab.go_to(due_at, &[&node]).await;
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
    assert_eq!(lab.receiver.log().pop().unwrap().at, due_at);
}

#[tokio::test]
async fn many_retries_of_one_subscription_are_all_made_and_none_early() {
    let (lab, node, subscription) = lab_with(r#"{"schedule_s":[60]}"#, 100).await;
    lab.receiver
        .react(|request| Reaction::Answers(if request.attempt == 1 { 500 } else { 200 }));
    let events = emit_many(&lab, &node, 300).await;
    lab.until_in_time("all delivered", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert!(lab.receiver.tally().values().all(|count| *count == 2));
    for event in events {
        let attempts = lab.attempts(event, subscription).await;
        let waited = attempts[1].record.started_at - attempts[0].record.started_at;
        assert!(waited >= TimeDelta::seconds(60), "{waited}");
    }
}

#[tokio::test]
async fn a_replay_is_sent_at_once_and_starts_the_schedule_afresh() {
    let (lab, node, subscription) = lab_with(ONCE, 10).await;
    lab.receiver.answers(500);
    let event = lab.emit(&node).await;
    lab.until_status(event, subscription, DeliveryStatus::Dead)
        .await;
    let id = DeliveryId {
        event,
        subscription,
    };
    for attempt in 2..4 {
        lab.go_to(lab.clock.now() + TimeDelta::seconds(1), &[&node])
            .await;
        let replayed = lab
            .store
            .inner
            .replay(id, EVERYTHING, lab.clock.now())
            .await
            .unwrap();
        assert!(matches!(replayed, ReplayOutcome::Due(_)), "{replayed:?}");
        lab.store
            .hint(Hint::Due(Lane::of(subscription), subscription));
        lab.until_attempts(event, subscription, attempt).await;
        assert_eq!(lab.status(event, subscription).await, DeliveryStatus::Dead);
    }
    let numbers: Vec<u16> = lab
        .receiver
        .log()
        .iter()
        .map(|request| request.attempt)
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn a_replay_that_nobody_told_of_is_found_within_half_a_minute() {
    let (lab, node, subscription) = lab_with(ONCE, 10).await;
    lab.receiver.answers(500);
    let event = lab.emit(&node).await;
    lab.until_status(event, subscription, DeliveryStatus::Dead)
        .await;
    lab.receiver.answers(200);
    let id = DeliveryId {
        event,
        subscription,
    };
    lab.store
        .inner
        .replay(id, EVERYTHING, lab.clock.now())
        .await
        .unwrap();
    lab.go_to(start() + TimeDelta::seconds(30), &[&node]).await;
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
}

// Subscriptions that change.

#[tokio::test]
async fn a_410_stops_everything_and_disables_the_subscription() {
    let (lab, node, subscription) = lab_with(STANDARD, 1).await;
    lab.receiver.hold(true);
    lab.receiver.answers(410);
    let first = lab.emit(&node).await;
    lab.until("the first request", || lab.receiver.count() == 1)
        .await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(lab.emit(&node).await);
    }
    lab.rest(&node).await;
    lab.receiver.hold(false);
    lab.until_in_time("all dead", &[&node], async || {
        lab.is_settled(&others, &[subscription]).await
            && lab.is_settled(&[first], &[subscription]).await
    })
    .await;
    assert_eq!(lab.receiver.count(), 1);
    for event in others.iter().chain([&first]) {
        let delivery = lab.delivery(*event, subscription).await;
        assert_eq!(delivery.dead_reason, Some(DeadReason::SubscriptionDisabled));
    }
    assert_eq!(lab.attempts(first, subscription).await.len(), 1);
    let found = lab
        .store
        .inner
        .subscription(subscription, EVERYTHING)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.status, SubscriptionStatus::Disabled);
    assert_eq!(found.status_reason.as_deref(), Some("410 Gone"));
}

#[tokio::test]
async fn after_a_410_a_subscription_that_is_resumed_is_sent_to_again() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    lab.receiver.answers(410);
    lab.emit(&node).await;
    lab.until("disabled", || lab.store.count("disable") == 1)
        .await;
    lab.rest(&node).await;
    lab.store
        .inner
        .resume_subscription(subscription, EVERYTHING, lab.clock.now())
        .await
        .unwrap();
    lab.store.hint(Hint::Subscription(subscription));
    lab.receiver.answers(200);
    let event = lab.emit(&node).await;
    lab.until_in_time("delivered", &[&node], async || {
        lab.status(event, subscription).await == DeliveryStatus::Delivered
    })
    .await;
}

#[tokio::test]
async fn a_paused_subscription_gets_nothing_and_after_resuming_everything() {
    let (lab, node, subscription) = lab_with(TWICE, 1).await;
    lab.receiver.hold(true);
    lab.receiver.answers(500);
    let mut events = Vec::new();
    for _ in 0..10 {
        events.push(lab.emit(&node).await);
    }
    lab.until("the first request", || lab.receiver.count() == 1)
        .await;
    let now = lab.clock.now();
    lab.store
        .inner
        .pause_subscription(subscription, EVERYTHING, now)
        .await
        .unwrap();
    lab.store.hint(Hint::Subscription(subscription));
    lab.rest(&node).await;
    lab.receiver.hold(false);
    events.push(lab.emit(&node).await);
    lab.until_in_time("all held", &[&node], async || {
        for event in &events {
            if lab.status(*event, subscription).await != DeliveryStatus::Held {
                return false;
            }
        }
        true
    })
    .await;

    // Nobody looks again and again at what is due but held.
    let looks = lab.store.count("due");
    lab.go_to(lab.clock.now() + TimeDelta::hours(2), &[&node])
        .await;
    lab.rest(&node).await;
    assert_eq!((lab.receiver.count(), lab.store.count("due")), (1, looks));

    lab.receiver.answers(200);
    let now = lab.clock.now();
    lab.store
        .inner
        .resume_subscription(subscription, EVERYTHING, now)
        .await
        .unwrap();
    lab.store.hint(Hint::Subscription(subscription));
    lab.until_in_time("all delivered", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert_eq!(lab.receiver.count(), events.len() + 1);
}

#[tokio::test]
async fn a_change_that_nobody_told_of_is_seen_within_a_second_or_two() {
    let (lab, node, subscription) = lab_with(ONCE, 10).await;
    let event = lab.emit(&node).await;
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
    let change = SubscriptionChange {
        url: Some("https://r.example/moved".to_owned()),
        ..SubscriptionChange::default()
    };
    let now = lab.clock.now();
    lab.store
        .inner
        .update_subscription(subscription, EVERYTHING, change, None, now)
        .await
        .unwrap();
    let loads = lab.store.count("sending_states");
    lab.until_in_time("loaded", &[&node], async || {
        lab.store.count("sending_states") > loads
    })
    .await;
    assert!(lab.clock.now() - start() <= TimeDelta::seconds(2));
    lab.rest(&node).await;
    lab.emit(&node).await;
    lab.until("sent", || lab.receiver.count() == 2).await;
    assert_eq!(lab.receiver.log()[1].path, "/moved");
}

#[tokio::test]
async fn a_cancelled_delivery_is_not_sent() {
    let (lab, node, subscription) = lab_with(STANDARD, 1).await;
    lab.receiver.hold(true);
    let first = lab.emit(&node).await;
    let second = lab.emit(&node).await;
    let third = lab.emit(&node).await;
    lab.until("the first request", || lab.receiver.count() == 1)
        .await;
    for event in [first, second] {
        let id = DeliveryId {
            event,
            subscription,
        };
        lab.store
            .inner
            .cancel(id, EVERYTHING, lab.clock.now())
            .await
            .unwrap();
        lab.store.hint(Hint::Withdrawn(id));
    }
    lab.rest(&node).await;
    lab.receiver.answers(500);
    lab.receiver.hold(false);
    lab.until("the third request", || lab.receiver.count() == 2)
        .await;
    assert_eq!(lab.receiver.log()[1].event, third);
    lab.until_in_time("the third settled", &[&node], async || {
        lab.status(third, subscription).await == DeliveryStatus::Retrying
    })
    .await;
    for event in [first, second] {
        assert_eq!(
            lab.status(event, subscription).await,
            DeliveryStatus::Cancelled
        );
    }
    assert_eq!(lab.attempts(first, subscription).await.len(), 1); // recorded, but not followed
}

#[tokio::test]
async fn what_was_queued_for_a_deleted_subscription_is_cancelled() {
    let (lab, node, subscription) = lab_with(STANDARD, 1).await;
    lab.receiver.hold(true);
    let events = [lab.emit(&node).await, lab.emit(&node).await];
    lab.until("the first request", || lab.receiver.count() == 1)
        .await;
    lab.store
        .inner
        .delete_subscription(subscription, EVERYTHING, lab.clock.now())
        .await
        .unwrap();
    lab.store.hint(Hint::Subscription(subscription));
    lab.rest(&node).await;
    lab.receiver.answers(500);
    lab.receiver.hold(false);
    lab.until_in_time("settled", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 1);
    for event in events {
        assert_eq!(
            lab.status(event, subscription).await,
            DeliveryStatus::Cancelled
        );
    }
}

// Limits of memory.

#[tokio::test]
async fn what_does_not_fit_in_a_queue_is_parked_and_sent_later() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 2, retry(STANDARD)).await;
    let node = lab
        .node(
            "a",
            DispatcherConfig {
                queue_per_subscription: 10,
                ..config()
            },
        )
        .await;
    lab.receiver.hold(true);
    let events = emit_many(&lab, &node, 100).await;
    lab.until_in_time("parked", &[&node], async || lab.store.count("park") > 0)
        .await;
    lab.receiver.hold(false);
    lab.until_in_time("all sent", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert_once_each(&lab, &events, 1);
}

#[tokio::test]
async fn a_node_that_is_full_leaves_the_rest_in_the_outbox_until_it_has_room() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 2, retry(STANDARD)).await;
    let node = lab
        .node(
            "a",
            DispatcherConfig {
                queue_per_node: 20,
                ..config()
            },
        )
        .await;
    let events = emit_many(&lab, &node, 100).await;
    lab.until_in_time("all sent", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert_once_each(&lab, &events, 1);
}

#[tokio::test]
async fn what_does_not_fit_in_the_cache_is_read_again() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 2, retry(STANDARD)).await;
    let node = lab
        .node(
            "a",
            DispatcherConfig {
                payload_cache_bytes: 1,
                ..config()
            },
        )
        .await;
    let events = emit_many(&lab, &node, 50).await;
    lab.until_in_time("all sent", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert_once_each(&lab, &events, 1);
}

#[tokio::test]
async fn with_nothing_to_do_a_node_hardly_asks_the_store() {
    let (lab, node, subscription) = lab_with(ONCE, 10).await;
    let event = lab.emit(&node).await;
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
    let before = lab.store.total();
    let end = lab.clock.now() + TimeDelta::seconds(10);
    lab.until_in_time("ten seconds", &[&node], async || lab.clock.now() >= end)
        .await;
    let asked = lab.store.total() - before;
    assert!((20..=40).contains(&asked), "{asked} statements in 10 s");
}

// Never twice.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_replies_are_jumbled_everything_is_sent_exactly_once() {
    let lab = Lab::new().await;
    let fast = lab.subscribe("/fast", 50, retry(STANDARD)).await;
    let slow = lab.subscribe("/slow", 1, retry(STANDARD)).await;
    let small = DispatcherConfig {
        queue_per_subscription: 40,
        payload_cache_bytes: 5000,
        ..config()
    };
    let node = lab.node("a", small).await;
    lab.store
        .jumbled
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let mut events = Vec::new();
    for _ in 0..15 {
        events.extend(emit_many(&lab, &node, 20).await);
        lab.store.hint(Hint::Everything);
        lab.tick(Duration::from_millis(700), &[&node]).await;
    }
    lab.until_in_time("all sent", &[&node], async || {
        lab.is_settled(&events, &[fast, slow]).await
    })
    .await;
    for _ in 0..5 {
        lab.tick(Duration::from_secs(2), &[&node]).await;
        lab.rest(&node).await;
    }
    assert_once_each(&lab, &events, 2);
}

#[tokio::test]
async fn a_read_that_comes_back_after_the_settling_brings_nothing_back() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let lane = Lane::of(subscription);
    let event = lab.emit_silently().await;
    lab.store.hold(Some("read"));
    lab.store.hint(Hint::Lane(lane));
    lab.until("a read has seen the row", || lab.store.is_holding())
        .await;
    let payload = lab.store.inner.payloads(&[event]).await.unwrap().remove(0);
    let key = OutboxKey {
        lane,
        delivery: DeliveryId {
            event,
            subscription,
        },
    };
    node.hand_over.offer(payload, vec![key]);
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
    lab.store.hold(None);
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 1);
}

#[tokio::test]
async fn a_hand_over_that_comes_after_the_settling_brings_nothing_back() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let ticket = node.hand_over.ticket();
    let (payload, keys) = lab.accept().await;
    lab.store.hint(Hint::Lane(Lane::of(subscription)));
    lab.until_status(payload.event, subscription, DeliveryStatus::Delivered)
        .await;
    lab.rest(&node).await;
    node.hand_over.offer(payload, keys);
    drop(ticket);
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 1);
}

#[tokio::test]
async fn when_settling_fails_for_a_while_nothing_is_lost_or_repeated() {
    for fails in [Fails::Before, Fails::After] {
        let lab = Lab::new().await;
        let subscription = lab.subscribe("/hooks", 100, retry(TWICE)).await;
        let node = lab.node("a", config()).await;
        lab.receiver.react(|request| {
            Reaction::Answers(if request.event.get() % 2 == 0 {
                200
            } else {
                500
            })
        });
        lab.store.fail("settle", fails);
        let mut events = emit_many(&lab, &node, 50).await;
        lab.until_in_time("several failures", &[&node], async || {
            lab.store.count("settle") > 5
        })
        .await;
        lab.store.mend();
        events.extend(emit_many(&lab, &node, 10).await);
        lab.until_in_time("nothing pending", &[&node], async || {
            for event in &events {
                if lab.status(*event, subscription).await == DeliveryStatus::Pending {
                    return false;
                }
            }
            true
        })
        .await;
        assert_once_each(&lab, &events, 1);
    }
}

#[tokio::test]
async fn while_nothing_can_be_settled_only_so_much_is_sent() {
    let (lab, node, _) = lab_with(STANDARD, 10).await;
    lab.store.fail("settle", Fails::Before);
    for _ in 0..Settler::MOST + 200 {
        lab.emit_silently().await;
    }
    let most = Settler::MOST + 10 + 1;
    lab.store.hint(Hint::Everything);
    lab.until("many requests", || lab.receiver.count() > Settler::MOST)
        .await;
    lab.rest(&node).await;
    assert!(lab.receiver.count() <= most, "{}", lab.receiver.count());
}

#[tokio::test]
async fn when_the_database_is_away_everything_goes_on_when_it_is_back() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let calls = [
        "read",
        "payloads",
        "due",
        "waiting",
        "sending_states",
        "changed_since",
        "settle",
        "park",
    ];
    calls
        .iter()
        .for_each(|call| lab.store.fail(call, Fails::Before));
    let events = emit_many(&lab, &node, 30).await;
    let later = lab.clock.now() + TimeDelta::seconds(5);
    lab.until_in_time("five seconds", &[&node], async || lab.clock.now() >= later)
        .await;
    lab.store.mend();
    lab.until_in_time("all sent", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert_once_each(&lab, &events, 1);
}

// Several nodes.

#[tokio::test]
async fn nothing_is_sent_past_the_lease_and_all_goes_on_when_it_is_renewed() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    lab.clock.advance(NodeLease::LENGTH - NodeLease::MARGIN);
    let event = lab.emit(&node).await;
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 0);
    node.beat(&lab).await;
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
}

#[tokio::test]
async fn a_node_that_joins_takes_its_share_and_nothing_is_sent_twice() {
    let lab = Lab::new().await;
    let mut subscriptions = Vec::new();
    for number in 0..16 {
        subscriptions.push(
            lab.subscribe(&format!("/{number}"), 3, retry(STANDARD))
                .await,
        );
    }
    let first = lab.node("a", config()).await;
    assert_eq!(first.owned(), Lane::COUNT);
    let mut events = emit_many(&lab, &first, 10).await;
    let second = lab.late_node("b", config()).await;
    events.extend(emit_many(&lab, &first, 10).await);
    lab.until_in_time("lanes shared", &[&first, &second], async || {
        second.owned() > 0
    })
    .await;
    events.extend(emit_many(&lab, &first, 10).await);
    events.extend(emit_many(&lab, &second, 10).await);
    lab.until_in_time("all sent", &[&first, &second], async || {
        first.owned() + second.owned() == Lane::COUNT
            && lab.is_settled(&events, &subscriptions).await
    })
    .await;
    assert_once_each(&lab, &events, subscriptions.len());

    // The first leaves; what it had goes to the second at once.
    events.extend(emit_many(&lab, &first, 10).await);
    first.stop();
    let lease = first.membership.lease().unwrap();
    first.stopped(&lab).await;
    ringback_store::Lanes::leave(&lab.store.inner, &lease, lab.clock.now())
        .await
        .unwrap();
    lab.until_in_time("all sent", &[&second], async || {
        second.owned() == Lane::COUNT && lab.is_settled(&events, &subscriptions).await
    })
    .await;
    assert_once_each(&lab, &events, subscriptions.len());
}

#[tokio::test]
async fn what_a_vanished_node_had_is_sent_by_another_and_only_what_was_in_flight_twice() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 2, retry(STANDARD)).await;
    let first = lab.node("a", config()).await;
    lab.receiver.hold(true);
    let events = emit_many(&lab, &first, 30).await;
    lab.until("two in flight", || lab.receiver.count() == 2)
        .await;
    first.vanish().await;
    lab.receiver.hold(false);
    let second = lab.late_node("b", config()).await;
    lab.until_in_time("all sent", &[&second], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert!(lab.clock.now() - start() <= TimeDelta::seconds(15));
    let tally = lab.receiver.tally();
    assert_eq!(tally.len(), events.len());
    assert_eq!(tally.values().sum::<usize>(), events.len() + 2);
}

/// A node that was stopped past its lease may report what it delivered, and nothing
/// else: its failures stay for the lane's new owner.
#[tokio::test]
async fn a_deposed_node_settles_only_its_successes() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 10, retry(TWICE)).await;
    let first = lab.node("a", config()).await;
    lab.receiver.hold(true);
    let [good, bad] = [lab.emit(&first).await, lab.emit(&first).await];
    lab.until("two in flight", || lab.receiver.count() == 2)
        .await;

    // Another takes all lanes, but can send nothing yet.
    lab.store.hold(Some("sending_states"));
    lab.go_to(start() + TimeDelta::seconds(11), &[]).await;
    let second = lab.node("b", config()).await;
    lab.until_in_time("all lanes taken", &[&second], async || {
        second.owned() == Lane::COUNT
    })
    .await;

    lab.receiver
        .react(move |request| Reaction::Answers(if request.event == good { 200 } else { 500 }));
    let settled = lab.store.count("settle");
    lab.receiver.hold(false);
    lab.until_status(good, subscription, DeliveryStatus::Delivered)
        .await;
    lab.until_in_time("both reported", &[&second], async || {
        lab.store.count("settle") > settled
    })
    .await;
    assert_eq!(lab.status(bad, subscription).await, DeliveryStatus::Pending);

    lab.store.hold(None);
    lab.until_in_time("sent by its owner", &[&second], async || {
        lab.status(bad, subscription).await == DeliveryStatus::Retrying
    })
    .await;
    drop(first);
}

#[tokio::test]
async fn a_node_whose_number_was_given_away_starts_over() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    // Another process registers under its name.
    let twin = lab.late_node("a", config()).await;
    node.beat(&lab).await;
    lab.until("its lanes are lost", || node.owned() == 0).await;
    drop(twin);
    lab.go_to(start() + TimeDelta::seconds(1), &[&node]).await;
    let event = lab.emit(&node).await;
    lab.until_in_time("delivered", &[&node], async || {
        lab.status(event, subscription).await == DeliveryStatus::Delivered
    })
    .await;
    assert_eq!(lab.receiver.count(), 1);
}

// Stopping.

#[tokio::test]
async fn a_graceful_stop_ends_what_is_in_flight_and_sends_nothing_new() {
    let (lab, node, subscription) = lab_with(STANDARD, 1).await;
    lab.receiver.hold(true);
    let [in_flight, queued] = [lab.emit(&node).await, lab.emit(&node).await];
    lab.until("one in flight", || lab.receiver.count() == 1)
        .await;
    node.stop();
    lab.until("lanes given back", || lab.store.count("release") > 0)
        .await;
    lab.receiver.hold(false);
    node.stopped(&lab).await;
    assert_eq!(
        lab.status(in_flight, subscription).await,
        DeliveryStatus::Delivered
    );
    assert_eq!(
        lab.status(queued, subscription).await,
        DeliveryStatus::Pending
    );
    assert_eq!(lab.receiver.count(), 1);
    assert!(lab.clock.now() - start() <= TimeDelta::seconds(1));

    let _node = lab.node("b", config()).await;
    lab.until_status(queued, subscription, DeliveryStatus::Delivered)
        .await;
    assert_eq!(lab.receiver.count(), 2);
}

#[tokio::test]
async fn attempts_that_outlast_a_stop_are_cut_and_count_as_none() {
    let (lab, node, subscription) = lab_with(STANDARD, 1).await;
    lab.receiver.hold(true);
    let event = lab.emit(&node).await;
    lab.until("one in flight", || lab.receiver.count() == 1)
        .await;
    node.stop();
    lab.until("lanes given back", || lab.store.count("release") > 0)
        .await;
    lab.clock.advance(Duration::from_secs(18));
    node.stopped(&lab).await;
    let delivery = lab.delivery(event, subscription).await;
    assert_eq!(
        (delivery.status, delivery.attempts),
        (DeliveryStatus::Pending, 0)
    );
}
