//! Sending again: same id, same bytes, new time and signature.

use std::time::Duration;

use ringback_testkit::{
    Receiver, TestStore, judges,
    receiver::{Gate, Reply},
};
use serde_json::{Value, json};

use super::{APP, emit, service, subscribe};
use crate::harness::{Answer, Ringback};

on_both_databases! {
    a_dead_delivery_is_replayed_to_a_receiver_that_was_mended,
    a_delivered_one_is_sent_again,
    a_retry_is_brought_forward,
    what_is_pending_stays_as_it_is,
    what_cannot_be_sent_is_refused,
}

/// Case 29, without the range.
async fn a_dead_delivery_is_replayed_to_a_receiver_that_was_mended(store: TestStore) {
    let ringback = Ringback::start_now(store).await;
    ringback.api.app(APP).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(500).body("out of order"), Reply::status(503)]);
    let subscription =
        subscribe(&ringback, &receiver, json!({"retry": {"schedule_s": [10]}})).await;

    let event = emit(&ringback).await;
    ringback
        .delivery_in("retrying", &event, &subscription.id)
        .await;
    ringback.later(Duration::from_secs(12)).await;
    let dead = ringback.delivery_in("dead", &event, &subscription.id).await;
    assert_eq!(
        (&dead["error"], &dead["attempts"]),
        (&json!("http_status"), &json!(2))
    );
    assert_eq!(dead["last_attempt"]["status_code"], 503);
    let list = format!("/v1/deliveries?app={APP}&status=dead");
    assert_eq!(ringback.api.all(&list).await, std::slice::from_ref(&dead));

    ringback.later(Duration::from_secs(60)).await;
    assert_eq!(replay(&ringback, &dead).await.status, 202);
    let delivered = ringback
        .delivery_in("delivered", &event, &subscription.id)
        .await;
    assert_eq!(delivered["id"], dead["id"]);
    let attempts = ringback.api.attempts(&delivered).await;
    let shown: Vec<_> = attempts
        .iter()
        .map(|one| (&one["number"], &one["status_code"]))
        .collect();
    let expected =
        [(1, 500), (2, 503), (3, 204)].map(|(number, code)| (json!(number), json!(code)));
    assert!(
        shown
            .iter()
            .copied()
            .eq(expected.iter().map(|(n, c)| (n, c))),
        "{shown:?}"
    );
    assert_eq!(attempts[0]["response"]["body"], "out of order");

    let requests = receiver.requests();
    assert!(requests.iter().all(|request| request.webhook_id() == event));
    assert!(
        requests
            .iter()
            .all(|request| request.body == requests[0].body)
    );
    let times = [0, 1, 2].map(|at| requests[at].header("webhook-timestamp").unwrap());
    assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
    judges::all_accept(&subscription.secret, &requests);
    ringback.finish().await;
}

async fn a_delivered_one_is_sent_again(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let event = emit(&ringback).await;
    let delivered = ringback
        .delivery_in("delivered", &event, &subscription)
        .await;

    ringback.later(Duration::from_secs(3600)).await;
    let answer = replay(&ringback, &delivered).await;
    assert_eq!(answer.status, 202);
    let location = format!("/v1/deliveries/{}", delivered["id"].as_str().unwrap());
    assert_eq!(answer.headers["location"], location);
    let requests = receiver.wait_for(2).await;
    assert_eq!(requests[1].webhook_id(), event);
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[1].header("ringback-attempt"), Some("2"));
    let again = ringback.delivery_after(2, &event, &subscription).await;
    assert_eq!(again["status"], "delivered");
    ringback.finish().await;
}

async fn a_retry_is_brought_forward(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(500), Reply::status(500)]);
    let fields = json!({"retry": {"schedule_s": [86_400, 3600]}});
    let subscription = subscribe(&ringback, &receiver, fields).await.id;
    let event = emit(&ringback).await;
    let retrying = ringback
        .delivery_in("retrying", &event, &subscription)
        .await;

    assert_eq!(replay(&ringback, &retrying).await.status, 202);
    let delivery = ringback.delivery_after(2, &event, &subscription).await;
    // The schedule goes on from there.
    assert_eq!(delivery["status"], "retrying");
    ringback.later(Duration::from_secs(4000)).await;
    ringback
        .delivery_in("delivered", &event, &subscription)
        .await;
    assert_eq!(receiver.count(), 3);
    ringback.finish().await;
}

async fn what_is_pending_stays_as_it_is(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.next([Reply::status(204).behind(&gate)]);
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let event = emit(&ringback).await;
    receiver.wait_for(1).await;

    let pending = ringback.api.delivery(&event, &subscription).await;
    assert_eq!(pending["status"], "pending");
    assert_eq!(replay(&ringback, &pending).await.ok(), pending);
    gate.open();
    let delivered = ringback
        .delivery_in("delivered", &event, &subscription)
        .await;
    assert_eq!((&delivered["attempts"], receiver.count()), (&json!(1), 1));
    ringback.finish().await;
}

async fn what_cannot_be_sent_is_refused(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let path = format!("/v1/subscriptions/{subscription}");
    let event = emit(&ringback).await;
    let delivered = ringback
        .delivery_in("delivered", &event, &subscription)
        .await;
    ringback
        .api
        .post(&format!("{path}/pause"), json!({}))
        .await
        .ok();
    let event = emit(&ringback).await;
    let held = ringback.delivery_in("held", &event, &subscription).await;

    refused(&replay(&ringback, &held).await, 409, "held");
    ringback.api.delete(&path).await.ok();
    refused(
        &replay(&ringback, &delivered).await,
        409,
        "subscription_gone",
    );
    let id = delivered["id"].as_str().unwrap();
    let nobody = format!("{}{}", &id[..id.len() - 13], "0000000000001");
    refused(
        &replay(&ringback, &json!({"id": nobody})).await,
        404,
        "not_found",
    );
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

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (status, &json!(code)),
        "{}",
        answer.text
    );
}
