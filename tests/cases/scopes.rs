//! Keys: what each may do, and when one stops working.

use std::time::Duration;

use ringback_model::Scope::{
    self, Admin, DeliveriesRead, EventsWrite, Replay, SubscriptionsRead, SubscriptionsWrite,
};
use ringback_testkit::{Receiver, TestStore};
use serde_json::{Value, json};

use super::{emit, faults, service, subscribe};
use crate::harness::{Api, Ringback};

on_both_databases! {
    a_key_may_do_what_its_scopes_say_and_nothing_else,
    only_a_key_that_is_known_and_not_revoked_is_taken,
    payloads_are_shown_only_to_who_may_read_them,
}

/// Every path that needs a key, and the scope it needs. The things they name are not
/// there, so nothing is done.
const ROUTES: [(&str, &str, Scope); 26] = [
    ("POST", "/v1/apps", Admin),
    ("GET", "/v1/apps", SubscriptionsRead),
    ("GET", "/v1/apps/none", SubscriptionsRead),
    ("PATCH", "/v1/apps/none", Admin),
    ("DELETE", "/v1/apps/none", Admin),
    ("POST", "/v1/apps/none/subscriptions", SubscriptionsWrite),
    ("GET", "/v1/apps/none/subscriptions", SubscriptionsRead),
    ("GET", "/v1/subscriptions/none", SubscriptionsRead),
    ("PATCH", "/v1/subscriptions/none", SubscriptionsWrite),
    ("DELETE", "/v1/subscriptions/none", SubscriptionsWrite),
    ("POST", "/v1/subscriptions/none/pause", SubscriptionsWrite),
    ("POST", "/v1/subscriptions/none/resume", SubscriptionsWrite),
    (
        "POST",
        "/v1/subscriptions/none/rotate-secret",
        SubscriptionsWrite,
    ),
    ("GET", "/v1/subscriptions/none/secret", SubscriptionsWrite),
    ("POST", "/v1/events", EventsWrite),
    ("POST", "/v1/events/batch", EventsWrite),
    ("GET", "/v1/events", DeliveriesRead),
    ("GET", "/v1/events/none", DeliveriesRead),
    ("GET", "/v1/deliveries", DeliveriesRead),
    ("GET", "/v1/deliveries/none", DeliveriesRead),
    ("GET", "/v1/deliveries/none/attempts", DeliveriesRead),
    ("POST", "/v1/deliveries/none/replay", Replay),
    ("POST", "/v1/deliveries/none/cancel", Replay),
    ("POST", "/v1/keys", Admin),
    ("GET", "/v1/keys", Admin),
    ("DELETE", "/v1/keys/none", Admin),
];

async fn a_key_may_do_what_its_scopes_say_and_nothing_else(store: TestStore) {
    let ringback = service(store).await;
    for scope in Scope::ALL {
        let api = key(&ringback, &[scope]).await;
        for (method, path, needed) in ROUTES {
            let body = (method != "GET" && method != "DELETE").then(|| b"{}".to_vec());
            let answer = api.try_send(method, path, &[], body).await.unwrap();
            let may = scope == needed || scope == Admin;
            let refused = answer.status == 403;
            assert_ne!(
                refused, may,
                "{method} {path} with {scope}: {}",
                answer.text
            );
            assert!(
                may || answer.json()["code"] == "missing_scope",
                "{}",
                answer.text
            );
            assert_ne!(answer.status, 401, "{method} {path} with {scope}");
        }
    }
}

async fn only_a_key_that_is_known_and_not_revoked_is_taken(store: TestStore) {
    let ringback = service(store).await;
    let body = json!({"name": "short", "scopes": ["subscriptions:read"]});
    let made = ringback.api.post("/v1/keys", body).await.ok();
    let (id, text) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(text.starts_with("rbk_"), "{text}");
    let api = ringback.api.with_key(text);
    assert_eq!(api.get("/v1/apps").await.status, 200);
    let mut list = ringback.api.all("/v1/keys").await;
    assert!(list.iter().all(|key| key.get("key").is_none()), "{list:?}");
    list.retain(|key| key["id"] == id);
    assert_eq!(list[0]["name"], "short");

    assert_eq!(
        ringback.api.delete(&format!("/v1/keys/{id}")).await.status,
        204
    );
    for (key, why) in [
        (text, "revoked"),
        ("rbk_", "short"),
        ("", "none"),
        ("canary", "foreign"),
    ] {
        let answer = ringback.api.with_key(key).get("/v1/apps").await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (401, &json!("unauthorized")),
            "{why}"
        );
        assert!(
            answer.headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer")
        );
    }
    let unknown = json!({"name": "", "scopes": ["replay", "everything"]});
    let problem = ringback.api.post("/v1/keys", unknown).await.json();
    assert_eq!(faults(&problem), [("/scopes/1", "unknown_scope")]);
    ringback.later(Duration::from_secs(60)).await;
    assert_eq!(api.get("/v1/apps").await.status, 401);
}

async fn payloads_are_shown_only_to_who_may_read_them(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.always(ringback_testkit::receiver::Reply::status(200).body("thanks"));
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let event = emit(&ringback).await;
    let delivery = ringback
        .delivery_in("delivered", &event, &subscription)
        .await;

    let cases: [(&[Scope], Value, Value); 2] = [
        (&[DeliveriesRead], Value::Null, Value::Null),
        (
            &[DeliveriesRead, Scope::PayloadsRead],
            json!({"total": 1.10}),
            json!("thanks"),
        ),
    ];
    for (scopes, data, body) in cases {
        let api = key(&ringback, scopes).await;
        let shown = api.get(&format!("/v1/events/{event}")).await.ok();
        assert_eq!(shown["data"], data);
        assert_eq!(api.attempts(&delivery).await[0]["response"]["body"], body);
    }
    ringback.finish().await;
}

async fn key(ringback: &Ringback, scopes: &[Scope]) -> Api {
    let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    let body = json!({"name": scopes.join(" "), "scopes": scopes});
    let key = ringback.api.post("/v1/keys", body).await.ok();
    ringback.api.with_key(key["key"].as_str().unwrap())
}
