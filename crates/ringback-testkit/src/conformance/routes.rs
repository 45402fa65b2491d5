//! What an application's events are matched with, and when it changes.

use ringback_model::{AppId, Lane, SubscriptionId};
use ringback_store::{AppChange, AppRef, AppRoutes, SubscriptionChange, SubscriptionKind, Within};

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
    let subscription = seed::subscription_with(store, app, config.clone(), START).await;
    let route = routes(store, app).await.routes.remove(0);
    assert_eq!(route.subscription, subscription.id);
    assert_eq!(route.lane, Lane::of(subscription.id));
    assert_eq!(route.event_types, config.event_types);
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
