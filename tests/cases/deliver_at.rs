//! Events that are not to be sent before their time: nothing before, and nothing lost,
//! whatever happens in between.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_testkit::{Receiver, TestStore};
use serde_json::{Value, json};

use super::{APP, Bystander, service, stays_quiet, subscribe};
use crate::harness::Ringback;

on_both_databases! {
    nothing_is_sent_before_its_time_and_everything_then,
    its_time_outlasts_a_killed_process,
    what_is_cancelled_before_its_time_is_never_sent,
    a_replay_does_not_wait_for_a_time_that_has_passed,
}

const ALMOST: TimeDelta = TimeDelta::milliseconds(1);

/// Emits an event for later; answers its id and its time.
async fn emit_for(ringback: &Ringback, after: TimeDelta) -> (String, DateTime<Utc>) {
    let at = ringback.clock.now() + after;
    let body = json!({"app": APP, "type": "order.due", "data": 1, "deliver_at": shown(at)});
    let accepted = ringback.api.post("/v1/events", body).await.ok();
    assert_eq!(accepted["deliveries"], 1);
    // Only whole milliseconds are kept.
    let at = shown(at).parse().unwrap();
    (accepted["id"].as_str().unwrap().to_owned(), at)
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Moves the clock to just before `at`, and shows that nothing is sent until then.
async fn quiet_until(
    ringback: &Ringback,
    bystander: &Bystander,
    receiver: &Receiver,
    at: DateTime<Utc>,
) {
    let time = (at - ALMOST - ringback.clock.now()).to_std().unwrap();
    stays_quiet(ringback, bystander, receiver, time).await;
}

async fn nothing_is_sent_before_its_time_and_everything_then(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    // Accepted in another order than they are due.
    let (late, late_at) = emit_for(&ringback, TimeDelta::days(3)).await;
    let (soon, soon_at) = emit_for(&ringback, TimeDelta::minutes(5)).await;
    for (event, at) in [(&soon, soon_at), (&late, late_at)] {
        let waiting = ringback.api.delivery(event, &subscription).await;
        assert_eq!(waiting["status"], "pending", "{waiting}");
        assert_eq!(waiting["next_attempt_at"], shown(at), "{waiting}");
        quiet_until(&ringback, &bystander, &receiver, at).await;
        ringback.later_at(at).await;
        let delivered = ringback
            .delivery_in("delivered", event, &subscription)
            .await;
        let attempt = ringback.api.attempts(&delivered).await.remove(0);
        let started_at: DateTime<Utc> = attempt["started_at"].as_str().unwrap().parse().unwrap();
        assert!(started_at >= at, "{attempt}");
    }
    let ids: Vec<_> = receiver
        .wait_for(2)
        .await
        .iter()
        .map(|request| request.webhook_id().to_owned())
        .collect();
    assert_eq!(ids, [soon, late]);
    ringback.finish().await;
}

async fn its_time_outlasts_a_killed_process(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let (event, at) = emit_for(&ringback, TimeDelta::hours(2)).await;
    let ringback = ringback.killed_and_started_as("test").await;
    let bystander = Bystander::start(&ringback).await;
    quiet_until(&ringback, &bystander, &receiver, at).await;
    ringback.later_at(at).await;
    ringback
        .delivery_in("delivered", &event, &subscription)
        .await;
    assert_eq!(receiver.count(), 1);
    ringback.finish().await;
}

async fn what_is_cancelled_before_its_time_is_never_sent(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let (event, _) = emit_for(&ringback, TimeDelta::hours(2)).await;
    let delivery = ringback.api.delivery(&event, &subscription).await;
    let path = format!("/v1/deliveries/{}/cancel", delivery["id"].as_str().unwrap());
    let cancelled = ringback.api.post(&path, json!({})).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    stays_quiet(
        &ringback,
        &bystander,
        &receiver,
        Duration::from_secs(3 * 3600),
    )
    .await;
    let delivery = ringback.api.delivery(&event, &subscription).await;
    assert_eq!(
        (&delivery["status"], &delivery["attempts"]),
        (&json!("cancelled"), &json!(0))
    );
    ringback.finish().await;
}

async fn a_replay_does_not_wait_for_a_time_that_has_passed(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let (event, at) = emit_for(&ringback, TimeDelta::hours(1)).await;
    ringback.later_at(at).await;
    let delivered = ringback
        .delivery_in("delivered", &event, &subscription)
        .await;
    let path = format!(
        "/v1/deliveries/{}/replay",
        delivered["id"].as_str().unwrap()
    );
    let answer = ringback
        .api
        .post(&path, Value::Object(Default::default()))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let requests = receiver.wait_for(2).await;
    assert_eq!(requests[0].webhook_id(), requests[1].webhook_id());
    assert_eq!(requests[0].body, requests[1].body);
    ringback.delivery_after(2, &event, &subscription).await;
    ringback.finish().await;
}
