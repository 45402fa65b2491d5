//! Withdrawing a delivery.

use std::time::Duration;

use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Gate, Reply},
};
use serde_json::{Value, json};

use super::{Bystander, emit, service, stays_quiet, subscribe};
use crate::harness::{Answer, Ringback};

on_both_databases! {
    a_retry_that_is_cancelled_is_never_made,
    a_delivery_cancelled_in_flight_stays_cancelled_and_shows_its_attempt,
    a_settled_delivery_cannot_be_cancelled,
}

async fn a_retry_that_is_cancelled_is_never_made(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(500)]);
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let event = emit(&ringback).await;
    let retrying = ringback
        .delivery_in("retrying", &event, &subscription)
        .await;

    let answer = cancel(&ringback, &retrying).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], "cancelled");
    let shown = ringback.api.delivery(&event, &subscription).await;
    assert_eq!(
        (&shown["status"], &shown["next_attempt_at"]),
        (&json!("cancelled"), &Value::Null)
    );
    stays_quiet(&ringback, &bystander, &receiver, Duration::from_secs(3600)).await;
    assert_eq!(receiver.count(), 1);
    ringback.finish().await;
}

async fn a_delivery_cancelled_in_flight_stays_cancelled_and_shows_its_attempt(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.next([Reply::status(500).behind(&gate)]);
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let event = emit(&ringback).await;
    receiver.wait_for(1).await;

    let pending = ringback.api.delivery(&event, &subscription).await;
    cancel(&ringback, &pending).await.ok();
    gate.open();
    let attempts = ringback
        .eventually("the attempt is recorded", async || {
            let attempts = ringback.api.attempts(&pending).await;
            if attempts.len() == 1 {
                Ok(attempts)
            } else {
                Err(attempts)
            }
        })
        .await;
    assert_eq!(attempts[0]["status_code"], 500);
    let shown = ringback.api.delivery(&event, &subscription).await;
    assert_eq!(shown["status"], "cancelled");
    stays_quiet(&ringback, &bystander, &receiver, Duration::from_secs(3600)).await;
    assert_eq!(receiver.count(), 1);
    ringback.finish().await;
}

async fn a_settled_delivery_cannot_be_cancelled(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let event = emit(&ringback).await;
    let delivered = ringback
        .delivery_in("delivered", &event, &subscription)
        .await;
    let answer = cancel(&ringback, &delivered).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (409, &json!("settled"))
    );
    assert_eq!(
        ringback.api.delivery(&event, &subscription).await,
        delivered
    );
    ringback.finish().await;
}

async fn cancel(ringback: &Ringback, delivery: &Value) -> Answer {
    let id = delivery["id"].as_str().unwrap();
    ringback
        .api
        .post(&format!("/v1/deliveries/{id}/cancel"), json!({}))
        .await
}
