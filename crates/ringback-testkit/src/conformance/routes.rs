//! What an application's events are matched with, and when it changes.

use std::collections::BTreeMap;

use ringback_model::{AppId, Lane, SubscriptionId};
use ringback_store::{
    AppChange, AppRef, AppRoutes, RouteChanges, SubscriptionChange, SubscriptionKind, Within,
};

use crate::{
    TestStore,
    seed::{self, START},
};

pub async fn routes_are_found_by_id_and_by_slug(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    seed::subscription(store, app, START).await;
    for name in [AppRef::Id(app), AppRef::Slug("billing".parse().unwrap())] {
        let found = store.routes(&name).await.unwrap().unwrap();
        assert_eq!((found.app, found.routes.len()), (app, 1), "{name:?}");
    }
    let unknown = AppRef::Slug("nobody".parse().unwrap());
    assert!(store.routes(&unknown).await.unwrap().is_none());
}

pub async fn a_route_says_which_events_go_where(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let mut config = seed::config("https://receiver.example/hooks");
    config.event_types = ["order.*", "refund.created"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    config.payload_filter = Some(r#"{"data.total":{"gte":1.10}}"#.parse().unwrap());
    let subscription = seed::subscription_with(store, app, config.clone(), START).await;
    let route = routes(store, app).await.routes.remove(0);
    assert_eq!(route.subscription, subscription.id);
    assert_eq!(route.lane, Lane::of(subscription.id));
    assert_eq!(route.event_types, config.event_types);
    assert_eq!(route.filter, config.payload_filter);
    assert!(!route.held);
}

pub async fn only_active_and_paused_subscriptions_are_routes(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let [active, paused, disabled, deleted] = [
        seed::subscription(store, app, START).await,
        seed::subscription(store, app, START).await,
        seed::subscription(store, app, START).await,
        seed::subscription(store, app, START).await,
    ]
    .map(|subscription| subscription.id);
    callback(store, app).await;
    store
        .pause_subscription(paused, Within::Everything, START)
        .await
        .unwrap();
    store
        .disable_subscription(disabled, "410 Gone", START)
        .await
        .unwrap();
    store
        .delete_subscription(deleted, Within::Everything, START)
        .await
        .unwrap();

    let mut found: Vec<(SubscriptionId, bool)> = routes(store, app)
        .await
        .routes
        .iter()
        .map(|route| (route.subscription, route.held))
        .collect();
    found.sort();
    assert_eq!(found, [(active, false), (paused, true)]);
}

/// From every version on the way, the changes lead to what all routes are in the end.
pub async fn what_changed_since_a_version_leads_to_the_present_routes(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let mut on_the_way = vec![routes(store, app).await];
    let mut made = Vec::new();
    for _ in 0..6 {
        made.push(seed::subscription(store, app, START).await.id);
        on_the_way.push(routes(store, app).await);
    }
    callback(store, app).await;
    let all = Within::Everything;
    store.pause_subscription(made[0], all, START).await.unwrap();
    on_the_way.push(routes(store, app).await);
    store
        .disable_subscription(made[1], "410 Gone", START)
        .await
        .unwrap();
    on_the_way.push(routes(store, app).await);
    store
        .delete_subscription(made[2], all, START)
        .await
        .unwrap();
    on_the_way.push(routes(store, app).await);
    let change = SubscriptionChange {
        event_types: Some(vec!["order.*".parse().unwrap()]),
        payload_filter: Some(Some(r#"{"data.a":1}"#.parse().unwrap())),
        ..Default::default()
    };
    store
        .update_subscription(made[3], all, change, None, START)
        .await
        .unwrap();
    on_the_way.push(routes(store, app).await);
    store
        .resume_subscription(made[1], all, START)
        .await
        .unwrap();
    on_the_way.push(routes(store, app).await);

    let present = routes(store, app).await;
    for (number, before) in on_the_way.into_iter().enumerate() {
        let changes = since(store, app, before.version).await;
        assert_eq!((changes.app, changes.version), (app, present.version));
        let mut found = sorted(&before);
        for gone in changes.gone {
            found.remove(&gone);
        }
        for route in changes.routes {
            found.insert(route.subscription, format!("{route:?}"));
        }
        assert_eq!(found, sorted(&present), "from version number {number}");
    }
}

pub async fn changes_of_nothing_are_none(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    seed::subscription(store, app, START).await;
    let other = seed::app(store, "other", START).await;
    let version = routes(store, app).await.version;
    seed::subscription(store, other, START).await;
    callback(store, app).await;
    let change = AppChange {
        name: Some("Billing".to_owned()),
        ..Default::default()
    };
    store.update_app(app, change, None, START).await.unwrap();
    let changes = since(store, app, version).await;
    assert!(changes.version > version);
    assert!(changes.routes.is_empty() && changes.gone.is_empty());

    store.delete_app(app, START).await.unwrap();
    let app = AppRef::Id(app);
    assert!(store.routes_since(&app, version).await.unwrap().is_none());
}

pub async fn changes_are_of_who_has_the_slug_now(store: &TestStore) {
    let first = seed::app(store, "billing", START).await;
    store.delete_app(first, START).await.unwrap();
    let second = seed::app(store, "billing", START).await;
    let slug = AppRef::Slug("billing".parse().unwrap());
    let changes = store.routes_since(&slug, 0).await.unwrap().unwrap();
    assert_eq!(changes.app, second);
    let nobody = AppRef::Slug("nobody".parse().unwrap());
    assert!(store.routes_since(&nobody, 0).await.unwrap().is_none());
}

/// Whoever matched before a change must match again: see `Accept::accept`.
pub async fn every_change_raises_the_version(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let id = seed::subscription(store, app, START).await.id;
    let mut version = routes(store, app).await.version;
    let mut raised = async |what: &str| {
        let now = routes(store, app).await.version;
        assert!(now > version, "{what} did not raise the version");
        version = now;
    };

    let all = Within::Everything;
    let change = SubscriptionChange {
        timeout_ms: Some(9_000),
        ..Default::default()
    };
    store
        .update_subscription(id, all, change, None, START)
        .await
        .unwrap();
    raised("updating a subscription").await;
    store.pause_subscription(id, all, START).await.unwrap();
    raised("pausing").await;
    store.resume_subscription(id, all, START).await.unwrap();
    raised("resuming").await;
    store
        .disable_subscription(id, "410 Gone", START)
        .await
        .unwrap();
    raised("disabling").await;
    store.delete_subscription(id, all, START).await.unwrap();
    raised("deleting").await;
    seed::subscription(store, app, START).await;
    raised("creating").await;
    let change = AppChange {
        name: Some("Billing".to_owned()),
        ..Default::default()
    };
    store.update_app(app, change, None, START).await.unwrap();
    raised("updating the application").await;
}

pub async fn a_change_of_one_application_is_none_of_another(store: &TestStore) {
    let [billing, shipping] = [
        seed::app(store, "billing", START).await,
        seed::app(store, "shipping", START).await,
    ];
    let before = routes(store, billing).await.version;
    seed::subscription(store, shipping, START).await;
    assert_eq!(routes(store, billing).await.version, before);
}

pub async fn a_callbacks_subscription_raises_no_version(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let before = routes(store, app).await;
    callback(store, app).await;
    let after = routes(store, app).await;
    assert_eq!((after.version, after.routes.len()), (before.version, 0));
}

async fn routes(store: &TestStore, app: AppId) -> AppRoutes {
    store.routes(&AppRef::Id(app)).await.unwrap().unwrap()
}

async fn since(store: &TestStore, app: AppId, version: i64) -> RouteChanges {
    store
        .routes_since(&AppRef::Id(app), version)
        .await
        .unwrap()
        .unwrap()
}

fn sorted(routes: &AppRoutes) -> BTreeMap<SubscriptionId, String> {
    routes
        .routes
        .iter()
        .map(|route| (route.subscription, format!("{route:?}")))
        .collect()
}

async fn callback(store: &TestStore, app: AppId) {
    let config = seed::config("https://caller.example/done");
    let mut callback = seed::new_subscription(store, app, config, START);
    callback.kind = SubscriptionKind::Callback;
    store
        .create_subscription(callback, START)
        .await
        .unwrap()
        .unwrap();
}
