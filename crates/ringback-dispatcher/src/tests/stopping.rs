//! A stop is graceful.

use super::*;

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
