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

pub async fn every_ordering_key_that_waits_has_a_head(store: &TestStore) {
    let scene = ordered(store).await;
    let mut firsts = Vec::new();
    for number in 0..5 {
        let key = format!("order-{number}");
        let first = accept(store, with_key(store, &scene, &key).await).await;
        accept(store, with_key(store, &scene, &key).await).await;
        firsts.push((OrderKey::of(Ordering::Fifo, Some(&key)).unwrap(), first));
    }
    firsts.sort();
    accept(store, without_order(store, &scene).await).await;
    let outbox = seed::outbox(store).await;
    store.park(&scene.lease, &outbox, START).await.unwrap();

    let (mut heads, mut after) = (Vec::new(), None);
    for pages in 1.. {
        let found = store
            .order_heads(scene.subscription.id, after, START, 2)
            .await
            .unwrap();
        assert!(found.heads.len() <= 2);
        heads.extend(found.heads);
        after = found.next;
        if after.is_none() {
            assert_eq!(pages, 3);
            break;
        }
    }
    let heads: Vec<_> = heads
        .iter()
        .map(|head| (head.order.unwrap(), head.delivery.event))
        .collect();
    assert_eq!(heads, firsts);
    let nobody = ringback_model::SubscriptionId::new(store.ids.next(START));
    let none = store.order_heads(nobody, None, START, 2).await.unwrap();
    assert_eq!(none, ringback_store::OrderHeads::default());
}

pub async fn the_rows_of_a_key_come_in_order_of_their_events(store: &TestStore) {
    let scene = ordered(store).await;
    let mut events = Vec::new();
    for key in ["a", "b", "a", "b", "a", "c"] {
        events.push(accept(store, with_key(store, &scene, key).await).await);
    }
    // The first of `a` is due after those behind it.
    let due_at = START + TimeDelta::days(1);
    settle(
        store,
        &scene,
        events[0],
        Source::Outbox,
        1,
        Next::Retry { due_at },
    )
    .await;
    let outbox = seed::outbox(store).await;
    store.park(&scene.lease, &outbox, START).await.unwrap();

    let id = scene.subscription.id;
    let key = |name| (id, OrderKey::of(Ordering::Fifo, Some(name)).unwrap());
    let rows = store
        .in_order(&[key("a"), key("b"), key("nobody's")], START, 2)
        .await
        .unwrap();
    let of = |name| -> Vec<_> {
        let (_, order) = key(name);
        rows.iter()
            .filter(|row| row.order == Some(order))
            .map(|row| (row.delivery.event, row.attempts_made, row.due_at))
            .collect()
    };
    assert_eq!(of("a"), [(events[0], 1, due_at), (events[2], 0, START)]);
    assert_eq!(of("b"), [(events[1], 0, START), (events[3], 0, START)]);
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0].lane, scene.subscription.lane);
}

pub async fn what_is_not_to_be_delivered_yet_has_no_place_in_the_order(store: &TestStore) {
    let scene = ordered(store).await;
    let later = START + TimeDelta::hours(1);
    let mut event = with_key(store, &scene, "a").await;
    event.deliver_at = Some(later);
    let early = accept(store, event).await;
    let parked = accept(store, with_key(store, &scene, "a").await).await;
    let outbox = seed::outbox(store).await;
    // Until when it is parked makes no difference.
    store
        .park(&scene.lease, &outbox, later + TimeDelta::hours(1))
        .await
        .unwrap();

    let id = scene.subscription.id;
    let key = OrderKey::of(Ordering::Fifo, Some("a")).unwrap();
    let cases = [
        (later - TimeDelta::milliseconds(1), vec![parked]),
        (later, vec![early, parked]),
    ];
    for (now, expected) in cases {
        let rows = store.in_order(&[(id, key)], now, 9).await.unwrap();
        let events: Vec<_> = rows.iter().map(|row| row.delivery.event).collect();
        assert_eq!(events, expected);
        let heads = store.order_heads(id, None, now, 9).await.unwrap().heads;
        assert_eq!(heads, rows[..1]);
    }
}

pub async fn what_has_no_place_in_the_order_is_found_by_its_time(store: &TestStore) {
    let scene = ordered(store).await;
    let later = START + TimeDelta::hours(1);
    let mut keyed = with_key(store, &scene, "a").await;
    keyed.deliver_at = Some(later);
    let keyed = accept(store, keyed).await;
    let plain = accept(store, without_order(store, &scene).await).await;
    accept(store, with_key(store, &scene, "a").await).await;
    let outbox = seed::outbox(store).await;
    store.park(&scene.lease, &outbox, START).await.unwrap();

    let of = [(scene.subscription.lane, scene.subscription.id)];
    let cases = [
        (START, later, 9, vec![plain, keyed]),
        (START, later, 1, vec![plain]),
        (START, START, 9, vec![plain]),
        (later, later, 9, vec![plain]),
    ];
    for (now, until, limit, expected) in cases {
        let rows = store.due_unordered(&of, now, until, limit).await.unwrap();
        let events: Vec<_> = rows.iter().map(|row| row.delivery.event).collect();
        assert_eq!(events, expected, "{now} {until} {limit}");
    }
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

/// As it was accepted before the subscription kept order.
async fn without_order(store: &TestStore, scene: &Scene) -> NewEvent {
    let mut event = seed::new_event(store, scene.app, "order.paid", START).await;
    event.deliveries.iter_mut().for_each(|one| one.order = None);
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
