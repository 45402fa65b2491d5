//! A paused subscription holds its deliveries.

use std::time::Duration;

use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Gate, Reply},
};
use serde_json::{Value, json};

use super::{APP, Bystander, emit, service, stays_quiet, subscribe};
use crate::harness::Ringback;

on_both_databases! {
    what_comes_while_it_is_paused_is_held_and_sent_when_it_is_resumed,
    what_waited_when_it_was_paused_is_held_too,
}

async fn what_comes_while_it_is_paused_is_held_and_sent_when_it_is_resumed(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;

    assert_eq!(
        turn(&ringback, &subscription, "pause").await["status"],
        "paused"
    );
    let body = json!({"app": APP, "type": "order.paid", "data": 1});
    let accepted = ringback.api.post("/v1/events", body).await.ok();
    assert_eq!(accepted["deliveries"], 1);
    let event = accepted["id"].as_str().unwrap();
    let held = ringback.delivery_in("held", event, &subscription).await;
    assert_eq!(
        (&held["attempts"], &held["next_attempt_at"]),
        (&json!(0), &Value::Null)
    );
    stays_quiet(&ringback, &bystander, &receiver, Duration::from_secs(3600)).await;

    assert_eq!(
        turn(&ringback, &subscription, "resume").await["status"],
        "active"
    );
    let delivered = ringback
        .delivery_in("delivered", event, &subscription)
        .await;
    assert_eq!((&delivered["attempts"], receiver.count()), (&json!(1), 1));
    ringback.finish().await;
}

async fn what_waited_when_it_was_paused_is_held_too(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.next([Reply::status(500), Reply::status(204).behind(&gate)]);
    let subscription = subscribe(&ringback, &receiver, json!({"max_in_flight": 1}))
        .await
        .id;
    let retrying = emit(&ringback).await;
    ringback
        .delivery_in("retrying", &retrying, &subscription)
        .await;
    let in_flight = emit(&ringback).await;
    receiver.wait_for(2).await;
    let queued = emit(&ringback).await;

    turn(&ringback, &subscription, "pause").await;
    ringback.delivery_in("held", &retrying, &subscription).await;
    ringback.delivery_in("held", &queued, &subscription).await;
    gate.open();
    // What was under way ends as it may.
    ringback
        .delivery_in("delivered", &in_flight, &subscription)
        .await;
    stays_quiet(&ringback, &bystander, &receiver, Duration::from_secs(3600)).await;

    turn(&ringback, &subscription, "resume").await;
    for event in [&retrying, &queued] {
        ringback
            .delivery_in("delivered", event, &subscription)
            .await;
    }
    assert_eq!(receiver.count(), 4);
    ringback.finish().await;
}

async fn turn(ringback: &Ringback, subscription: &str, action: &str) -> Value {
    let path = format!("/v1/subscriptions/{subscription}/{action}");
    ringback.api.post(&path, json!({})).await.ok()
}
