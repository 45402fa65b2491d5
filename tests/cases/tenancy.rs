//! What belongs to another application is answered exactly like what does not exist.

use ringback_model::{AppId, DeliveryId, EventId, KeyId, SubscriptionId};
use ringback_testkit::{Receiver, TestStore};
use serde_json::{Value, json};

use super::{APP, service};
use crate::harness::{Api, Ringback};

on_both_databases! {
    another_applications_things_do_not_exist_for_a_bound_key,
    a_bound_key_sees_and_changes_its_own,
}

/// Of somebody else.
const THEIRS: &str = "shipping";

async fn another_applications_things_do_not_exist_for_a_bound_key(store: TestStore) {
    let ringback = service(store).await;
    let ours = bound_to(&ringback, APP).await;
    let things = Things::of(&ringback, THEIRS).await;
    let nothing = Things::nowhere();

    let calls = calls(&things).into_iter().zip(calls(&nothing));
    for ((method, foreign, body), (_, random, other_body)) in calls {
        let [foreign, random] = [(&foreign, body), (&random, other_body)]
            .map(|(path, body)| {
                let body = body.map(|body| body.to_string().into_bytes());
                (path.clone(), ours.try_send(method, path, &[], body))
            })
            .map(|(path, answer)| async { (path, answer.await.unwrap()) });
        let ((path, foreign), (_, random)) = tokio::join!(foreign, random);
        let bodies = [&foreign, &random].map(|answer| {
            let mut body = answer.json();
            body["request_id"] = Value::Null;
            body
        });
        assert_eq!(foreign.status, random.status, "{method} {path}");
        assert_eq!(bodies[0], bodies[1], "{method} {path}");
        assert!(
            foreign.status == 404 || bodies[0]["data"] == json!([]),
            "{method} {path}"
        );
    }
    // Nothing has happened to it either.
    assert_eq!(Things::of_now(&ringback.api, &things).await, things.seen);
    ringback.finish().await;
}

async fn a_bound_key_sees_and_changes_its_own(store: TestStore) {
    let ringback = service(store).await;
    let ours = bound_to(&ringback, APP).await;
    let theirs = Things::of(&ringback, THEIRS).await;
    let receiver = Receiver::start().await;
    let subscription = ours.subscribe(APP, &receiver.url("/"), json!({})).await.id;
    let event = ours.emit(APP, "order.paid", json!({})).await;
    ringback
        .delivery_in("delivered", &event, &subscription)
        .await;

    for (path, expected) in [
        ("/v1/apps", None),
        ("/v1/events", Some(&event)),
        ("/v1/deliveries", None),
        ("/v1/keys", None),
    ] {
        let items = ours.all(path).await;
        assert_eq!(items.len(), 1, "{path}: {items:?}");
        assert!(
            expected.is_none_or(|id| items[0]["id"] == **id),
            "{path}: {items:?}"
        );
    }
    let made = ours
        .post("/v1/keys", json!({"name": "", "scopes": ["replay"]}))
        .await
        .ok();
    let app = ringback.api.get(&format!("/v1/apps/{APP}")).await.ok();
    assert_eq!(made["app"], app["id"]);
    let refused = ours
        .post("/v1/apps", json!({"slug": "third", "name": ""}))
        .await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (403, &json!("bound_key"))
    );
    assert_eq!(Things::of_now(&ringback.api, &theirs).await, theirs.seen);
    ringback.finish().await;
}

async fn bound_to(ringback: &Ringback, app: &str) -> Api {
    let body = json!({"name": "bound", "scopes": ["admin"], "app": app});
    let key = ringback.api.post("/v1/keys", body).await.ok();
    ringback.api.with_key(key["key"].as_str().unwrap())
}

/// The names of one of each kind of thing.
struct Things {
    app: String,
    slug: String,
    subscription: String,
    event: String,
    delivery: String,
    key: String,
    /// How an admin saw them.
    seen: Vec<Value>,
}

impl Things {
    async fn of(ringback: &Ringback, slug: &str) -> Self {
        let api = &ringback.api;
        let receiver = Receiver::start().await;
        api.app(slug).await;
        let subscription = api.subscribe(slug, &receiver.url("/"), json!({})).await.id;
        let event = api.emit(slug, "order.paid", json!({})).await;
        let delivery = ringback
            .delivery_in("delivered", &event, &subscription)
            .await;
        let body = json!({"name": "theirs", "scopes": ["admin"], "app": slug});
        let key = api.post("/v1/keys", body).await.ok();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut things = Self {
            app: text(&delivery["app"]),
            slug: slug.to_owned(),
            subscription,
            event,
            delivery: text(&delivery["id"]),
            key: text(&key["id"]),
            seen: Vec::new(),
        };
        things.seen = Self::of_now(api, &things).await;
        things
    }

    fn nowhere() -> Self {
        let (event, subscription) = (EventId::new(1), SubscriptionId::new(1));
        Self {
            app: AppId::new(1).to_string(),
            slug: "nowhere".to_owned(),
            subscription: subscription.to_string(),
            event: event.to_string(),
            delivery: DeliveryId {
                event,
                subscription,
            }
            .to_string(),
            key: KeyId::new(1).to_string(),
            seen: Vec::new(),
        }
    }

    async fn of_now(api: &Api, things: &Self) -> Vec<Value> {
        let Self {
            app,
            subscription,
            event,
            delivery,
            ..
        } = things;
        let mut seen = api.all("/v1/keys").await;
        seen.retain(|key| key["id"] == things.key);
        for path in [
            format!("/v1/apps/{app}"),
            format!("/v1/apps/{app}/subscriptions"),
            format!("/v1/subscriptions/{subscription}"),
            format!("/v1/subscriptions/{subscription}/secret"),
            format!("/v1/events/{event}"),
            format!("/v1/deliveries/{delivery}"),
            format!("/v1/deliveries/{delivery}/attempts"),
        ] {
            seen.push(api.get(&path).await.ok());
        }
        seen
    }
}

/// Everything that can be asked about things.
fn calls(things: &Things) -> Vec<(&'static str, String, Option<Value>)> {
    let Things {
        app,
        slug,
        subscription,
        event,
        delivery,
        key,
        ..
    } = things;
    let mut calls = Vec::new();
    for app in [app, slug] {
        calls.extend([
            ("GET", format!("/v1/apps/{app}"), None),
            (
                "PATCH",
                format!("/v1/apps/{app}"),
                Some(json!({"name": "ours"})),
            ),
            ("DELETE", format!("/v1/apps/{app}"), None),
            ("GET", format!("/v1/apps/{app}/subscriptions"), None),
            (
                "POST",
                format!("/v1/apps/{app}/subscriptions"),
                Some(json!({"url": "http://127.0.0.1:8080/"})),
            ),
            (
                "POST",
                "/v1/events".to_owned(),
                Some(json!({"app": app, "type": "order.paid", "data": 1})),
            ),
            (
                "POST",
                "/v1/events/batch".to_owned(),
                Some(json!({"events": [{"app": app, "type": "order.paid", "data": 1}]})),
            ),
            (
                "POST",
                "/v1/keys".to_owned(),
                Some(json!({"name": "", "scopes": ["admin"], "app": app})),
            ),
            ("GET", format!("/v1/deliveries?app={app}"), None),
            ("GET", format!("/v1/events?app={app}"), None),
        ]);
    }
    let sub = |end: &str| format!("/v1/subscriptions/{subscription}{end}");
    let dlv = |end: &str| format!("/v1/deliveries/{delivery}{end}");
    calls.extend([
        ("GET", sub(""), None),
        ("PATCH", sub(""), Some(json!({"description": "ours"}))),
        ("DELETE", sub(""), None),
        ("POST", sub("/pause"), None),
        ("POST", sub("/resume"), None),
        ("POST", sub("/rotate-secret"), None),
        ("GET", sub("/secret"), None),
        ("GET", format!("/v1/events/{event}"), None),
        ("GET", dlv(""), None),
        ("GET", dlv("/attempts"), None),
        ("POST", dlv("/replay"), None),
        ("POST", dlv("/cancel"), None),
        (
            "GET",
            format!("/v1/deliveries?subscription={subscription}"),
            None,
        ),
        ("GET", format!("/v1/deliveries?event={event}"), None),
        ("DELETE", format!("/v1/keys/{key}"), None),
    ]);
    calls
}
