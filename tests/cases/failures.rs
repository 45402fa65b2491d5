//! When no answer comes: each kind is told apart, and tried again.

use std::time::Duration;

use ringback_testkit::{Receiver, TestStore, receiver::Reply};
use serde_json::json;
use tokio::net::TcpSocket;

use super::{APP, emit, service, subscribe};
use crate::harness::{NameServer, Ringback, open_policy};

on_both_databases! {
    who_never_answers_is_given_up_on_after_the_timeout_and_tried_again,
    who_cannot_be_reached_is_recorded_by_its_kind_and_tried_again,
}

/// Case 23.
async fn who_never_answers_is_given_up_on_after_the_timeout_and_tried_again(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::never()]);
    let by_default = subscribe(&ringback, &Receiver::start().await, json!({}))
        .await
        .id;
    let path = format!("/v1/subscriptions/{by_default}");
    let timeout_s = ringback.api.get(&path).await.ok()["timeout_s"]
        .as_f64()
        .unwrap();
    assert!((15.0..=30.0).contains(&timeout_s), "{timeout_s}");
    ringback.api.delete(&path).await.ok();

    let subscription = subscribe(&ringback, &receiver, json!({"timeout_s": 1}))
        .await
        .id;
    let event = emit(&ringback).await;
    let delivery = ringback
        .delivery_in("retrying", &event, &subscription)
        .await;
    let attempt = ringback.api.attempts(&delivery).await.remove(0);
    assert_eq!(
        (&attempt["error"], &attempt["status_code"]),
        (&json!("timeout"), &json!(null))
    );
    let total_ms = attempt["timings_ms"]["total"].as_u64().unwrap();
    assert!((1000..5000).contains(&total_ms), "{total_ms}");

    ringback.later(Duration::from_secs(6)).await;
    let delivery = ringback
        .delivery_in("delivered", &event, &subscription)
        .await;
    assert_eq!((&delivery["attempts"], receiver.count()), (&json!(2), 2));
    ringback.finish().await;
}

/// Case 25, but for TLS.
async fn who_cannot_be_reached_is_recorded_by_its_kind_and_tried_again(store: TestStore) {
    let names = NameServer::start(&[]).await;
    let dns_servers = vec![names.address()];
    let ringback = Ringback::start_with(store, open_policy(), |config| {
        config.egress.dns_servers = dns_servers;
    })
    .await;
    ringback.api.app(APP).await;
    // Bound, so that nobody else is there, but not listening.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let (resetting, closing) = (Receiver::start().await, Receiver::start().await);
    resetting.always(Reply::reset());
    closing.always(Reply::raw_then_close("HTTP/1.1 2"));
    let babbling = Receiver::start().await;
    babbling.always(Reply::raw_then_close("220 mail.r.example ESMTP\r\n"));
    let cases = [
        (
            format!("http://{}/", nobody.local_addr().unwrap()),
            "connect_refused",
        ),
        ("http://nowhere.r.example:8080/".to_owned(), "dns"),
        (resetting.url("/"), "reset"),
        (closing.url("/"), "reset"),
        (babbling.url("/"), "protocol"),
    ];
    let mut subscriptions = Vec::new();
    for (url, error) in &cases {
        subscriptions.push((ringback.api.subscribe(APP, url, json!({})).await.id, *error));
    }

    let event = emit(&ringback).await;
    for attempts in 1..=2 {
        for (subscription, error) in &subscriptions {
            let delivery = ringback
                .delivery_after(attempts, &event, subscription)
                .await;
            assert_eq!(delivery["status"], "retrying", "{delivery}");
            let made = ringback.api.attempts(&delivery).await;
            let last = made.last().unwrap();
            assert_eq!(
                (&last["error"], &last["response"]),
                (&json!(error), &json!(null))
            );
        }
        ringback.later(Duration::from_secs(6)).await;
    }
    assert!(names.was_asked_for("nowhere.r.example"));
    ringback.finish().await;
}
