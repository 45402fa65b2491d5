//! Deliveries are found and sent.

use std::sync::atomic::Ordering;

use super::*;

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

#[tokio::test]
async fn a_delivery_whose_event_is_not_kept_any_more_is_dead_without_an_attempt() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    lab.store.forgetful.store(true, Ordering::Relaxed);
    let event = lab.emit_silently().await;
    lab.store.hint(Hint::Lane(Lane::of(subscription)));
    lab.until_status(event, subscription, DeliveryStatus::Dead)
        .await;
    let delivery = lab.delivery(event, subscription).await;
    assert_eq!(delivery.dead_reason, Some(DeadReason::PayloadExpired));
    assert_eq!((delivery.attempts, lab.receiver.count()), (0, 0));

    // What follows is sent as ever.
    lab.store.forgetful.store(false, Ordering::Relaxed);
    let next = lab.emit(&node).await;
    lab.until_in_time("delivered", &[&node], async || {
        lab.status(next, subscription).await == DeliveryStatus::Delivered
    })
    .await;
}
