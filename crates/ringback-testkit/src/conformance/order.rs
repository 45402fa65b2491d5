//! What events carry for order and time, and what becomes of it.

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{DeadReason, DeliveryStatus, EventId, OrderKey, Ordering};
use ringback_store::{AppRef, DueRetry, NewEvent, Next, Source, SubscriptionChange, Within};

use super::scene::{Scene, look};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn a_row_keeps_its_place_in_the_order_wherever_it_moves(store: &TestStore) {
    let scene = ordered(store).await;
    let order = OrderKey::of(Ordering::Fifo, Some("order-1042"));
    let event = accept(store, with_key(store, &scene, "order-1042").await).await;
    let outbox = seed::outbox(store).await;
    assert_eq!(outbox.len(), 1);
    assert_eq!(outbox[0].order, order);

    store.park(&scene.lease, &outbox, START).await.unwrap();
    let parked = waiting(store, &scene, START).await;
    assert_eq!((parked.len(), parked[0].order), (1, order));

    let failed = accept(store, with_key(store, &scene, "order-1042").await).await;
    let due_at = START + TimeDelta::seconds(5);
    settle(
        store,
        &scene,
        failed,
        Source::Outbox,
        1,
        Next::Retry { due_at },
    )
    .await;
    let failed_once = source(1, 0);
    settle(
        store,
        &scene,
        failed,
        failed_once,
        2,
        Next::Retry { due_at },
    )
    .await;
    let both = waiting(store, &scene, due_at).await;
    let orders: Vec<_> = both
        .iter()
        .map(|row| (row.delivery.event, row.order))
        .collect();
    assert_eq!(orders, [(event, order), (failed, order)]);

    let dead = Next::Dead(DeadReason::OutOfAttempts);
    settle(store, &scene, failed, source(2, 0), 3, dead).await;
    store
        .replay(scene.delivery(failed), ALL, START)
        .await
        .unwrap();
    let replayed = waiting(store, &scene, START).await;
    let replayed = replayed.iter().find(|row| row.delivery.event == failed);
    assert_eq!(
        replayed.map(|row| (row.round_start, row.order)),
        Some((3, order))
    );
}

pub async fn without_order_no_key_is_kept(store: &TestStore) {
    let scene = Scene::new(store).await;
    let mut event = with_key(store, &scene, "order-1042").await;
    event.deliveries.iter_mut().for_each(|one| one.order = None);
    let event = accept(store, event).await;
    assert_eq!(seed::outbox(store).await[0].order, None);
    settle(store, &scene, event, Source::Outbox, 1, Next::Delivered).await;
    store
        .replay(scene.delivery(event), ALL, START)
        .await
        .unwrap();
    assert_eq!(waiting(store, &scene, START).await[0].order, None);
}

pub async fn routes_and_senders_see_order_and_rate(store: &TestStore) {
    let scene = Scene::new(store).await;
    for (ordering, rate_per_s) in [(Ordering::Fifo, Some(2.5)), (Ordering::None, None)] {
        let change = SubscriptionChange {
            ordering: Some(ordering),
            rate_per_s: Some(rate_per_s),
            ..SubscriptionChange::default()
        };
        let id = scene.subscription.id;
        store
            .update_subscription(id, ALL, change, None, START)
            .await
            .unwrap();
        let routes = store.routes(&AppRef::Id(scene.app)).await.unwrap().unwrap();
        assert_eq!(routes.routes[0].ordering, ordering);
        let states = store.sending_states(&[id], START).await.unwrap();
        assert_eq!(
            (states[0].ordering, states[0].rate_per_s),
            (ordering, rate_per_s)
        );
    }
}

pub async fn what_is_to_come_later_waits_until_then(store: &TestStore) {
    let scene = Scene::new(store).await;
    let later = START + TimeDelta::days(3);
    let event = accept(store, at(store, &scene, later).await).await;
    assert!(seed::outbox(store).await.is_empty());
    assert!(
        waiting(store, &scene, later - TimeDelta::milliseconds(1))
            .await
            .is_empty()
    );
    let due = waiting(store, &scene, later).await;
    assert_eq!(
        (due.len(), due[0].attempts_made, due[0].due_at),
        (1, 0, later)
    );

    let delivery = look(store, scene.delivery(event)).await;
    assert_eq!(
        (delivery.status, delivery.next_attempt_at),
        (DeliveryStatus::Pending, Some(later))
    );
    let kept = store.event(event, ALL).await.unwrap().unwrap();
    assert_eq!(kept.deliver_at, Some(later));
}

pub async fn a_time_that_has_passed_is_no_reason_to_wait(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = accept(store, at(store, &scene, START - TimeDelta::hours(1)).await).await;
    assert_eq!(seed::outbox(store).await[0].delivery, scene.delivery(event));
}

pub async fn what_is_held_is_due_when_it_was_to_be_delivered(store: &TestStore) {
    let scene = Scene::new(store).await;
    store
        .pause_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();
    let later = START + TimeDelta::days(3);
    accept(store, at(store, &scene, later).await).await;
    accept(store, at(store, &scene, START).await).await;
    let due: Vec<_> = waiting(store, &scene, later)
        .await
        .iter()
        .map(|row| row.due_at)
        .collect();
    assert_eq!(due, [START, later]);
}

/// With a subscription that keeps order.
async fn ordered(store: &TestStore) -> Scene {
    let mut scene = Scene::new(store).await;
    let change = SubscriptionChange {
        ordering: Some(Ordering::Fifo),
        ..SubscriptionChange::default()
    };
    store
        .update_subscription(scene.subscription.id, ALL, change, None, START)
        .await
        .unwrap();
    scene.subscription.config.ordering = Ordering::Fifo;
    scene
}

async fn with_key(store: &TestStore, scene: &Scene, key: &str) -> NewEvent {
    let mut event = seed::new_event(store, scene.app, "order.paid", START).await;
    event.ordering_key = Some(key.to_owned());
    for delivery in &mut event.deliveries {
        delivery.order = OrderKey::of(Ordering::Fifo, Some(key));
    }
    event
}

async fn at(store: &TestStore, scene: &Scene, deliver_at: DateTime<Utc>) -> NewEvent {
    NewEvent {
        deliver_at: Some(deliver_at),
        ..seed::new_event(store, scene.app, "order.paid", START).await
    }
}

async fn accept(store: &TestStore, event: NewEvent) -> EventId {
    let id = event.id;
    let outcomes = store.accept(vec![seed::item(event)], START).await.unwrap();
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    id
}

async fn settle(
    store: &TestStore,
    scene: &Scene,
    event: EventId,
    source: Source,
    number: u16,
    next: Next,
) {
    let code = if next == Next::Delivered { 204 } else { 503 };
    let attempt = Some(seed::attempt(number, code, START));
    scene
        .settle(store, scene.settlement(event, source, attempt, next))
        .await;
}

const fn source(attempts_made: u16, round_start: u16) -> Source {
    Source::Retries {
        attempts_made,
        round_start,
    }
}

async fn waiting(store: &TestStore, scene: &Scene, until: DateTime<Utc>) -> Vec<DueRetry> {
    let of = [(scene.subscription.lane, scene.subscription.id)];
    store.due(&of, until, 100).await.unwrap()
}
