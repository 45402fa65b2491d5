//! The fence: who no longer owns a lane settles only what it delivered.

use chrono::TimeDelta;
use ringback_model::{DeadReason, DeliveryStatus, EventId, Lane};
use ringback_store::{Next, NodeLease, OutboxKey, Settlement, Source, Within};

use super::scene::{Scene, look};
use crate::{
    TestStore,
    seed::{self, START},
};

/// How an owner can be deposed.
#[derive(Clone, Copy, Debug)]
enum Deposed {
    AnotherTook,
    Restarted,
    Released,
}

const WAYS: [Deposed; 3] = [Deposed::AnotherTook, Deposed::Restarted, Deposed::Released];

/// Both the delete and the insert are fenced: the row is where it was, and nowhere else.
pub async fn a_deposed_owner_settles_only_its_successes(store: &TestStore) {
    let scene = Scene::new(store).await;
    for way in WAYS {
        let mut events = Vec::new();
        for _ in 0..4 {
            events.push(scene.event(store).await);
        }
        let (deposed, owner) = depose(store, way).await;
        let batch = results(&scene, &events, Source::Outbox, 1);
        store.settle(&deposed, &batch, START).await.unwrap();

        let delivered = look(store, scene.delivery(events[0])).await;
        assert_eq!(
            (delivered.status, delivered.attempts),
            (DeliveryStatus::Delivered, 1)
        );
        let left: Vec<_> = seed::outbox(store)
            .await
            .iter()
            .map(|key| key.delivery.event)
            .collect();
        assert_eq!(left, events[1..], "{way:?}");
        assert_eq!(store.count("retries", "").await, 0, "{way:?}");
        assert_eq!(store.count("deliveries", "status <> 2").await, 0, "{way:?}");

        // The owner is not held up by what came before.
        store.settle(&owner, &batch, START).await.unwrap();
        assert!(seed::outbox(store).await.is_empty(), "{way:?}");
        assert_eq!(store.count("retries", "").await, 1, "{way:?}");
        for event in &events {
            let id = scene.delivery(*event);
            let attempts = store
                .attempts(id, Within::Everything)
                .await
                .unwrap()
                .unwrap();
            let numbers: Vec<u16> = attempts
                .iter()
                .map(|attempt| attempt.record.number)
                .collect();
            assert_eq!(numbers, [1], "an attempt that both report is one, {way:?}");
        }
        store.execute("delete from retries").await;
        store
            .execute("delete from deliveries where status <> 2")
            .await;
        store.leave(&owner, START).await.unwrap();
    }
}

pub async fn a_deposed_owner_moves_no_retry_but_a_delivered_one(store: &TestStore) {
    let scene = Scene::new(store).await;
    let mut events = Vec::new();
    for _ in 0..4 {
        let event = scene.event(store).await;
        let attempt = Some(seed::attempt(1, 500, START));
        let next = Next::Retry { due_at: START };
        scene
            .settle(
                store,
                scene.settlement(event, Source::Outbox, attempt, next),
            )
            .await;
        events.push(event);
    }
    let (deposed, owner) = depose(store, Deposed::Restarted).await;
    let source = Source::Retries {
        attempts_made: 1,
        round_start: 0,
    };
    let batch = results(&scene, &events, source, 2);
    store.settle(&deposed, &batch, START).await.unwrap();

    let delivered = look(store, scene.delivery(events[0])).await;
    assert_eq!(
        (delivered.status, delivered.attempts),
        (DeliveryStatus::Delivered, 2)
    );
    for event in &events[1..] {
        let waiting = look(store, scene.delivery(*event)).await;
        assert_eq!(
            (waiting.status, waiting.attempts),
            (DeliveryStatus::Retrying, 1)
        );
        assert_eq!(waiting.next_attempt_at, Some(START));
    }
    store.settle(&owner, &batch, START).await.unwrap();
    assert_eq!(store.count("retries", "").await, 1);
    assert_eq!(look(store, scene.delivery(events[1])).await.attempts, 2);
}

pub async fn a_deposed_owner_parks_nothing(store: &TestStore) {
    for way in WAYS {
        let app = seed::app(store, "billing", START).await;
        let subscription = seed::subscription(store, app, START).await;
        let event = seed::event(store, app, START).await;
        let (deposed, owner) = depose(store, way).await;
        let key = OutboxKey {
            lane: subscription.lane,
            delivery: seed::delivery(event, &subscription),
            order: None,
        };
        store.park(&deposed, &[key], START).await.unwrap();
        assert_eq!(seed::outbox(store).await, [key], "{way:?}");
        assert_eq!(store.count("retries", "").await, 0, "{way:?}");
        store.park(&owner, &[key], START).await.unwrap();
        assert_eq!(store.count("retries", "").await, 1, "{way:?}");
        store.delete_app(app, START).await.unwrap();
        store.leave(&owner, START).await.unwrap();
    }
}

pub async fn lanes_are_fenced_one_by_one(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let lanes = [3, 4].map(Lane::new);
    let kept = seed::subscription_in(store, app, lanes[0], START).await;
    let lost = seed::subscription_in(store, app, lanes[1], START).await;
    let owner = seed::owner(store, "node-1", START).await;
    let event = seed::event(store, app, START).await;
    store.release(&owner, &lanes[1..]).await.unwrap();
    seed::owner(store, "node-2", START).await;

    let batch = [&kept, &lost].map(|subscription| {
        let attempt = Some(seed::attempt(1, 503, START));
        let next = Next::Retry { due_at: START };
        seed::settlement(event, subscription, Source::Outbox, attempt, next)
    });
    store.settle(&owner, &batch, START).await.unwrap();

    let retrying = look(store, seed::delivery(event, &kept)).await;
    assert_eq!(retrying.status, DeliveryStatus::Retrying);
    let pending = look(store, seed::delivery(event, &lost)).await;
    assert_eq!(pending.status, DeliveryStatus::Pending);
}

/// Nobody took its lanes, so nobody else can have sent from them.
pub async fn an_owner_whose_lanes_nobody_took_settles_all(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let later = START + TimeDelta::from_std(NodeLease::LENGTH * 2).unwrap();
    store.beat(&scene.lease, later).await.unwrap().unwrap();
    let attempt = Some(seed::attempt(1, 503, START));
    let failed = scene.settlement(
        event,
        Source::Outbox,
        attempt,
        Next::Retry { due_at: later },
    );
    store.settle(&scene.lease, &[failed], later).await.unwrap();
    assert_eq!(
        look(store, scene.delivery(event)).await.status,
        DeliveryStatus::Retrying
    );
}

/// Has `node-1` own everything and lose it; answers its old lease and the new owner's.
async fn depose(store: &TestStore, way: Deposed) -> (NodeLease, NodeLease) {
    // Whoever owned anything before is forgotten.
    store
        .execute("update lanes set owner = null, owner_epoch = null")
        .await;
    let deposed = seed::owner(store, "node-1", START).await;
    match way {
        Deposed::AnotherTook => {
            let after = START + TimeDelta::from_std(NodeLease::LENGTH).unwrap();
            let owner = seed::owner(store, "node-2", after + TimeDelta::seconds(1)).await;
            (deposed, owner)
        }
        Deposed::Restarted => (deposed, seed::owner(store, "node-1", START).await),
        Deposed::Released => {
            let lanes: Vec<_> = Lane::all().collect();
            store.release(&deposed, &lanes).await.unwrap();
            (deposed, seed::owner(store, "node-2", START).await)
        }
    }
}

/// One delivered, one to be tried again, one dead, one withdrawn.
fn results(scene: &Scene, events: &[EventId], source: Source, number: u16) -> Vec<Settlement> {
    let outcomes = [
        (204, Next::Delivered),
        (
            503,
            Next::Retry {
                due_at: START + TimeDelta::seconds(5),
            },
        ),
        (503, Next::Dead(DeadReason::OutOfAttempts)),
        (503, Next::Cancelled),
    ];
    let each = events.iter().zip(outcomes);
    each.map(|(event, (code, next))| {
        let attempt = Some(seed::attempt(number, code, START));
        scene.settlement(*event, source, attempt, next)
    })
    .collect()
}
