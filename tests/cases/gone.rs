//! A receiver that answers 410 wants nothing more, ever.

use std::time::Duration;

use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Gate, Reply},
};
use serde_json::json;

use super::{Bystander, emit, service, stays_quiet, subscribe};

on_both_databases! {
    after_410_nothing_more_is_sent_until_somebody_resumes,
}

/// Case 17.
async fn after_410_nothing_more_is_sent_until_somebody_resumes(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.next([Reply::status(500), Reply::status(410).behind(&gate)]);
    let subscription = subscribe(&ringback, &receiver, json!({"max_in_flight": 1}))
        .await
        .id;
    let path = format!("/v1/subscriptions/{subscription}");

    let retrying = emit(&ringback).await;
    ringback
        .delivery_in("retrying", &retrying, &subscription)
        .await;
    let gone = emit(&ringback).await;
    let mut waiting = vec![retrying];
    for _ in 0..3 {
        waiting.push(emit(&ringback).await);
    }
    receiver.wait_for(2).await;
    gate.open();

    let shown = ringback
        .eventually("the subscription is disabled", async || {
            let shown = ringback.api.get(&path).await.ok();
            if shown["status"] == "disabled" {
                Ok(shown)
            } else {
                Err(shown)
            }
        })
        .await;
    assert_eq!(shown["status_reason"], "410 Gone");
    let last = ringback.delivery_in("dead", &gone, &subscription).await;
    assert_eq!(last["last_attempt"]["status_code"], 410);
    for event in &waiting {
        let delivery = ringback.delivery_in("dead", event, &subscription).await;
        assert_eq!(delivery["error"], "subscription_disabled");
    }
    for _ in 0..5 {
        let event = json!({"app": super::APP, "type": "order.paid", "data": 1});
        let accepted = ringback.api.post("/v1/events", event).await.ok();
        assert_eq!(accepted["deliveries"], 0);
    }
    stays_quiet(
        &ringback,
        &bystander,
        &receiver,
        Duration::from_secs(86_400),
    )
    .await;
    assert_eq!(receiver.count(), 2);

    let resumed = ringback
        .api
        .post(&format!("{path}/resume"), json!({}))
        .await
        .ok();
    assert_eq!(
        (&resumed["status"], &resumed["status_reason"]),
        (&json!("active"), &json!(null))
    );
    let event = emit(&ringback).await;
    ringback
        .delivery_in("delivered", &event, &subscription)
        .await;
    assert_eq!(receiver.count(), 3);
    ringback.finish().await;
}
