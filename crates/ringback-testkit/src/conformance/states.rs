//! Subscriptions paused, resumed and deleted, and what that is for what waits.

use chrono::TimeDelta;
use ringback_model::{DeliveryStatus, SubscriptionId, SubscriptionStatus};
use ringback_store::{Next, Source, Within};

use super::scene::{Scene, look};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn pausing_and_resuming_leave_the_configuration_alone(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let active = seed::subscription(store, app, START).await;
    let (id, later) = (active.id, START + TimeDelta::minutes(1));

    for _ in 0..2 {
        let paused = store
            .pause_subscription(id, ALL, later)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(paused.status, SubscriptionStatus::Paused);
        assert_eq!(
            (paused.version, &paused.config),
            (active.version, &active.config)
        );
        assert_eq!(store.subscription(id, ALL).await.unwrap(), Some(paused));
    }
    for _ in 0..2 {
        let resumed = store
            .resume_subscription(id, ALL, later)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(resumed.status, SubscriptionStatus::Active);
        assert_eq!(
            (resumed.version, &resumed.config),
            (active.version, &active.config)
        );
        assert_eq!(store.subscription(id, ALL).await.unwrap(), Some(resumed));
    }
    let unknown = SubscriptionId::new(7);
    assert!(
        store
            .pause_subscription(unknown, ALL, START)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .resume_subscription(unknown, ALL, START)
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn a_disabled_subscription_can_be_resumed_but_not_paused(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let id = seed::subscription(store, app, START).await.id;
    store
        .disable_subscription(id, "410 Gone", START)
        .await
        .unwrap();
    let disabled = store
        .pause_subscription(id, ALL, START)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(disabled.status, SubscriptionStatus::Disabled);
    assert_eq!(disabled.status_reason.as_deref(), Some("410 Gone"));
    let resumed = store
        .resume_subscription(id, ALL, START)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (resumed.status, resumed.status_reason),
        (SubscriptionStatus::Active, None)
    );
}

pub async fn pausing_holds_what_waits_and_resuming_frees_it(store: &TestStore) {
    let scene = Scene::new(store).await;
    let [waiting, retrying] = [scene.event(store).await, scene.event(store).await];
    let due_at = START + TimeDelta::seconds(5);
    let attempt = seed::attempt(1, 503, START);
    let failed = scene.settlement(
        retrying,
        Source::Outbox,
        Some(attempt),
        Next::Retry { due_at },
    );
    scene.settle(store, failed).await;
    let retries = async || {
        let lanes = [(scene.subscription.lane, scene.subscription.id)];
        store.due(&lanes, due_at, 10).await.unwrap()
    };
    let before = retries().await;

    store
        .pause_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();

    let held = look(store, scene.delivery(retrying)).await;
    assert_eq!(
        (held.status, held.next_attempt_at),
        (DeliveryStatus::Held, None)
    );
    assert_eq!(retries().await, before, "pausing touches no waiting row");
    // The outbox is the owner's to park.
    assert_eq!(seed::outbox(store).await.len(), 1);

    store
        .resume_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();
    let free = look(store, scene.delivery(retrying)).await;
    assert_eq!(
        (free.status, free.next_attempt_at),
        (DeliveryStatus::Retrying, Some(due_at))
    );
    let free = look(store, scene.delivery(waiting)).await;
    assert_eq!(free.status, DeliveryStatus::Pending);
}

pub async fn deleting_a_subscription_cancels_what_waits_for_it(store: &TestStore) {
    let scene = Scene::new(store).await;
    let bystander = seed::subscription(store, scene.app, START).await;
    let [waiting, retrying, delivered] = [
        scene.event(store).await,
        scene.event(store).await,
        scene.event(store).await,
    ];
    let failed = Next::Retry { due_at: START };
    let first = |status| Some(seed::attempt(1, status, START));
    scene
        .settle(
            store,
            scene.settlement(retrying, Source::Outbox, first(503), failed),
        )
        .await;
    let succeeded = scene.settlement(delivered, Source::Outbox, first(204), Next::Delivered);
    scene.settle(store, succeeded).await;

    let later = START + TimeDelta::minutes(1);
    assert!(
        store
            .delete_subscription(scene.subscription.id, ALL, later)
            .await
            .unwrap()
    );
    assert!(
        !store
            .delete_subscription(scene.subscription.id, ALL, later)
            .await
            .unwrap()
    );

    assert!(
        store
            .subscription(scene.subscription.id, ALL)
            .await
            .unwrap()
            .is_none()
    );
    for (event, attempts) in [(waiting, 0), (retrying, 1)] {
        let cancelled = look(store, scene.delivery(event)).await;
        assert_eq!(
            (cancelled.status, cancelled.attempts),
            (DeliveryStatus::Cancelled, attempts)
        );
        assert_eq!(cancelled.settled_at, Some(later));
    }
    // History stays.
    let kept = look(store, scene.delivery(delivered)).await;
    assert_eq!(kept.status, DeliveryStatus::Delivered);
    let attempts = store
        .attempts(scene.delivery(retrying), ALL)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(attempts.len(), 1);
    // And what is another's.
    let others = seed::delivery(waiting, &bystander);
    assert_eq!(look(store, others).await.status, DeliveryStatus::Pending);
    assert_eq!(
        (
            store.count("outbox", "").await,
            store.count("retries", "").await
        ),
        (3, 0)
    );
}
