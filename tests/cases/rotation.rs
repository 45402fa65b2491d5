//! Rotating a secret: for a while both are good.

use std::time::Duration;

use ringback_testkit::{Receiver, TestStore, judges, receiver::Request};
use serde_json::json;

use super::{APP, emit, subscribe};
use crate::harness::Ringback;

on_both_databases! {
    for_a_while_requests_verify_with_the_old_and_the_new_secret,
}

/// Case 7.
async fn for_a_while_requests_verify_with_the_old_and_the_new_secret(store: TestStore) {
    let ringback = Ringback::start_now(store).await;
    ringback.api.app(APP).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await;
    let old = subscription.secret;
    // It is at hand before it is rotated, so that the change has to be noticed.
    next(&ringback, &receiver).await;

    let path = format!("/v1/subscriptions/{}/rotate-secret", subscription.id);
    let rotated = ringback
        .api
        .post(&path, json!({"overlap_s": 60}))
        .await
        .ok();
    let new = rotated["secret"].as_str().unwrap();
    // Nodes learn of it soon, not at once; what they sign until then is as good as before.
    let during = ringback
        .eventually("both secrets sign", async || {
            let request = next(&ringback, &receiver).await;
            if tokens(&request) == 2 {
                Ok(request)
            } else {
                Err(request)
            }
        })
        .await;
    ringback
        .later_at(
            rotated["previous_expires_at"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap(),
        )
        .await;
    ringback.later(Duration::from_millis(1)).await;
    let after = next(&ringback, &receiver).await;

    assert_eq!(tokens(&during), 2);
    assert_eq!(tokens(&after), 1);
    let pairs = [
        (&*old, &during),
        (new, &during),
        (&*old, &after),
        (new, &after),
    ];
    let expected = [true, true, false, true];
    assert_eq!(judges::rust_verifies(&pairs), expected);
    assert_eq!(judges::python_verifies(&pairs), expected);
    assert_eq!(judges::node_verifies(&pairs), expected);
    ringback.finish().await;
}

/// What an event brings.
async fn next(ringback: &Ringback, receiver: &Receiver) -> Request {
    let already = receiver.count();
    emit(ringback).await;
    receiver.wait_for(already + 1).await.remove(already)
}

fn tokens(request: &Request) -> usize {
    let signatures = request.header("webhook-signature").unwrap().split(' ');
    signatures.filter(|token| token.starts_with("v1,")).count()
}
