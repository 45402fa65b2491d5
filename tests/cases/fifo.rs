//! Order: a subscription that asks for it gets its events one after the other, per key.

use std::time::Duration;

use ringback_testkit::{Receiver, TestStore, receiver::Reply};
use serde_json::{Value, json};

use super::{APP, service, subscribe};
use crate::harness::Ringback;

on_both_databases! {
    what_follows_a_failed_delivery_waits_for_it_and_other_keys_do_not,
    a_dead_delivery_lets_the_next_go,
    a_replay_goes_before_what_waits,
    after_a_pause_order_is_kept,
}

async fn what_follows_a_failed_delivery_waits_for_it_and_other_keys_do_not(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(503)]);
    let fields = json!({"ordering": "fifo", "retry": {"schedule_s": [30]}});
    let subscription = subscribe(&ringback, &receiver, fields).await.id;
    let first = emit(&ringback, "a").await;
    ringback
        .delivery_in("retrying", &first, &subscription)
        .await;
    let second = emit(&ringback, "a").await;
    let other = emit(&ringback, "b").await;
    ringback
        .delivery_in("delivered", &other, &subscription)
        .await;
    assert_eq!(came(&receiver), [&first, &other].map(String::as_str));
    let waiting = ringback.api.delivery(&second, &subscription).await;
    assert_eq!(
        (&waiting["status"], &waiting["attempts"]),
        (&json!("pending"), &json!(0))
    );

    ringback.later(Duration::from_secs(40)).await;
    ringback
        .delivery_in("delivered", &second, &subscription)
        .await;
    let expected = [&first, &other, &first, &second].map(String::as_str);
    assert_eq!(came(&receiver), expected);
    ringback.finish().await;
}

async fn a_dead_delivery_lets_the_next_go(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(500)]);
    let fields = json!({"ordering": "fifo", "retry": {"schedule_s": []}});
    let subscription = subscribe(&ringback, &receiver, fields).await.id;
    let first = emit(&ringback, "a").await;
    let second = emit(&ringback, "a").await;
    ringback
        .delivery_in("delivered", &second, &subscription)
        .await;
    ringback.delivery_in("dead", &first, &subscription).await;
    assert_eq!(came(&receiver), [&first, &second].map(String::as_str));
    ringback.finish().await;
}

async fn a_replay_goes_before_what_waits(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let fields = json!({"ordering": "fifo", "retry": {"schedule_s": [30]}});
    let subscription = subscribe(&ringback, &receiver, fields).await.id;
    let old = emit(&ringback, "a").await;
    let delivered = ringback.delivery_in("delivered", &old, &subscription).await;
    receiver.next([Reply::status(503)]);
    let second = emit(&ringback, "a").await;
    ringback
        .delivery_in("retrying", &second, &subscription)
        .await;
    let third = emit(&ringback, "a").await;

    let path = format!(
        "/v1/deliveries/{}/replay",
        delivered["id"].as_str().unwrap()
    );
    assert_eq!(ringback.api.post(&path, json!({})).await.status, 202);
    ringback.delivery_after(2, &old, &subscription).await;
    ringback.later(Duration::from_secs(40)).await;
    ringback
        .delivery_in("delivered", &third, &subscription)
        .await;
    let expected = [&old, &second, &old, &second, &third].map(String::as_str);
    assert_eq!(came(&receiver), expected);
    ringback.finish().await;
}

async fn after_a_pause_order_is_kept(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({"ordering": "fifo"}))
        .await
        .id;
    let path = format!("/v1/subscriptions/{subscription}");
    ringback
        .api
        .post(&format!("{path}/pause"), json!({}))
        .await
        .ok();
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(emit(&ringback, "a").await);
    }
    ringback
        .api
        .post(&format!("{path}/resume"), json!({}))
        .await
        .ok();
    for _ in 0..5 {
        events.push(emit(&ringback, "a").await);
    }
    ringback
        .delivery_in("delivered", &events[9], &subscription)
        .await;
    assert_eq!(came(&receiver), events);
    ringback.finish().await;
}

async fn emit(ringback: &Ringback, key: &str) -> String {
    let event = json!({"app": APP, "type": "order.paid", "ordering_key": key, "data": Value::Null});
    let accepted = ringback.api.post("/v1/events", event).await.ok();
    accepted["id"].as_str().unwrap().to_owned()
}

/// The events, in the order in which they were sent.
fn came(receiver: &Receiver) -> Vec<String> {
    let requests = receiver.requests();
    requests
        .iter()
        .map(|request| request.webhook_id().to_owned())
        .collect()
}
