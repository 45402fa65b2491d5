//! Upkeep.

use chrono::{DateTime, TimeDelta, Utc};
use ringback_store::{AcceptItem, AcceptOutcome, Next, Sealed, Source};

use super::scene::{Scene, at_once};
use crate::{
    TestStore,
    seed::{self, START},
};

pub async fn a_database_that_answers_is_ready(store: &TestStore) {
    store.ping().await.unwrap();
}

pub async fn many_nodes_may_tend_at_once_and_again(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let next_week = START + TimeDelta::days(7);
    let done = at_once(4, |_| {
        let store = store.shared();
        async move { store.tend(next_week).await }
    })
    .await;
    done.into_iter().for_each(|result| result.unwrap());
    store.tend(START).await.unwrap();
    assert_eq!(seed::outbox(store).await[0].delivery.event, event);
}

/// So that accepting never waits for it, nor stops at midnight.
pub async fn the_next_day_is_ready_before_it_comes(store: &TestStore) {
    let scene = Scene::new(store).await;
    let summer = seed::instant("2026-07-01T12:00:00Z");
    store.tend(summer).await.unwrap();
    for hours in [0, 11, 13, 24] {
        let now = summer + TimeDelta::hours(hours);
        let event = seed::event(store, scene.app, now).await;
        let attempt = Some(seed::attempt(1, 204, now));
        let done = scene.settlement(event, Source::Outbox, attempt, Next::Delivered);
        store.settle(&scene.lease, &[done], now).await.unwrap();
    }
    assert_eq!(store.count("deliveries", "").await, 4);
}

pub async fn keys_are_remembered_for_a_day_and_then_forgotten(store: &TestStore) {
    let scene = Scene::new(store).await;
    let request = seed::idempotency(1, 9, 9);
    store.begin_request(request, START).await.unwrap();
    store
        .finish_request(request, Some(Sealed::from_bytes(vec![1])), START)
        .await
        .unwrap();
    accept(store, &scene, START).await;

    let nearly = START + TimeDelta::hours(23);
    store.tend(nearly).await.unwrap();
    assert_eq!(accept(store, &scene, nearly).await, (true, true));
    assert_eq!(store.count("idempotency", "").await, 3);

    let past = START + TimeDelta::hours(49);
    store.tend(past).await.unwrap();
    assert_eq!(store.count("idempotency", "").await, 0);
    assert_eq!(accept(store, &scene, past).await, (false, false));
}

/// One event with its producer's id and one with an `Idempotency-Key`; whether each was
/// known.
async fn accept(store: &TestStore, scene: &Scene, now: DateTime<Utc>) -> (bool, bool) {
    let mut event = seed::new_event(store, scene.app, "order.paid", now).await;
    let events = vec![seed::copy(store, &event)];
    event.external = Some(seed::external("order-1042", 1));
    let duplicate = seed::accept(store, event, now).await.duplicate;
    let keyed = AcceptItem {
        events,
        idempotency: Some(seed::idempotency(1, 1, 1)),
        emitted: None,
    };
    let outcome = seed::accept_item(store, keyed, now).await;
    (duplicate, matches!(outcome, AcceptOutcome::Replayed(_)))
}
