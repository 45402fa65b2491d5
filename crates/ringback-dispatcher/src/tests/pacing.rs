//! Receivers that are slow, overloaded, or down, and what becomes of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Answers failures until the clock shows this, then successes.
fn down_until(lab: &Lab, time: DateTime<Utc>, reaction: Reaction) {
    lab.receiver.react(move |request| {
        if request.at < time {
            reaction
        } else {
            Reaction::Answers(204)
        }
    });
}

/// Emits events that are all handed over.
async fn emit_all(lab: &Lab, node: &Node, count: usize) -> Vec<EventId> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(lab.emit(node).await);
    }
    events
}

/// Lets a little time pass until the first attempt of an event is recorded.
async fn attempted(lab: &Lab, node: &Node, event: EventId, to: SubscriptionId) {
    lab.in_time("attempted", &[node], async || {
        lab.delivery(event, to).await.attempts > 0
    })
    .await;
}

/// Lets time pass until all is delivered.
async fn all_delivered(lab: &Lab, node: &Node, events: &[EventId], to: SubscriptionId) {
    lab.in_time("all delivered", &[node], async || {
        let settled = lab.is_settled(events, &[to]).await;
        settled && lab.status(events[events.len() - 1], to).await == DeliveryStatus::Delivered
    })
    .await;
    for event in events {
        assert_eq!(lab.status(*event, to).await, DeliveryStatus::Delivered);
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it_for_every_event() {
    let (lab, node, subscription) = lab_with(STANDARD, 1).await;
    let back_at = start() + TimeDelta::seconds(8);
    down_until(&lab, back_at, Reaction::AsksToWait(429, 8));
    let events = emit_all(&lab, &node, 10).await;
    attempted(&lab, &node, events[0], subscription).await;
    // Its own retry would be due before.
    lab.go_to(back_at - TimeDelta::milliseconds(1), &[&node])
        .await;
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 1);
    let delivery = lab.delivery(events[0], subscription).await;
    assert_eq!(delivery.next_attempt_at, Some(back_at));
    all_delivered(&lab, &node, &events, subscription).await;
    let second = lab.receiver.log()[1].at;
    assert!(second >= back_at, "{second}");
    assert_eq!(lab.receiver.count(), 11, "waiting is no attempt");
}

/// Nothing of it waits in memory, and nobody asks the database for it.
#[tokio::test]
async fn what_has_to_wait_for_long_is_parked_and_not_looked_at() {
    let (lab, node, subscription) = lab_with(TWICE, 1).await;
    lab.receiver.hold(true);
    let back_at = start() + TimeDelta::hours(5);
    down_until(&lab, back_at, Reaction::AsksToWait(503, 5 * 3600));
    let mut events = emit_all(&lab, &node, 10).await;
    lab.until("the first request", || lab.receiver.count() == 1)
        .await;
    lab.rest(&node).await;
    lab.receiver.hold(false);
    attempted(&lab, &node, events[0], subscription).await;
    lab.in_time("parked", &[&node], async || lab.store.count("park") > 0)
        .await;
    events.push(lab.emit(&node).await);
    lab.rest(&node).await;
    let looks = lab.store.count("due");
    for hour in 1..5 {
        lab.go_to(start() + TimeDelta::hours(hour), &[&node]).await;
        lab.rest(&node).await;
    }
    assert_eq!((lab.store.count("due"), lab.receiver.count()), (looks, 1));
    all_delivered(&lab, &node, &events, subscription).await;
    assert!(lab.receiver.log()[1].at >= back_at);
    assert_eq!(lab.receiver.count(), 12);
}

#[tokio::test]
async fn an_overloaded_receiver_is_sent_less_and_all_of_it_in_the_end() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let requests = AtomicUsize::new(0);
    lab.receiver.react(move |_| {
        Reaction::Answers(match requests.fetch_add(1, Ordering::SeqCst) {
            0 => 502,
            1 => 504,
            _ => 204,
        })
    });
    let first = emit_all(&lab, &node, 1).await;
    attempted(&lab, &node, first[0], subscription).await;
    let events = emit_all(&lab, &node, 50).await;
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 1, "first attempts pause");
    all_delivered(&lab, &node, &events, subscription).await;
    all_delivered(&lab, &node, &first, subscription).await;
}

#[tokio::test]
async fn a_receiver_that_is_down_is_probed_by_its_retries_alone() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    lab.receiver.react(|_| Reaction::Resets);
    let first = emit_all(&lab, &node, 5).await;
    for event in &first {
        attempted(&lab, &node, *event, subscription).await;
    }
    let events = emit_all(&lab, &node, 40).await;
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 5, "held back");
    // Five retries, each when it is due or after the one before, and then the next
    // are five minutes away: a first attempt is let through.
    let probes = |s: i64| start() + TimeDelta::milliseconds(s * 1000);
    lab.in_time_until(probes(6), &[&node]).await;
    assert_eq!(lab.receiver.count(), 10);
    lab.in_time_until(probes(30), &[&node]).await;
    assert_eq!(lab.receiver.count(), 10);
    lab.in_time_until(probes(40), &[&node]).await;
    assert_eq!(lab.receiver.count(), 11);
    lab.in_time_until(probes(120), &[&node]).await;
    assert!(lab.store.count("park") > 0, "what is held back is parked");

    lab.receiver.answers(204);
    all_delivered(&lab, &node, &events, subscription).await;
    all_delivered(&lab, &node, &first, subscription).await;
    // The last probe that failed was retried five minutes later, and a bit.
    assert!(lab.clock.now() <= start() + TimeDelta::minutes(8));
}

/// Without a schedule there is nothing to probe with but what is parked.
#[tokio::test]
async fn what_is_parked_is_probed_with_when_nothing_else_is_left() {
    let (lab, node, subscription) = lab_with(ONCE, 10).await;
    let back_at = start() + TimeDelta::hours(6);
    down_until(&lab, back_at, Reaction::Resets);
    let events = emit_all(&lab, &node, 60).await;
    lab.in_time("the last probe", &[&node], async || {
        lab.clock.now() >= back_at
    })
    .await;
    lab.in_time("all settled", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert!(lab.clock.now() <= back_at + TimeDelta::minutes(12));
    assert_once_each(&lab, &events, 1);
}

#[tokio::test]
async fn a_rate_is_kept_and_what_it_leaves_waiting_is_all_sent() {
    let lab = Lab::new().await;
    let subscription = lab
        .subscribe_with("/hooks", 10, retry(STANDARD), Some(2.0))
        .await;
    let node = lab.node("a", config()).await;
    let events = emit_all(&lab, &node, 150).await;
    lab.in_time("parked", &[&node], async || lab.store.count("park") > 0)
        .await;
    all_delivered(&lab, &node, &events, subscription).await;
    assert_once_each(&lab, &events, 1);
    let at: Vec<_> = lab
        .receiver
        .log()
        .iter()
        .map(|request| request.at)
        .collect();
    for (index, from) in at.iter().enumerate() {
        let minute = at[index..]
            .iter()
            .take_while(|at| **at < *from + TimeDelta::minutes(1));
        assert!(minute.count() <= 122);
    }
    assert!(
        at[149] - at[0] < TimeDelta::seconds(90),
        "{}",
        at[149] - at[0]
    );
}

#[tokio::test]
async fn paused_while_it_waits_for_anything_it_is_held_and_resumed_all_is_sent() {
    let waits = [
        ("Retry-After", Reaction::AsksToWait(503, 30)),
        ("breaker", Reaction::Resets),
        ("overloaded", Reaction::Answers(502)),
    ];
    for (case, reaction) in waits {
        let lab = Lab::new().await;
        let subscription = lab
            .subscribe_with("/hooks", 5, retry(STANDARD), Some(10.0))
            .await;
        let node = lab.node("a", config()).await;
        lab.receiver.react(move |_| reaction);
        let events = emit_all(&lab, &node, 30).await;
        lab.until("requests", || lab.receiver.count() > 0).await;
        lab.rest(&node).await;
        let now = lab.clock.now();
        lab.store
            .inner
            .pause_subscription(subscription, EVERYTHING, now)
            .await
            .unwrap();
        lab.store.hint(Hint::Subscription(subscription));
        lab.in_time(case, &[&node], async || {
            for event in &events {
                if lab.status(*event, subscription).await != DeliveryStatus::Held {
                    return false;
                }
            }
            true
        })
        .await;
        let sent = lab.receiver.count();
        lab.go_to(now + TimeDelta::hours(1), &[&node]).await;
        lab.rest(&node).await;
        assert_eq!(lab.receiver.count(), sent, "{case}");
        lab.receiver.answers(204);
        let now = lab.clock.now();
        lab.store
            .inner
            .resume_subscription(subscription, EVERYTHING, now)
            .await
            .unwrap();
        lab.store.hint(Hint::Subscription(subscription));
        all_delivered(&lab, &node, &events, subscription).await;
        node.stopped(&lab).await;
    }
}

/// A deleted subscription leaves nothing behind, whatever it waits for.
#[tokio::test]
async fn deleted_while_it_is_down_everything_is_cancelled() {
    let (lab, node, subscription) = lab_with(STANDARD, 5).await;
    lab.receiver.react(|_| Reaction::Resets);
    let events = emit_all(&lab, &node, 30).await;
    lab.until("some requests", || lab.receiver.count() >= 5)
        .await;
    lab.rest(&node).await;
    lab.store
        .inner
        .delete_subscription(subscription, EVERYTHING, lab.clock.now())
        .await
        .unwrap();
    lab.store.hint(Hint::Subscription(subscription));
    lab.in_time("all cancelled", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    for event in events {
        let status = lab.status(event, subscription).await;
        assert_eq!(status, DeliveryStatus::Cancelled);
    }
}

#[tokio::test]
async fn what_a_node_held_back_its_successor_sends() {
    let (lab, node, subscription) = lab_with(STANDARD, 5).await;
    lab.receiver.react(|_| Reaction::Resets);
    let events = emit_all(&lab, &node, 60).await;
    lab.until("some requests", || lab.receiver.count() >= 5)
        .await;
    lab.in_time("parked", &[&node], async || lab.store.count("park") > 0)
        .await;
    node.stopped(&lab).await;
    lab.receiver.answers(204);
    let node = lab.node("b", config()).await;
    all_delivered(&lab, &node, &events, subscription).await;
}

/// Days of it, and its last attempt settled before it is disabled.
#[tokio::test]
async fn five_days_of_nothing_but_failures_disable_a_subscription() {
    let (lab, node, subscription) = lab_with(
        r#"{"exponential":{"initial_s":43200,"factor":1,"max_s":43200,"attempts":100}}"#,
        10,
    )
    .await;
    lab.receiver.answers(500);
    let mut events = emit_all(&lab, &node, 2).await;
    let shown = async || {
        let found = lab.store.inner.subscription(subscription, EVERYTHING);
        found.await.unwrap().unwrap()
    };
    attempted(&lab, &node, events[0], subscription).await;
    lab.in_time("recorded", &[&node], async || {
        shown().await.failing_since.is_some()
    })
    .await;
    assert!(lab.clock.now() - start() >= TimeDelta::seconds(60));
    assert_eq!(shown().await.failing_since, Some(start()));
    lab.in_time("almost five days", &[&node], async || {
        lab.clock.now() >= start() + TimeDelta::hours(99)
    })
    .await;
    assert_eq!(shown().await.status, SubscriptionStatus::Active);
    events.push(lab.emit(&node).await);
    lab.in_time("disabled", &[&node], async || {
        shown().await.status == SubscriptionStatus::Disabled
    })
    .await;
    assert!(lab.clock.now() - start() >= TimeDelta::days(5));
    assert_eq!(
        shown().await.status_reason.as_deref(),
        Some("nothing but failures for 5 days")
    );
    let delivery = lab.delivery(events[2], subscription).await;
    assert_eq!(delivery.dead_reason, Some(DeadReason::SubscriptionDisabled));
    assert_eq!(lab.store.count("record"), 4, "once, and at 50, 70 and 90 %");

    lab.store
        .inner
        .resume_subscription(subscription, EVERYTHING, lab.clock.now())
        .await
        .unwrap();
    lab.store.hint(Hint::Subscription(subscription));
    lab.rest(&node).await;
    let again = lab.emit(&node).await;
    attempted(&lab, &node, again, subscription).await;
    lab.rest(&node).await;
    assert_eq!(
        shown().await.status,
        SubscriptionStatus::Active,
        "it counts anew"
    );
}

#[tokio::test]
async fn a_success_makes_a_subscription_healthy_and_a_healthy_one_writes_nothing() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let first = lab.emit(&node).await;
    lab.until_status(first, subscription, DeliveryStatus::Delivered)
        .await;
    down_until(&lab, start() + TimeDelta::seconds(100), Reaction::Resets);
    let event = lab.emit(&node).await;
    attempted(&lab, &node, event, subscription).await;
    lab.in_time("recorded", &[&node], async || {
        lab.store.count("record") == 1
    })
    .await;
    all_delivered(&lab, &node, &[event], subscription).await;
    lab.in_time("healthy", &[&node], async || lab.store.count("record") == 2)
        .await;
    let found = lab.store.inner.subscription(subscription, EVERYTHING).await;
    assert_eq!(found.unwrap().unwrap().failing_since, None);
    let last = lab.emit(&node).await;
    all_delivered(&lab, &node, &[last], subscription).await;
    lab.rest(&node).await;
    assert_eq!(lab.store.count("record"), 2);
}

/// What a node learnt of a receiver is not lost with it.
#[tokio::test]
async fn health_is_written_before_lanes_are_given_back_and_goes_on_elsewhere() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    lab.receiver.react(|_| Reaction::Resets);
    let event = lab.emit(&node).await;
    attempted(&lab, &node, event, subscription).await;
    lab.in_time("recorded", &[&node], async || {
        lab.store.count("record") == 1
    })
    .await;
    lab.receiver.answers(204);
    // The success is known here alone when the stop comes.
    lab.store.fail("record", Fails::Before);
    lab.in_time("delivered", &[&node], async || {
        lab.status(event, subscription).await == DeliveryStatus::Delivered
    })
    .await;
    lab.rest(&node).await;
    node.stop();
    lab.tick(Duration::from_secs(1), &[]).await;
    lab.store.mend();
    node.stopped(&lab).await;
    let found = lab.store.inner.subscription(subscription, EVERYTHING).await;
    assert_eq!(found.unwrap().unwrap().failing_since, None);
}
