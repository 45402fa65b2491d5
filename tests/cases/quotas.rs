//! How much one application may bring in.

use std::time::Duration;

use ringback_model::Quotas;
use ringback_testkit::{Receiver, TestStore, receiver::Gate, receiver::Reply};
use serde_json::{Value, json};

use super::{APP, service, subscribe};
use crate::harness::{Answer, Ringback, open_policy};

const SECOND: Duration = Duration::from_secs(1);
/// What one application has is read anew so often.
const EVERY: Duration = Duration::from_secs(5);

on_both_databases! {
    who_is_too_fast_waits_and_others_do_not,
    the_operators_quota_holds_for_who_has_none_of_its_own,
    a_paused_subscription_fills_its_applications_quota_alone,
    what_was_delivered_makes_room_again,
    kept_bytes_count_until_the_quota_is_raised,
    a_node_that_starts_anew_knows_what_is_there,
}

async fn who_is_too_fast_waits_and_others_do_not(store: TestStore) {
    let ringback = service(store).await;
    ringback.api.app("shipping").await;
    grant(&ringback, json!({"events_per_s": 0.1})).await;
    post(&ringback, APP).await.ok();
    let refused = post(&ringback, APP).await;
    assert_eq!(over(&refused), ("quota_events_per_s", 10));
    for _ in 0..10 {
        post(&ringback, "shipping").await.ok();
    }
    ringback.later(SECOND * 10).await;
    post(&ringback, APP).await.ok();
    ringback.finish().await;
}

async fn the_operators_quota_holds_for_who_has_none_of_its_own(store: TestStore) {
    let ringback = Ringback::start_with(store, open_policy(), |config| {
        let (_, api) = config.api.as_mut().unwrap();
        api.quotas = Quotas {
            events_per_s: Some(1.0),
            ..Quotas::default()
        };
    })
    .await;
    for app in [APP, "shipping"] {
        ringback.api.app(app).await;
    }
    grant(&ringback, json!({"events_per_s": 1000})).await;
    for _ in 0..2 {
        post(&ringback, "shipping").await.ok();
    }
    assert_eq!(
        over(&post(&ringback, "shipping").await),
        ("quota_events_per_s", 1)
    );
    for _ in 0..10 {
        post(&ringback, APP).await.ok();
    }
    ringback.finish().await;
}

async fn a_paused_subscription_fills_its_applications_quota_alone(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    ringback.api.app("shipping").await;
    ringback
        .api
        .subscribe("shipping", &receiver.url("/"), json!({}))
        .await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    turn(&ringback, &subscription, "pause").await;
    grant(&ringback, json!({"pending_deliveries": 3})).await;
    for _ in 0..3 {
        post(&ringback, APP).await.ok();
    }
    for _ in 0..3 {
        let refused = post(&ringback, APP).await;
        assert_eq!(over(&refused), ("quota_pending_deliveries", 5));
        // Reading it anew finds the same.
        ringback.later(EVERY).await;
    }
    post(&ringback, "shipping").await.ok();

    turn(&ringback, &subscription, "resume").await;
    come(&ringback, &receiver, 4).await;
    accepted_again(&ringback).await;
    come(&ringback, &receiver, 5).await;
    ringback.finish().await;
}

/// One that delivers as fast as it brings in is not held up by what it brought in.
async fn what_was_delivered_makes_room_again(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.next([Reply::status(204).behind(&gate)]);
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    grant(&ringback, json!({"pending_deliveries": 1})).await;
    let event = post(&ringback, APP).await.ok();
    assert_eq!(
        over(&post(&ringback, APP).await),
        ("quota_pending_deliveries", 5)
    );
    gate.open();
    let event = event["id"].as_str().unwrap();
    ringback
        .delivery_in("delivered", event, &subscription)
        .await;
    accepted_again(&ringback).await;
    come(&ringback, &receiver, 2).await;
    ringback.finish().await;
}

async fn kept_bytes_count_until_the_quota_is_raised(store: TestStore) {
    let ringback = service(store).await;
    ringback.api.app("shipping").await;
    grant(&ringback, json!({"stored_bytes": 1000})).await;
    let data = Value::String("x".repeat(600));
    for _ in 0..2 {
        ringback.api.emit(APP, "order.paid", data.clone()).await;
    }
    assert_eq!(
        over(&post(&ringback, APP).await),
        ("quota_stored_bytes", 3600)
    );
    post(&ringback, "shipping").await.ok();
    let problem = post(&ringback, APP).await.json();
    assert_eq!(
        problem["errors"][0]["detail"],
        "may have 1000 bytes kept: there are 1204"
    );
    // Within the retention it stays so; after it there is room.
    ringback.later(EVERY).await;
    ringback.later(Duration::from_secs(20 * 86_400)).await;
    assert_eq!(
        over(&post(&ringback, APP).await),
        ("quota_stored_bytes", 3600)
    );
    ringback.later(Duration::from_secs(11 * 86_400)).await;
    accepted_again(&ringback).await;
    ringback.finish().await;
}

async fn a_node_that_starts_anew_knows_what_is_there(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    turn(&ringback, &subscription, "pause").await;
    post(&ringback, APP).await.ok();
    grant(&ringback, json!({"pending_deliveries": 1})).await;
    let ringback = ringback.killed_and_started_as("test").await;
    assert_eq!(
        over(&post(&ringback, APP).await),
        ("quota_pending_deliveries", 5)
    );
    ringback.finish().await;
}

async fn post(ringback: &Ringback, app: &str) -> Answer {
    let body = json!({"app": app, "type": "order.paid", "data": 1});
    ringback.api.post("/v1/events", body).await
}

async fn grant(ringback: &Ringback, quotas: Value) {
    let path = format!("/v1/apps/{APP}");
    let body = json!({"quotas": quotas});
    ringback.api.patch(&path, body).await.ok();
}

/// The code of a refusal, and when to come again.
fn over(answer: &Answer) -> (&'static str, u64) {
    assert_eq!(answer.status, 429, "{}", answer.text);
    let problem = answer.json();
    let code = [
        "quota_events_per_s",
        "quota_pending_deliveries",
        "quota_stored_bytes",
    ]
    .into_iter()
    .find(|code| problem["code"] == *code)
    .unwrap();
    let retry_after = answer.headers["retry-after"].to_str().unwrap();
    (code, retry_after.parse().unwrap())
}

/// Asks again at intervals until an event is accepted.
async fn accepted_again(ringback: &Ringback) {
    ringback
        .eventually("an event is accepted again", async || {
            let answer = post(ringback, APP).await;
            if answer.status == 202 {
                return Ok(());
            }
            ringback.later(EVERY).await;
            Err(answer.text)
        })
        .await;
}

/// Waits until so many have come; what was held needs a moment to be looked for.
async fn come(ringback: &Ringback, receiver: &Receiver, count: usize) {
    ringback
        .eventually("they have come", async || {
            if receiver.count() >= count {
                return Ok(());
            }
            ringback.pass(SECOND);
            Err(receiver.count())
        })
        .await;
}

async fn turn(ringback: &Ringback, subscription: &str, action: &str) {
    let path = format!("/v1/subscriptions/{subscription}/{action}");
    ringback.api.post(&path, json!({})).await.ok();
}
