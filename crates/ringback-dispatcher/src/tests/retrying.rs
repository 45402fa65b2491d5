//! Failures are retried exactly when due, and replays at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

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
    // Two of three fail: not so many in a row that its breaker opens.
    let requests = AtomicUsize::new(0);
    lab.receiver.react(move |request| {
        let fails =
            request.attempt == 1 && !requests.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        Reaction::Answers(if fails { 500 } else { 200 })
    });
    let events = emit_many(&lab, &node, 300).await;
    lab.until_in_time("all delivered", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    let retried = lab
        .receiver
        .tally()
        .into_values()
        .filter(|count| *count == 2);
    assert_eq!((retried.count(), lab.receiver.count()), (200, 500));
    for event in events {
        let attempts = lab.attempts(event, subscription).await;
        if attempts.len() == 1 {
            continue;
        }
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
