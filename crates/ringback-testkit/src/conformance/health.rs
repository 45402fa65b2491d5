//! How subscriptions are: who fails has a row until it works again.

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::Failing;
use ringback_store::{HealthChange, Within};

use super::scene::Scene;
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn who_fails_is_known_to_until_it_works_again(store: &TestStore) {
    let scene = Scene::new(store).await;
    let bystander = seed::subscription(store, scene.app, START).await;
    assert_eq!(known(store, &scene).await, (None, None));
    for warned in [0, 50] {
        record(store, &scene, failing(warned)).await;
        assert_eq!(known(store, &scene).await, (failing(warned), Some(since())));
    }
    let others = store.sending_states(&[bystander.id], START).await.unwrap();
    assert_eq!(others[0].failing, None);
    let listed = store
        .subscriptions(scene.app, ringback_model::SubscriptionId::MAX, 10)
        .await
        .unwrap();
    let listed: Vec<_> = listed.iter().map(|one| one.failing_since).collect();
    assert_eq!(listed, [None, Some(since())]);

    for _ in 0..2 {
        record(store, &scene, None).await;
        assert_eq!(known(store, &scene).await, (None, None));
    }
    assert_eq!(store.count("subscription_health", "").await, 0);
}

pub async fn many_changes_are_recorded_at_once(store: &TestStore) {
    let scene = Scene::new(store).await;
    let second = seed::subscription(store, scene.app, START).await;
    record(store, &scene, failing(0)).await;
    let other = HealthChange {
        lane: second.lane,
        subscription: second.id,
        failing: failing(90),
    };
    let changes = [other, change(&scene, None)];
    store
        .record_health(&scene.lease, &changes, START)
        .await
        .unwrap();
    assert_eq!(known(store, &scene).await, (None, None));
    let states = store.sending_states(&[second.id], START).await.unwrap();
    assert_eq!(states[0].failing, failing(90));
    store.record_health(&scene.lease, &[], START).await.unwrap();
}

pub async fn who_fails_is_counted_until_it_is_disabled(store: &TestStore) {
    let scene = Scene::new(store).await;
    seed::subscription(store, scene.app, START).await;
    let counted = async || store.backlog(START).await.unwrap().failing;
    assert_eq!(counted().await, 0);
    record(store, &scene, failing(0)).await;
    assert_eq!(counted().await, 1);
    store
        .disable_subscription(scene.subscription.id, "410 Gone", START)
        .await
        .unwrap();
    assert_eq!(counted().await, 0);
}

/// Else one that works again would look as if it had failed all along.
pub async fn a_deposed_owner_records_no_health(store: &TestStore) {
    let scene = Scene::new(store).await;
    let owner = seed::owner(store, "node-1", START).await; // it restarted
    record(store, &scene, failing(0)).await;
    assert_eq!(known(store, &scene).await, (None, None));
    let changes = [change(&scene, failing(0))];
    store.record_health(&owner, &changes, START).await.unwrap();
    record(store, &scene, None).await;
    assert_eq!(known(store, &scene).await, (failing(0), Some(since())));
}

pub async fn nothing_is_recorded_of_what_is_gone(store: &TestStore) {
    let scene = Scene::new(store).await;
    let id = scene.subscription.id;
    store.delete_subscription(id, ALL, START).await.unwrap();
    let unknown = HealthChange {
        subscription: ringback_model::SubscriptionId::new(7),
        ..change(&scene, failing(0))
    };
    let changes = [change(&scene, failing(0)), unknown];
    store
        .record_health(&scene.lease, &changes, START)
        .await
        .unwrap();
    assert_eq!(store.count("subscription_health", "").await, 0);
}

pub async fn resuming_a_disabled_subscription_forgets_its_failures(store: &TestStore) {
    let scene = Scene::new(store).await;
    let id = scene.subscription.id;
    record(store, &scene, failing(0)).await;
    store.pause_subscription(id, ALL, START).await.unwrap();
    let resumed = store.resume_subscription(id, ALL, START).await.unwrap();
    assert_eq!(resumed.unwrap().failing_since, Some(since()));
    store
        .disable_subscription(id, "nothing but failures for 5 days", START)
        .await
        .unwrap();
    let disabled = store.subscription(id, ALL).await.unwrap().unwrap();
    assert_eq!(disabled.failing_since, Some(since()));
    let resumed = store.resume_subscription(id, ALL, START).await.unwrap();
    assert_eq!(resumed.unwrap().failing_since, None);
    assert_eq!(known(store, &scene).await, (None, None));
}

fn since() -> DateTime<Utc> {
    START - TimeDelta::minutes(2)
}

fn failing(warned: u8) -> Option<Failing> {
    Some(Failing {
        since: since(),
        warned,
    })
}

fn change(scene: &Scene, failing: Option<Failing>) -> HealthChange {
    HealthChange {
        lane: scene.subscription.lane,
        subscription: scene.subscription.id,
        failing,
    }
}

async fn record(store: &TestStore, scene: &Scene, failing: Option<Failing>) {
    store
        .record_health(&scene.lease, &[change(scene, failing)], START)
        .await
        .unwrap();
}

/// What its sender loads, and what people see.
async fn known(store: &TestStore, scene: &Scene) -> (Option<Failing>, Option<DateTime<Utc>>) {
    let id = scene.subscription.id;
    let states = store.sending_states(&[id], START).await.unwrap();
    let shown = store.subscription(id, ALL).await.unwrap().unwrap();
    (states[0].failing, shown.failing_since)
}
