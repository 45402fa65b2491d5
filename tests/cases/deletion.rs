//! A deleted subscription: what waits is cancelled, what was is kept.

use std::time::Duration;

use ringback_testkit::{Receiver, TestStore, receiver::Reply};
use serde_json::json;

use super::{APP, Bystander, emit, service, stays_quiet, subscribe};

on_both_databases! {
    what_waits_for_a_deleted_subscription_is_cancelled_and_its_history_stays,
    what_waits_for_a_deleted_application_is_cancelled,
}

async fn what_waits_for_a_deleted_subscription_is_cancelled_and_its_history_stays(
    store: TestStore,
) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(204), Reply::status(500)]);
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let done = emit(&ringback).await;
    let delivered = ringback
        .delivery_in("delivered", &done, &subscription)
        .await;
    let waiting = emit(&ringback).await;
    ringback
        .delivery_in("retrying", &waiting, &subscription)
        .await;

    let path = format!("/v1/subscriptions/{subscription}");
    assert_eq!(ringback.api.delete(&path).await.status, 204);
    assert_eq!(ringback.api.get(&path).await.status, 404);
    assert_eq!(ringback.api.delete(&path).await.status, 404);
    let body = json!({"app": APP, "type": "order.paid", "data": 1});
    assert_eq!(
        ringback.api.post("/v1/events", body).await.ok()["deliveries"],
        0
    );
    ringback
        .delivery_in("cancelled", &waiting, &subscription)
        .await;
    stays_quiet(&ringback, &bystander, &receiver, Duration::from_secs(3600)).await;
    assert_eq!(ringback.api.delivery(&done, &subscription).await, delivered);
    assert_eq!(ringback.api.attempts(&delivered).await.len(), 1);
    assert_eq!(receiver.count(), 2);
    ringback.finish().await;
}

async fn what_waits_for_a_deleted_application_is_cancelled(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.always(Reply::status(500));
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let event = emit(&ringback).await;
    let retrying = ringback
        .delivery_in("retrying", &event, &subscription)
        .await;

    assert_eq!(
        ringback.api.delete(&format!("/v1/apps/{APP}")).await.status,
        204
    );
    assert_eq!(
        ringback.api.get(&format!("/v1/apps/{APP}")).await.status,
        404
    );
    let body = json!({"app": APP, "type": "order.paid", "data": 1});
    assert_eq!(ringback.api.post("/v1/events", body).await.status, 404);
    let path = format!("/v1/deliveries/{}", retrying["id"].as_str().unwrap());
    assert_eq!(ringback.api.get(&path).await.ok()["status"], "cancelled");

    // Its name is free again.
    ringback.api.app(APP).await;
    let bystander = Bystander::start(&ringback).await;
    stays_quiet(&ringback, &bystander, &receiver, Duration::from_secs(3600)).await;
    ringback.finish().await;
}
