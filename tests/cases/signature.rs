//! Signing: what receivers are promised by Standard Webhooks. The published vectors
//! (case 2) are tests of `ringback-signature`.

use std::time::Duration;

use ringback_signature::sign;
use ringback_testkit::{
    Receiver, TestStore, judges,
    receiver::{Reply, Request},
};
use serde_json::json;

use super::{APP, emit, subscribe};
use crate::harness::{Ringback, Server};

/// Of the published vectors.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

on_both_databases! {
    every_library_accepts_what_is_sent,
    the_three_headers_come_once_with_the_time_of_the_attempt,
    a_retry_is_signed_anew_under_the_same_id,
    each_subscription_has_its_own_signature_of_one_event,
    a_secret_that_is_made_is_strong_and_shown_once,
}

/// Case 1.
async fn every_library_accepts_what_is_sent(store: TestStore) {
    let ringback = Ringback::start_now(store).await;
    ringback.api.app(APP).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({"secret": SECRET})).await;
    assert_eq!(subscription.secret, SECRET);

    emit(&ringback).await;
    let requests = receiver.wait_for(1).await;
    assert_eq!(signature(&requests[0]), signed_with(SECRET, &requests[0]));
    judges::all_accept(SECRET, &requests);
    ringback.finish().await;
}

/// Case 4, of a real server: its clock is what receivers compare with theirs.
async fn the_three_headers_come_once_with_the_time_of_the_attempt(store: TestStore) {
    let server = Server::spawn(store.url(), &[]);
    let receiver = Receiver::start().await;
    server.api.app(APP).await;
    server
        .api
        .subscribe(APP, &receiver.url("/"), json!({}))
        .await;

    server.api.emit(APP, "order.paid", json!({})).await;
    let request = receiver.wait_for(1).await.remove(0);
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        assert_eq!(request.values(name).count(), 1, "{name}");
    }
    let timestamp = request.header("webhook-timestamp").unwrap();
    assert!(timestamp.len() == 10 && timestamp.bytes().all(|byte| byte.is_ascii_digit()));
    let late = request.received_at.timestamp() - timestamp.parse::<i64>().unwrap();
    assert!((0..=2).contains(&late), "it is {late} s old");
}

/// Case 5.
async fn a_retry_is_signed_anew_under_the_same_id(store: TestStore) {
    let ringback = Ringback::start_now(store).await;
    ringback.api.app(APP).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(500), Reply::status(200)]);
    let subscription = subscribe(&ringback, &receiver, json!({})).await;

    let event = emit(&ringback).await;
    ringback
        .delivery_in("retrying", &event, &subscription.id)
        .await;
    ringback.later(Duration::from_secs(6)).await;
    ringback
        .delivery_in("delivered", &event, &subscription.id)
        .await;

    let requests = receiver.requests();
    let [first, second] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(first.webhook_id(), event);
    assert_eq!(second.webhook_id(), event);
    assert_eq!(first.body, second.body);
    let numbers = [first, second].map(|request| request.header("ringback-attempt").unwrap());
    assert_eq!(numbers, ["1", "2"]);
    let times = [first, second].map(sent_at);
    assert!((5..=7).contains(&(times[1] - times[0])), "{times:?}");
    judges::all_accept(&subscription.secret, &requests);
    ringback.finish().await;
}

/// Case 6.
async fn each_subscription_has_its_own_signature_of_one_event(store: TestStore) {
    let ringback = Ringback::start_now(store).await;
    ringback.api.app(APP).await;
    let (one, other) = (Receiver::start().await, Receiver::start().await);
    let secrets = [
        subscribe(&ringback, &one, json!({})).await.secret,
        subscribe(&ringback, &other, json!({})).await.secret,
    ];

    let event = emit(&ringback).await;
    let requests = [
        one.wait_for(1).await.remove(0),
        other.wait_for(1).await.remove(0),
    ];
    assert_eq!(
        requests.each_ref().map(|request| request.webhook_id()),
        [&event, &event]
    );
    assert_eq!(requests[0].body, requests[1].body);
    let pairs: Vec<(&str, &Request)> = secrets
        .iter()
        .flat_map(|secret| {
            requests
                .iter()
                .map(move |request| (secret.as_str(), request))
        })
        .collect();
    let own = [true, false, false, true];
    assert_eq!(judges::rust_verifies(&pairs), own);
    assert_eq!(judges::python_verifies(&pairs), own);
    assert_eq!(judges::node_verifies(&pairs), own);
    ringback.finish().await;
}

/// Case 9.
async fn a_secret_that_is_made_is_strong_and_shown_once(store: TestStore) {
    let ringback = super::service(store).await;
    let receiver = Receiver::start().await;
    let mut secrets = Vec::new();
    for _ in 0..3 {
        let made = subscribe(&ringback, &receiver, json!({})).await;
        // It parses only as `whsec_` and padded standard base64 of 24 to 64 bytes.
        let parsed: ringback_signature::SigningSecret = made.secret.parse().unwrap();
        assert_eq!(*parsed.reveal(), made.secret);

        let shown = ringback
            .api
            .get(&format!("/v1/subscriptions/{}", made.id))
            .await;
        assert!(
            shown.status == 200 && !shown.text.contains("whsec_"),
            "{}",
            shown.text
        );
        let secret = ringback
            .api
            .get(&format!("/v1/subscriptions/{}/secret", made.id))
            .await
            .ok();
        assert_eq!(
            secret,
            json!({"secrets": [{"secret": made.secret, "expires_at": null}]})
        );
        secrets.push(made.secret);
    }
    let list = ringback
        .api
        .get(&format!("/v1/apps/{APP}/subscriptions"))
        .await;
    assert_eq!(list.json()["data"].as_array().map(Vec::len), Some(3));
    assert!(!list.text.contains("whsec_"), "{}", list.text);
    secrets.sort();
    secrets.dedup();
    assert_eq!(secrets.len(), 3);
}

fn signature(request: &Request) -> &str {
    request.header("webhook-signature").unwrap()
}

fn sent_at(request: &Request) -> i64 {
    request
        .header("webhook-timestamp")
        .unwrap()
        .parse()
        .unwrap()
}

/// The signature as it must be, over what came.
fn signed_with(secret: &str, request: &Request) -> String {
    let secrets = [secret.parse().unwrap()];
    sign(
        request.webhook_id(),
        sent_at(request),
        &request.body,
        &secrets,
    )
    .unwrap()
}
