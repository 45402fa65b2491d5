//! Settling: what became of deliveries, written once however often it is told.

use chrono::TimeDelta;
use ringback_model::{AttemptError, DeadReason, DeliveryStatus, EventId};
use ringback_store::{Attempt, AttemptRecord, CancelOutcome, Delivery, Next, Source, Within};

use super::scene::{Scene, look, twenty_at_once};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

/// The usual case, which must stay cheap: one row for it all.
pub async fn a_first_success_is_one_row(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let attempt = seed::attempt(1, 204, START);
    let settled_at = START + TimeDelta::seconds(1);
    let done = scene.settlement(
        event,
        Source::Outbox,
        Some(attempt.clone()),
        Next::Delivered,
    );
    store
        .settle(&scene.lease, &[done], settled_at)
        .await
        .unwrap();

    assert_eq!(
        counts(store).await,
        Counts {
            outbox: 0,
            retries: 0,
            deliveries: 1,
            attempts: 0
        }
    );
    let expected = Delivery {
        id: scene.delivery(event),
        app: scene.app,
        event_type: "order.paid".parse().unwrap(),
        status: DeliveryStatus::Delivered,
        attempts: 1,
        next_attempt_at: None,
        last_status_code: Some(204),
        last_error: None,
        dead_reason: None,
        settled_at: Some(settled_at),
    };
    assert_eq!(look(store, scene.delivery(event)).await, expected);
    assert_eq!(records(store, &scene, event).await, [attempt]);
}

pub async fn a_failed_first_attempt_waits_to_be_tried_again(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let attempt = seed::attempt(1, 503, START);
    fail(store, &scene, event, Source::Outbox, &attempt, 5).await;

    assert_eq!(
        counts(store).await,
        Counts {
            outbox: 0,
            retries: 1,
            deliveries: 0,
            attempts: 1
        }
    );
    let expected = Delivery {
        id: scene.delivery(event),
        app: scene.app,
        event_type: "order.paid".parse().unwrap(),
        status: DeliveryStatus::Retrying,
        attempts: 1,
        next_attempt_at: Some(START + TimeDelta::seconds(5)),
        last_status_code: Some(503),
        last_error: Some(AttemptError::HttpStatus),
        dead_reason: None,
        settled_at: None,
    };
    assert_eq!(look(store, scene.delivery(event)).await, expected);
    assert_eq!(records(store, &scene, event).await, [attempt]);
}

pub async fn an_attempt_without_an_answer_has_an_error_alone(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let attempt = AttemptRecord {
        error: Some(AttemptError::ConnectRefused),
        remote_addr: None,
        first_byte_ms: None,
        answer: None,
        ..seed::attempt(1, 503, START)
    };
    fail(store, &scene, event, Source::Outbox, &attempt, 5).await;
    let delivery = look(store, scene.delivery(event)).await;
    assert_eq!(delivery.last_error, Some(AttemptError::ConnectRefused));
    assert_eq!(delivery.last_status_code, None);
    assert_eq!(records(store, &scene, event).await, [attempt]);
}

pub async fn a_retry_that_succeeds_is_settled_with_all_its_attempts(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let attempts =
        [(1, 503), (2, 500), (3, 200)].map(|(number, code)| seed::attempt(number, code, START));
    fail(store, &scene, event, Source::Outbox, &attempts[0], 5).await;
    fail(store, &scene, event, from_retries(1), &attempts[1], 300).await;
    let retrying = look(store, scene.delivery(event)).await;
    assert_eq!(
        (retrying.status, retrying.attempts),
        (DeliveryStatus::Retrying, 2)
    );
    assert_eq!(retrying.last_status_code, Some(500));
    assert_eq!(
        retrying.next_attempt_at,
        Some(START + TimeDelta::seconds(300))
    );

    let last = Some(attempts[2].clone());
    scene
        .settle(
            store,
            scene.settlement(event, from_retries(2), last, Next::Delivered),
        )
        .await;

    let delivery = look(store, scene.delivery(event)).await;
    assert_eq!(
        (delivery.status, delivery.attempts),
        (DeliveryStatus::Delivered, 3)
    );
    assert_eq!(
        (delivery.last_status_code, delivery.last_error),
        (Some(200), None)
    );
    assert_eq!(records(store, &scene, event).await, attempts);
    assert_eq!(
        counts(store).await,
        Counts {
            outbox: 0,
            retries: 0,
            deliveries: 1,
            attempts: 2
        }
    );
}

pub async fn a_delivery_that_is_out_of_attempts_is_dead(store: &TestStore) {
    let scene = Scene::new(store).await;
    for (source, before) in [(Source::Outbox, 0), (from_retries(1), 1)] {
        let event = scene.event(store).await;
        if before == 1 {
            fail(
                store,
                &scene,
                event,
                Source::Outbox,
                &seed::attempt(1, 503, START),
                5,
            )
            .await;
        }
        let attempt = Some(seed::attempt(before + 1, 404, START));
        let dead = Next::Dead(DeadReason::OutOfAttempts);
        scene
            .settle(store, scene.settlement(event, source, attempt, dead))
            .await;
        let delivery = look(store, scene.delivery(event)).await;
        assert_eq!(
            (delivery.status, delivery.attempts),
            (DeliveryStatus::Dead, before + 1)
        );
        assert_eq!(delivery.dead_reason, Some(DeadReason::OutOfAttempts));
        assert_eq!(delivery.last_status_code, Some(404));
        assert_eq!(delivery.last_error, Some(AttemptError::HttpStatus));
        assert_eq!(
            (delivery.next_attempt_at, delivery.settled_at),
            (None, Some(START))
        );
        let recorded = records(store, &scene, event).await;
        assert_eq!(recorded.len(), usize::from(before) + 1);
    }
}

pub async fn what_is_not_to_be_sent_is_settled_without_an_attempt(store: &TestStore) {
    let scene = Scene::new(store).await;
    let cases = [
        (
            Next::Dead(DeadReason::SubscriptionDisabled),
            DeliveryStatus::Dead,
        ),
        (Next::Cancelled, DeliveryStatus::Cancelled),
    ];
    for (next, status) in cases {
        let [first, retried] = [scene.event(store).await, scene.event(store).await];
        let attempt = seed::attempt(1, 503, START);
        fail(store, &scene, retried, Source::Outbox, &attempt, 5).await;
        scene
            .settle(store, scene.settlement(first, Source::Outbox, None, next))
            .await;
        scene
            .settle(
                store,
                scene.settlement(retried, from_retries(1), None, next),
            )
            .await;

        let never_sent = look(store, scene.delivery(first)).await;
        assert_eq!((never_sent.status, never_sent.attempts), (status, 0));
        assert_eq!(never_sent.last_status_code, None);
        assert!(records(store, &scene, first).await.is_empty());
        let sent_once = look(store, scene.delivery(retried)).await;
        assert_eq!((sent_once.status, sent_once.attempts), (status, 1));
        assert_eq!(records(store, &scene, retried).await, [attempt]);
    }
}

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
        let late = Some(seed::attempt(1, 204, START));
        scene
            .settle(store, scene.settlement(event, Source::Outbox, late, next))
            .await;
        assert!(
            is_live(store, &scene, event).await,
            "{next:?} from the outbox"
        );
    }

    let event = scene.event(store).await;
    fail(
        store,
        &scene,
        event,
        Source::Outbox,
        &seed::attempt(1, 500, START),
        5,
    )
    .await;
    store
        .cancel(scene.delivery(event), ALL, START)
        .await
        .unwrap();
    store
        .replay(scene.delivery(event), ALL, START)
        .await
        .unwrap();
    let late = Some(seed::attempt(2, 204, START));
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
}

pub async fn a_result_settles_only_the_delivery_it_names(store: &TestStore) {
    let scene = Scene::new(store).await;
    let second = seed::subscription(store, scene.app, START).await;
    let [event, other] = [scene.event(store).await, scene.event(store).await];
    let attempt = Some(seed::attempt(1, 204, START));
    scene
        .settle(
            store,
            scene.settlement(event, Source::Outbox, attempt, Next::Delivered),
        )
        .await;
    let left: Vec<_> = seed::outbox(store)
        .await
        .iter()
        .map(|key| key.delivery)
        .collect();
    let expected = [
        scene.delivery(other),
        seed::delivery(event, &second),
        seed::delivery(other, &second),
    ];
    assert_eq!(left.len(), 3);
    assert!(
        expected.iter().all(|delivery| left.contains(delivery)),
        "{left:?}"
    );
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

pub async fn hundreds_are_settled_at_once(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = seed::new_event(store, scene.app, "order.paid", START).await;
    let events: Vec<_> = (0..600).map(|_| seed::copy(store, &event)).collect();
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    store
        .accept(events.into_iter().map(seed::item).collect(), START)
        .await
        .unwrap();
    let settle = |(index, id): (usize, &_)| {
        let (code, next) = match index % 2 {
            0 => (204, Next::Delivered),
            _ => (503, Next::Retry { due_at: START }),
        };
        scene.settlement(
            *id,
            Source::Outbox,
            Some(seed::attempt(1, code, START)),
            next,
        )
    };
    let batch: Vec<_> = ids.iter().enumerate().map(settle).collect();
    store.settle(&scene.lease, &batch, START).await.unwrap();
    let expected = Counts {
        outbox: 0,
        retries: 300,
        deliveries: 300,
        attempts: 300,
    };
    assert_eq!(counts(store).await, expected);
    store.settle(&scene.lease, &[], START).await.unwrap();
}

#[derive(Debug, PartialEq)]
struct Counts {
    outbox: i64,
    retries: i64,
    deliveries: i64,
    attempts: i64,
}

async fn counts(store: &TestStore) -> Counts {
    Counts {
        outbox: store.count("outbox", "").await,
        retries: store.count("retries", "").await,
        deliveries: store.count("deliveries", "").await,
        attempts: store.count("attempts", "").await,
    }
}

/// Records a failure that is to be tried again `wait_s` after the start.
async fn fail(
    store: &TestStore,
    scene: &Scene,
    event: EventId,
    source: Source,
    attempt: &AttemptRecord,
    wait_s: i64,
) {
    let next = Next::Retry {
        due_at: START + TimeDelta::seconds(wait_s),
    };
    scene
        .settle(
            store,
            scene.settlement(event, source, Some(attempt.clone()), next),
        )
        .await;
}

fn from_retries(attempts_made: u16) -> Source {
    Source::Retries {
        attempts_made,
        round_start: 0,
    }
}

/// All attempts; each went to the subscription's URL.
async fn records(store: &TestStore, scene: &Scene, event: EventId) -> Vec<AttemptRecord> {
    let attempts = store
        .attempts(scene.delivery(event), ALL)
        .await
        .unwrap()
        .unwrap();
    let record = |attempt: Attempt| {
        assert_eq!(attempt.url, scene.subscription.config.url);
        attempt.record
    };
    attempts.into_iter().map(record).collect()
}

async fn is_live(store: &TestStore, scene: &Scene, event: EventId) -> bool {
    let status = look(store, scene.delivery(event)).await.status;
    matches!(status, DeliveryStatus::Pending | DeliveryStatus::Retrying)
}
