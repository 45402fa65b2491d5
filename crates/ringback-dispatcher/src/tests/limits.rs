//! Memory is bounded, and an idle node asks little.

use super::*;

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
