//! What operators watch.

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::Lane;
use ringback_store::{Backlog, Next, Source, SubscriptionKind, Within};

use super::{cast::Cast, scene::Scene};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

fn minutes(minutes: i64) -> DateTime<Utc> {
    START + TimeDelta::minutes(minutes)
}

async fn oldest_due_at(store: &TestStore, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    store.backlog(now).await.unwrap().oldest_due_at
}

pub async fn nothing_is_due_in_an_empty_store(store: &TestStore) {
    assert_eq!(store.backlog(START).await.unwrap(), Backlog::default());
}

pub async fn the_oldest_delivery_in_any_lane_says_since_when_it_is_due(store: &TestStore) {
    let lease = seed::owner(store, "node-1", START).await;
    let later = minutes(60);
    let mut waiting = Vec::new();
    for (lane, minute) in [(255, 1), (0, 2), (7, 3)] {
        let app = seed::app(store, &format!("app-{lane}"), START).await;
        let subscription = seed::subscription_in(store, app, Lane::new(lane), START).await;
        let event = seed::event(store, app, minutes(minute)).await;
        waiting.push((subscription, event, minutes(minute)));
    }
    for (subscription, event, since) in waiting {
        assert_eq!(oldest_due_at(store, later).await, Some(since));
        let attempt = Some(seed::attempt(1, 204, later));
        let done = seed::settlement(
            event,
            &subscription,
            Source::Outbox,
            attempt,
            Next::Delivered,
        );
        store.settle(&lease, &[done], later).await.unwrap();
    }
    assert_eq!(oldest_due_at(store, later).await, None);
}

pub async fn a_retry_is_due_when_its_time_has_come(store: &TestStore) {
    let scene = Scene::new(store).await;
    for minute in [10, 5] {
        let event = scene.event(store).await;
        let next = Next::Retry {
            due_at: minutes(minute),
        };
        let attempt = Some(seed::attempt(1, 503, START));
        let failed = scene.settlement(event, Source::Outbox, attempt, next);
        scene.settle(store, failed).await;
    }
    let cases = [
        (4, None),
        (5, Some(minutes(5))),
        (60, Some(minutes(5))), // and not that of the other
    ];
    for (now, expected) in cases {
        assert_eq!(oldest_due_at(store, minutes(now)).await, expected, "{now}");
    }
}

pub async fn what_is_held_is_not_due(store: &TestStore) {
    let scene = Scene::new(store).await;
    let paused = scene.subscription.id;
    // In the outbox, in the retries, and accepted when it was paused already.
    scene.event(store).await;
    let parked = scene.event(store).await;
    let next = Next::Retry { due_at: START };
    let attempt = Some(seed::attempt(1, 503, START));
    scene
        .settle(
            store,
            scene.settlement(parked, Source::Outbox, attempt, next),
        )
        .await;
    store.pause_subscription(paused, ALL, START).await.unwrap();
    scene.event(store).await;
    assert_eq!(oldest_due_at(store, minutes(60)).await, None);

    store
        .resume_subscription(paused, ALL, minutes(1))
        .await
        .unwrap();
    assert_eq!(oldest_due_at(store, minutes(60)).await, Some(START));
}

pub async fn a_due_delivery_behind_held_ones_is_seen(store: &TestStore) {
    let scene = Scene::new(store).await;
    let lane = scene.subscription.lane;
    for _ in 0..3 {
        scene.event(store).await;
    }
    store
        .pause_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();
    let app = seed::app(store, "shop", START).await;
    seed::subscription_in(store, app, lane, START).await;
    seed::event(store, app, minutes(1)).await;
    assert_eq!(oldest_due_at(store, minutes(2)).await, Some(minutes(1)));
}

pub async fn what_waits_is_counted_by_state(store: &TestStore) {
    let cast = Cast::new(store).await;
    let other = seed::subscription(store, cast.app, START).await;
    store
        .disable_subscription(other.id, "410 Gone", START)
        .await
        .unwrap();
    let before = store.backlog(START).await.unwrap();
    let counts = |backlog: Backlog| {
        (
            (backlog.pending, backlog.retrying, backlog.held),
            (backlog.active, backlog.paused, backlog.disabled),
        )
    };
    // What the paused one has was accepted before, and is not parked; see `Cast`.
    assert_eq!(before.pending + before.held, 2);
    assert_eq!((before.retrying, counts(before).1), (1, (1, 1, 1)));

    // Accepted while paused: held from the beginning.
    seed::event(store, cast.app, START).await;
    let after = store.backlog(START).await.unwrap();
    assert_eq!(after.pending, before.pending + 1);
    assert_eq!(after.held, before.held + 1);
}

pub async fn deleted_and_hidden_subscriptions_are_not_counted(store: &TestStore) {
    let scene = Scene::new(store).await;
    scene.event(store).await;
    let mut hidden = seed::new_subscription(
        store,
        scene.app,
        seed::config("https://receiver.example/done"),
        START,
    );
    hidden.kind = SubscriptionKind::Callback;
    store.create_subscription(hidden, START).await.unwrap();
    assert_eq!(store.backlog(START).await.unwrap().active, 1);

    store
        .delete_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();
    assert_eq!(
        store.backlog(minutes(60)).await.unwrap(),
        Backlog::default()
    );
}

pub async fn connections_are_counted(store: &TestStore) {
    store.backlog(START).await.unwrap();
    let connections = store.connections();
    assert!(connections.used + connections.idle >= 1, "{connections:?}");
}
