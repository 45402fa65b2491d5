//! Days end: what arrived is forgotten, what waits and what is dead is not.

use std::time::Duration;

use ringback_testkit::{Receiver, TestStore, receiver::Reply, seed};
use serde_json::{Value, json};

use super::{APP, emit, service, subscribe};
use crate::harness::{Answer, Ringback};

on_both_databases! {
    after_forty_days_what_arrived_is_gone_and_what_waits_is_delivered,
    a_dead_letter_can_be_replayed_until_its_own_time_is_over,
    nothing_is_replayed_in_its_last_hour,
}

const DAY: Duration = Duration::from_secs(86_400);

async fn after_forty_days_what_arrived_is_gone_and_what_waits_is_delivered(store: TestStore) {
    let ringback = service(store).await;
    let [quick, slow, paused] = [
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    ];
    slow.next([Reply::status(503)]);
    let to_quick = subscribe(&ringback, &quick, json!({})).await.id;
    let arrived = emit(&ringback).await;
    let delivered = ringback.delivery_in("delivered", &arrived, &to_quick).await;

    let rare = json!({"retry": {"schedule_s": [45 * 86_400]}});
    let to_slow = subscribe(&ringback, &slow, rare).await.id;
    let to_paused = subscribe(&ringback, &paused, json!({})).await.id;
    let path = format!("/v1/subscriptions/{to_paused}");
    ringback
        .api
        .post(&format!("{path}/pause"), json!({}))
        .await
        .ok();
    let event = emit(&ringback).await;
    ringback.delivery_in("retrying", &event, &to_slow).await;
    ringback.delivery_in("held", &event, &to_paused).await;
    ringback.delivery_in("delivered", &event, &to_quick).await;

    ringback.later(40 * DAY).await;
    is_gone(&ringback, &delivered).await;
    let left = ringback.api.all(&format!("/v1/deliveries?app={APP}")).await;
    let statuses: Vec<_> = left.iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, ["held", "retrying"], "{left:?}");
    let events = ringback.api.all(&format!("/v1/events?app={APP}")).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["id"], event);

    ringback
        .api
        .post(&format!("{path}/resume"), json!({}))
        .await
        .ok();
    let request = &paused.wait_for(1).await[0];
    assert_eq!(request.webhook_id(), event);
    assert_eq!(request.body, quick.requests()[1].body);
    // What is new is accepted and delivered as ever.
    let fresh = emit(&ringback).await;
    ringback.delivery_in("delivered", &fresh, &to_quick).await;

    ringback.later(10 * DAY).await;
    let requests = slow.wait_for(3).await;
    let again: Vec<_> = requests
        .iter()
        .filter(|one| one.webhook_id() == event)
        .collect();
    assert_eq!(again.len(), 2);
    assert_eq!(again[0].body, again[1].body);
    assert_eq!(again[1].header("ringback-attempt"), Some("2"));
    ringback.later(Duration::from_secs(3600)).await;
    ringback
        .eventually("all of that day is gone", async || {
            let answer = ringback.api.get(&format!("/v1/events/{event}")).await;
            (answer.status == 404).then_some(()).ok_or(answer.text)
        })
        .await;
    ringback.finish().await;
}

async fn a_dead_letter_can_be_replayed_until_its_own_time_is_over(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(500), Reply::status(500)]);
    let once = json!({"retry": {"schedule_s": []}});
    let subscription = subscribe(&ringback, &receiver, once).await.id;
    let (first, second) = (emit(&ringback).await, emit(&ringback).await);
    let mended = ringback.delivery_in("dead", &first, &subscription).await;
    let never = ringback.delivery_in("dead", &second, &subscription).await;

    ringback.later(45 * DAY).await;
    let dead = ringback.api.all("/v1/deliveries?status=dead").await;
    assert_eq!(dead, [never.clone(), mended.clone()]);
    assert_eq!(ringback.api.attempts(&mended).await.len(), 1);
    let kept = ringback.api.get(&format!("/v1/events/{first}")).await.ok();
    assert_eq!(kept["data"], json!({"total": 1.10}));

    assert_eq!(replay(&ringback, &mended).await.status, 202);
    let delivered = ringback
        .delivery_in("delivered", &first, &subscription)
        .await;
    assert_eq!(delivered["attempts"], 2);
    assert_eq!(receiver.requests()[2].webhook_id(), first);

    ringback.later(16 * DAY).await;
    is_gone(&ringback, &mended).await;
    is_gone(&ringback, &never).await;
    ringback.finish().await;
}

async fn nothing_is_replayed_in_its_last_hour(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let event = emit(&ringback).await;
    let delivered = ringback
        .delivery_in("delivered", &event, &subscription)
        .await;

    ringback
        .later_at(seed::instant("2026-02-04T23:30:00Z"))
        .await;
    let refused = replay(&ringback, &delivered).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["code"], "payload_expired");
    assert_eq!(
        ringback.api.delivery(&event, &subscription).await,
        delivered
    );
    ringback.later(Duration::from_secs(7200)).await;
    is_gone(&ringback, &delivered).await;
    assert_eq!(receiver.count(), 1);
    ringback.finish().await;
}

async fn replay(ringback: &Ringback, delivery: &Value) -> Answer {
    let id = delivery["id"].as_str().unwrap();
    ringback
        .api
        .post(&format!("/v1/deliveries/{id}/replay"), json!({}))
        .await
}

/// Nothing is known of a delivery any more, once the hourly upkeep has been there.
async fn is_gone(ringback: &Ringback, delivery: &Value) {
    let id = delivery["id"].as_str().unwrap();
    for path in [
        format!("/v1/deliveries/{id}"),
        format!("/v1/deliveries/{id}/attempts"),
    ] {
        ringback
            .eventually("it is gone", async || {
                let answer = ringback.api.get(&path).await;
                (answer.status == 404).then_some(()).ok_or(answer.text)
            })
            .await;
    }
}
