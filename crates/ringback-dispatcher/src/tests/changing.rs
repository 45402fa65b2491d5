//! Subscriptions are paused, resumed, disabled, deleted; deliveries cancelled.

use super::*;

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
async fn what_comes_after_a_resume_is_not_dead_because_the_resume_is_not_known_yet() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    lab.receiver.answers(410);
    lab.emit(&node).await;
    lab.until("disabled", || lab.store.count("disable") == 1)
        .await;
    lab.rest(&node).await;
    lab.receiver.answers(200);
    // A load is under way that began before the resume.
    lab.store.hold(Some("sending_states"));
    lab.store.hint(Hint::Subscription(subscription));
    lab.until("an outdated load", || lab.store.is_holding())
        .await;
    let now = lab.clock.now();
    lab.store
        .inner
        .resume_subscription(subscription, EVERYTHING, now)
        .await
        .unwrap();
    let event = lab.emit(&node).await;
    let reads = lab.store.count("read");
    lab.store.hint(Hint::Lane(Lane::of(subscription)));
    lab.until("a round", || lab.store.count("read") > reads)
        .await;
    lab.store.hold(None);
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
