//! Disabling a subscription whose receiver wants no more.

use chrono::TimeDelta;
use ringback_model::{DeadReason, DeliveryStatus, SubscriptionId, SubscriptionStatus};
use ringback_store::{Next, Source, Within};

use super::scene::{Scene, look};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn disabling_makes_all_that_waits_dead(store: &TestStore) {
    let scene = Scene::new(store).await;
    let bystander = seed::subscription(store, scene.app, START).await;
    let [waiting, retrying] = [scene.event(store).await, scene.event(store).await];
    let attempt = seed::attempt(1, 503, START);
    let next = Next::Retry { due_at: START };
    let failed = scene.settlement(retrying, Source::Outbox, Some(attempt.clone()), next);
    scene.settle(store, failed).await;

    let later = START + TimeDelta::minutes(1);
    store
        .disable_subscription(scene.subscription.id, "410 Gone", later)
        .await
        .unwrap();

    let disabled = store
        .subscription(scene.subscription.id, ALL)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(disabled.status, SubscriptionStatus::Disabled);
    assert_eq!(disabled.status_reason.as_deref(), Some("410 Gone"));
    for (event, attempts) in [(waiting, 0), (retrying, 1)] {
        let dead = look(store, scene.delivery(event)).await;
        assert_eq!(
            (dead.status, dead.attempts),
            (DeliveryStatus::Dead, attempts)
        );
        assert_eq!(dead.dead_reason, Some(DeadReason::SubscriptionDisabled));
        assert_eq!((dead.settled_at, dead.next_attempt_at), (Some(later), None));
    }
    assert_eq!(
        look(store, scene.delivery(retrying)).await.last_status_code,
        Some(503)
    );
    let attempts = store
        .attempts(scene.delivery(retrying), ALL)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(attempts[0].record, attempt);
    let pending = look(store, seed::delivery(waiting, &bystander)).await;
    assert_eq!(pending.status, DeliveryStatus::Pending);
}

pub async fn a_disabled_subscription_gets_no_new_deliveries(store: &TestStore) {
    let scene = Scene::new(store).await;
    store
        .disable_subscription(scene.subscription.id, "410 Gone", START)
        .await
        .unwrap();
    let event = seed::new_event(store, scene.app, "order.paid", START).await;
    assert_eq!(seed::accept(store, event, START).await.deliveries, 0);
}

pub async fn what_was_in_flight_is_recorded_and_stays_dead(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    store
        .disable_subscription(scene.subscription.id, "410 Gone", START)
        .await
        .unwrap();
    let late = seed::attempt(1, 503, START);
    let next = Next::Retry { due_at: START };
    let settlement = scene.settlement(event, Source::Outbox, Some(late.clone()), next);
    scene.settle(store, settlement).await;
    assert_eq!(
        look(store, scene.delivery(event)).await.status,
        DeliveryStatus::Dead
    );
    let attempts = store
        .attempts(scene.delivery(event), ALL)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].record, late);
    assert_eq!(store.count("retries", "").await, 0);
}

pub async fn disabling_twice_or_what_is_gone_is_harmless(store: &TestStore) {
    let scene = Scene::new(store).await;
    let id = scene.subscription.id;
    for _ in 0..2 {
        store
            .disable_subscription(id, "410 Gone", START)
            .await
            .unwrap();
    }
    store.delete_subscription(id, ALL, START).await.unwrap();
    store
        .disable_subscription(id, "410 Gone", START)
        .await
        .unwrap();
    store
        .disable_subscription(SubscriptionId::new(7), "410 Gone", START)
        .await
        .unwrap();
    assert!(store.subscription(id, ALL).await.unwrap().is_none());
}
