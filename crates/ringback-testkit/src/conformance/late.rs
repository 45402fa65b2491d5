//! Results that come late, twice, or for what has changed meanwhile.

use chrono::TimeDelta;
use ringback_model::{DeadReason, DeliveryStatus, EventId};
use ringback_store::{CancelOutcome, Next, Source, Within};

use super::{
    ledger::{Counts, counts, fail, from_retries, records},
    scene::{Scene, look, twenty_at_once},
};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn a_batch_that_is_settled_twice_changes_nothing_more(store: &TestStore) {
    let scene = Scene::new(store).await;
    let mut events = Vec::new();
    for _ in 0..8 {
        events.push(scene.event(store).await);
    }
    let retry = Next::Retry { due_at: START };
    let dead = Next::Dead(DeadReason::OutOfAttempts);
    let first = |code| Some(seed::attempt(1, code, START));
    let second = |code| Some(seed::attempt(2, code, START));
    for event in &events[4..] {
        scene
            .settle(
                store,
                scene.settlement(*event, Source::Outbox, first(500), retry),
            )
            .await;
    }
    let batch = [
        scene.settlement(events[0], Source::Outbox, first(204), Next::Delivered),
        scene.settlement(events[1], Source::Outbox, first(503), retry),
        scene.settlement(events[2], Source::Outbox, first(503), dead),
        scene.settlement(events[3], Source::Outbox, None, Next::Cancelled),
        scene.settlement(events[4], from_retries(1), second(204), Next::Delivered),
        scene.settlement(events[5], from_retries(1), second(503), retry),
        scene.settlement(events[6], from_retries(1), second(503), dead),
        scene.settlement(events[7], from_retries(1), None, Next::Cancelled),
    ];
    let all_seen = async || {
        let mut seen = Vec::new();
        for event in &events {
            let delivery = look(store, scene.delivery(*event)).await;
            seen.push((delivery, records(store, &scene, *event).await));
        }
        (seen, counts(store).await)
    };

    store.settle(&scene.lease, &batch, START).await.unwrap();
    let once = all_seen().await;
    let later = START + TimeDelta::minutes(1);
    store.settle(&scene.lease, &batch, later).await.unwrap();
    assert_eq!(all_seen().await, once);

    use DeliveryStatus::{Cancelled, Dead, Delivered, Retrying};
    let statuses: Vec<_> = once.0.iter().map(|(delivery, _)| delivery.status).collect();
    let expected = [
        Delivered, Retrying, Dead, Cancelled, Delivered, Retrying, Dead, Cancelled,
    ];
    assert_eq!(statuses, expected);
    let attempts: Vec<usize> = once.0.iter().map(|(_, records)| records.len()).collect();
    assert_eq!(attempts, [1, 1, 1, 0, 2, 2, 2, 1]);
}

/// Its receiver has seen it, so that is recorded; but nothing follows.
pub async fn a_row_that_was_cancelled_in_flight_stays_cancelled(store: &TestStore) {
    let cases = [
        (204, Next::Delivered),
        (503, Next::Retry { due_at: START }),
        (503, Next::Dead(DeadReason::OutOfAttempts)),
    ];
    let scene = Scene::new(store).await;
    for (code, next) in cases {
        for from_outbox in [true, false] {
            let event = scene.event(store).await;
            let (source, number) = if from_outbox {
                (Source::Outbox, 1)
            } else {
                (from_retries(1), 2)
            };
            if !from_outbox {
                fail(
                    store,
                    &scene,
                    event,
                    Source::Outbox,
                    &seed::attempt(1, 500, START),
                    5,
                )
                .await;
            }
            let cancelled = store
                .cancel(scene.delivery(event), ALL, START)
                .await
                .unwrap();
            assert!(
                matches!(cancelled, CancelOutcome::Cancelled(_)),
                "{cancelled:?}"
            );

            let attempt = seed::attempt(number, code, START);
            let late = scene.settlement(event, source, Some(attempt.clone()), next);
            scene.settle(store, late).await;

            let delivery = look(store, scene.delivery(event)).await;
            assert_eq!(
                delivery.status,
                DeliveryStatus::Cancelled,
                "{next:?} from {source:?}"
            );
            let recorded = records(store, &scene, event).await;
            assert_eq!(
                recorded.len(),
                usize::from(number),
                "{next:?} from {source:?}"
            );
            assert_eq!(recorded.last(), Some(&attempt));
        }
    }
    let left = counts(store).await;
    assert_eq!((left.outbox, left.retries), (0, 0));
}

/// The replay is another round of the same delivery: what comes in from the round
/// before is recorded, and the replay is sent all the same.
pub async fn an_older_result_does_not_settle_a_replay(store: &TestStore) {
    let scene = Scene::new(store).await;
    for next in [Next::Delivered, Next::Dead(DeadReason::OutOfAttempts)] {
        let event = scene.event(store).await;
        store
            .cancel(scene.delivery(event), ALL, START)
            .await
            .unwrap();
        store
            .replay(scene.delivery(event), ALL, START)
            .await
            .unwrap();
        let late = seed::attempt(1, 204, START);
        let result = scene.settlement(event, Source::Outbox, Some(late.clone()), next);
        scene.settle(store, result).await;
        assert!(
            is_live(store, &scene, event).await,
            "{next:?} from the outbox"
        );
        assert_eq!(
            records(store, &scene, event).await,
            [late],
            "{next:?} from the outbox"
        );
    }

    let event = scene.event(store).await;
    let attempts = [seed::attempt(1, 500, START), seed::attempt(2, 204, START)];
    fail(store, &scene, event, Source::Outbox, &attempts[0], 5).await;
    store
        .cancel(scene.delivery(event), ALL, START)
        .await
        .unwrap();
    store
        .replay(scene.delivery(event), ALL, START)
        .await
        .unwrap();
    let late = Some(attempts[1].clone());
    scene
        .settle(
            store,
            scene.settlement(event, from_retries(1), late, Next::Delivered),
        )
        .await;
    assert!(
        is_live(store, &scene, event).await,
        "from the retries, in the round before"
    );
    assert_eq!(records(store, &scene, event).await, attempts);
}

/// Two owners in a row made the same attempt: what the first to report says, holds.
pub async fn a_result_of_an_attempt_that_is_settled_moves_nothing(store: &TestStore) {
    let scene = Scene::new(store).await;
    let cases = [
        (204, Next::Delivered),
        (503, Next::Retry { due_at: START }),
        (503, Next::Dead(DeadReason::OutOfAttempts)),
        (503, Next::Cancelled),
    ];
    for (code, next) in cases {
        let event = scene.event(store).await;
        let attempts = [seed::attempt(1, 500, START), seed::attempt(2, 502, START)];
        fail(store, &scene, event, Source::Outbox, &attempts[0], 5).await;
        fail(store, &scene, event, from_retries(1), &attempts[1], 300).await;
        let before = look(store, scene.delivery(event)).await;
        let second = Some(seed::attempt(2, code, START));
        scene
            .settle(
                store,
                scene.settlement(event, from_retries(1), second, next),
            )
            .await;
        assert_eq!(look(store, scene.delivery(event)).await, before, "{next:?}");
        assert_eq!(records(store, &scene, event).await, attempts, "{next:?}");
    }
}

/// One that is gone holds up nobody, whatever way the batch is written.
pub async fn what_cannot_move_does_not_keep_others_from_moving(store: &TestStore) {
    let scene = Scene::new(store).await;
    for next in [Next::Delivered, Next::Retry { due_at: START }] {
        let [gone, there] = [scene.event(store).await, scene.event(store).await];
        store
            .cancel(scene.delivery(gone), ALL, START)
            .await
            .unwrap();
        let code = if next == Next::Delivered { 204 } else { 503 };
        let batch = [gone, there].map(|event| {
            let attempt = Some(seed::attempt(1, code, START));
            scene.settlement(event, Source::Outbox, attempt, next)
        });
        store.settle(&scene.lease, &batch, START).await.unwrap();
        let cancelled = look(store, scene.delivery(gone)).await;
        assert_eq!(cancelled.status, DeliveryStatus::Cancelled);
        let moved = look(store, scene.delivery(there)).await;
        assert_eq!(moved.attempts, 1, "{next:?}");
        assert_ne!(moved.status, DeliveryStatus::Pending, "{next:?}");
        for event in [gone, there] {
            assert_eq!(records(store, &scene, event).await.len(), 1, "{next:?}");
        }
    }
    assert!(seed::outbox(store).await.is_empty());
}

pub async fn two_results_of_one_delivery_are_settled_in_their_order(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let attempts = [seed::attempt(1, 503, START), seed::attempt(2, 204, START)];
    let retry = Next::Retry { due_at: START };
    let [first, second] = attempts.clone().map(Some);
    let batch = [
        scene.settlement(event, Source::Outbox, first, retry),
        scene.settlement(event, from_retries(1), second, Next::Delivered),
    ];
    store.settle(&scene.lease, &batch, START).await.unwrap();
    let delivery = look(store, scene.delivery(event)).await;
    assert_eq!(
        (delivery.status, delivery.attempts),
        (DeliveryStatus::Delivered, 2)
    );
    assert_eq!(records(store, &scene, event).await, attempts);
}

/// As when an answer was lost and the batch is sent again, before the first has ended.
pub async fn a_batch_that_is_settled_twenty_times_at_once_is_settled_once(store: &TestStore) {
    let scene = Scene::new(store).await;
    let retry = Next::Retry { due_at: START };
    let mut batch = Vec::new();
    for (code, next) in [(204, Next::Delivered), (503, retry), (204, Next::Delivered)] {
        let attempt = Some(seed::attempt(1, code, START));
        batch.push(scene.settlement(scene.event(store).await, Source::Outbox, attempt, next));
    }
    let lease = scene.lease;
    twenty_at_once(|index| {
        // Some begin with the rows that others end with.
        let (store, mut batch) = (store.shared(), batch.clone());
        batch.rotate_left(index % 3);
        async move { store.settle(&lease, &batch, START).await.unwrap() }
    })
    .await;
    let expected = Counts {
        outbox: 0,
        retries: 1,
        deliveries: 2,
        attempts: 1,
    };
    assert_eq!(counts(store).await, expected);
}

async fn is_live(store: &TestStore, scene: &Scene, event: EventId) -> bool {
    let status = look(store, scene.delivery(event)).await.status;
    matches!(status, DeliveryStatus::Pending | DeliveryStatus::Retrying)
}
