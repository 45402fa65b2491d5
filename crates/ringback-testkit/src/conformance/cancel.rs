//! Withdrawing deliveries that are not settled.

use chrono::TimeDelta;
use ringback_model::{DeadReason, DeliveryId, DeliveryStatus, EventId};
use ringback_store::{CancelOutcome, Delivery, Next, Source, Within};

use super::scene::{Scene, look, twenty_at_once};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn what_waits_is_withdrawn(store: &TestStore) {
    let scene = Scene::new(store).await;
    let [pending, retrying, held] = [
        scene.event(store).await,
        scene.event(store).await,
        scene.event(store).await,
    ];
    let attempt = Some(seed::attempt(1, 503, START));
    let next = Next::Retry { due_at: START };
    scene
        .settle(
            store,
            scene.settlement(retrying, Source::Outbox, attempt, next),
        )
        .await;
    let now = START + TimeDelta::minutes(1);
    for (event, attempts) in [(pending, 0), (retrying, 1)] {
        let cancelled = cancelled(store.cancel(scene.delivery(event), ALL, now).await.unwrap());
        assert_eq!(cancelled, look(store, scene.delivery(event)).await);
        assert_eq!(
            (cancelled.status, cancelled.attempts),
            (DeliveryStatus::Cancelled, attempts)
        );
        assert_eq!(
            (cancelled.settled_at, cancelled.next_attempt_at),
            (Some(now), None)
        );
    }
    store
        .pause_subscription(scene.subscription.id, ALL, now)
        .await
        .unwrap();
    store
        .park(&scene.lease, &seed::outbox(store).await, now)
        .await
        .unwrap();
    cancelled(store.cancel(scene.delivery(held), ALL, now).await.unwrap());
    assert_eq!(
        (
            store.count("outbox", "").await,
            store.count("retries", "").await
        ),
        (0, 0)
    );
}

pub async fn what_is_settled_is_not_withdrawn(store: &TestStore) {
    let scene = Scene::new(store).await;
    let cases = [
        (Next::Delivered, DeliveryStatus::Delivered),
        (Next::Dead(DeadReason::OutOfAttempts), DeliveryStatus::Dead),
        (Next::Cancelled, DeliveryStatus::Cancelled),
    ];
    for (next, status) in cases {
        let event = scene.event(store).await;
        let attempt = Some(seed::attempt(1, 204, START));
        scene
            .settle(
                store,
                scene.settlement(event, Source::Outbox, attempt, next),
            )
            .await;
        let before = look(store, scene.delivery(event)).await;
        let outcome = store
            .cancel(scene.delivery(event), ALL, START)
            .await
            .unwrap();
        assert!(
            matches!(outcome, CancelOutcome::Settled(was) if was == status),
            "{outcome:?}"
        );
        assert_eq!(look(store, scene.delivery(event)).await, before);
    }
    let unknown = DeliveryId {
        event: EventId::new(7),
        subscription: scene.subscription.id,
    };
    let outcome = store.cancel(unknown, ALL, START).await.unwrap();
    assert!(matches!(outcome, CancelOutcome::NotFound), "{outcome:?}");
}

pub async fn a_replay_can_be_withdrawn(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let attempt = seed::attempt(1, 204, START);
    let done = scene.settlement(
        event,
        Source::Outbox,
        Some(attempt.clone()),
        Next::Delivered,
    );
    scene.settle(store, done).await;
    store
        .replay(scene.delivery(event), ALL, START)
        .await
        .unwrap();

    let cancelled = cancelled(
        store
            .cancel(scene.delivery(event), ALL, START)
            .await
            .unwrap(),
    );
    assert_eq!(
        (cancelled.status, cancelled.attempts),
        (DeliveryStatus::Cancelled, 1)
    );
    assert_eq!(store.count("retries", "").await, 0);
    let attempts = store
        .attempts(scene.delivery(event), ALL)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].record, attempt);
}

/// Whichever comes first: the row moves once.
pub async fn a_delivery_is_settled_or_withdrawn_never_both(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let attempt = Some(seed::attempt(1, 204, START));
    let done = scene.settlement(event, Source::Outbox, attempt, Next::Delivered);
    let (lease, id) = (scene.lease, scene.delivery(event));
    let withdrawn = twenty_at_once(|index| {
        let (store, done) = (store.shared(), done.clone());
        async move {
            if index % 2 == 0 {
                store.settle(&lease, &[done], START).await.unwrap();
                return false;
            }
            let outcome = store.cancel(id, ALL, START).await.unwrap();
            matches!(outcome, CancelOutcome::Cancelled(_))
        }
    })
    .await;
    let withdrawals = withdrawn.iter().filter(|withdrawn| **withdrawn).count();
    let expected = match withdrawals {
        0 => DeliveryStatus::Delivered,
        1 => DeliveryStatus::Cancelled,
        more => panic!("withdrawn {more} times"),
    };
    assert_eq!(look(store, id).await.status, expected);
    assert_eq!(
        (
            store.count("outbox", "").await,
            store.count("deliveries", "").await
        ),
        (0, 1)
    );
    assert_eq!(store.attempts(id, ALL).await.unwrap().unwrap().len(), 1);
}

fn cancelled(outcome: CancelOutcome) -> Delivery {
    match outcome {
        CancelOutcome::Cancelled(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}
