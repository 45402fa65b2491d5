//! Settling: what became of deliveries, written once however often it is told.

use chrono::TimeDelta;
use ringback_model::{AttemptError, DeadReason, DeliveryStatus};
use ringback_store::{AttemptRecord, Delivery, Next, Source};

use super::{
    ledger::{Counts, counts, fail, from_retries, records},
    scene::{Scene, look},
};
use crate::{
    TestStore,
    seed::{self, START},
};

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
        (Some(DeadReason::SubscriptionDisabled), DeliveryStatus::Dead),
        (Some(DeadReason::PayloadExpired), DeliveryStatus::Dead),
        (None, DeliveryStatus::Cancelled),
    ];
    for (reason, status) in cases {
        let next = reason.map_or(Next::Cancelled, Next::Dead);
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
        assert_eq!(never_sent.dead_reason, reason);
        assert_eq!(never_sent.last_status_code, None);
        assert!(records(store, &scene, first).await.is_empty());
        let sent_once = look(store, scene.delivery(retried)).await;
        assert_eq!((sent_once.status, sent_once.attempts), (status, 1));
        assert_eq!(sent_once.dead_reason, reason);
        assert_eq!(records(store, &scene, retried).await, [attempt]);
    }
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
