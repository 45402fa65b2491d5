//! Reading what is to be sent, and what it is to be sent with.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{EventId, Lane, SubscriptionId, SubscriptionStatus};
use ringback_store::{
    Next, NodeLease, OutboxKey, Sealed, Source, Subscription, SubscriptionChange,
    SubscriptionConfig, Within,
};

use super::scene::Scene;
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn a_lane_is_read_oldest_first_from_its_cursor(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let [a, b] = [Lane::new(7), Lane::new(255)];
    seed::subscription_in(store, app, a, START).await;
    seed::subscription_in(store, app, b, START).await;
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(seed::event(store, app, START).await);
    }
    let read = async |cursors: &[(Lane, EventId)], limit| -> Vec<(u8, EventId)> {
        let rows = store.read(cursors, limit).await.unwrap();
        let mut rows: Vec<_> = rows
            .iter()
            .map(|row| (row.lane.get(), row.delivery.event))
            .collect();
        // Lanes may come in any order, but each in its own.
        rows.sort_by_key(|(lane, _)| *lane);
        rows
    };
    let in_lane = |lane: Lane, events: &[EventId]| -> Vec<(u8, EventId)> {
        events.iter().map(|event| (lane.get(), *event)).collect()
    };

    let begin = EventId::MIN;
    assert_eq!(read(&[(a, begin)], 100).await, in_lane(a, &events));
    assert_eq!(read(&[(a, events[2])], 100).await, in_lane(a, &events[3..]));
    assert!(read(&[(a, events[4])], 100).await.is_empty());
    assert!(read(&[(Lane::new(8), begin)], 100).await.is_empty());
    assert!(read(&[], 100).await.is_empty());
    // The limit is per lane.
    let both = [in_lane(a, &events[1..3]), in_lane(b, &events[..2])].concat();
    assert_eq!(read(&[(b, begin), (a, events[0])], 2).await, both);
}

pub async fn reading_changes_nothing(store: &TestStore) {
    let scene = Scene::new(store).await;
    scene.event(store).await;
    let first = seed::outbox(store).await;
    assert_eq!(first.len(), 1);
    assert_eq!(seed::outbox(store).await, first);
}

pub async fn payloads_of_kept_events_come_in_any_order(store: &TestStore) {
    let scene = Scene::new(store).await;
    let events = [scene.event(store).await, scene.event(store).await];
    let unknown = EventId::new(7);
    let payloads = store
        .payloads(&[events[1], unknown, events[0]])
        .await
        .unwrap();
    let found: BTreeSet<EventId> = payloads.iter().map(|payload| payload.event).collect();
    assert_eq!(found, BTreeSet::from(events));
    assert_eq!(payloads.len(), 2);
    assert!(store.payloads(&[]).await.unwrap().is_empty());
}

pub async fn waiting_says_when_each_subscriptions_first_retry_is_due(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let lease = seed::owner(store, "node-1", START).await;
    let [a, b] = [Lane::new(1), Lane::new(2)];
    let one = seed::subscription_in(store, app, a, START).await;
    let other = seed::subscription_in(store, app, b, START).await;
    let due = |seconds| START + TimeDelta::seconds(seconds);
    for seconds in [30, 10, 20] {
        let event = seed::event(store, app, START).await;
        retry(store, &lease, event, &one, due(seconds)).await;
        retry(store, &lease, event, &other, due(seconds + 5)).await;
    }
    assert_eq!(store.waiting(&[a]).await.unwrap(), [(a, one.id, due(10))]);
    let mut both = store.waiting(&[b, Lane::new(9), a]).await.unwrap();
    both.sort();
    assert_eq!(both, [(a, one.id, due(10)), (b, other.id, due(15))]);
    assert!(store.waiting(&[Lane::new(9)]).await.unwrap().is_empty());
    assert!(store.waiting(&[]).await.unwrap().is_empty());
}

pub async fn due_retries_come_first_due_first(store: &TestStore) {
    let scene = Scene::new(store).await;
    let due = |seconds| START + TimeDelta::seconds(seconds);
    let mut events = Vec::new();
    for seconds in [30, 10, 20] {
        let event = scene.event(store).await;
        retry(
            store,
            &scene.lease,
            event,
            &scene.subscription,
            due(seconds),
        )
        .await;
        events.push(event);
    }
    let key = (scene.subscription.lane, scene.subscription.id);
    let list = async |until, limit| -> Vec<EventId> {
        let retries = store.due(&[key], until, limit).await.unwrap();
        retries.iter().map(|retry| retry.delivery.event).collect()
    };
    assert!(list(due(9), 10).await.is_empty());
    assert_eq!(list(due(10), 10).await, [events[1]]);
    assert_eq!(list(due(30), 10).await, [events[1], events[2], events[0]]);
    assert_eq!(list(due(30), 2).await, [events[1], events[2]]);

    let first = store.due(&[key], due(10), 10).await.unwrap()[0];
    assert_eq!(
        (first.lane, first.delivery),
        (key.0, scene.delivery(events[1]))
    );
    assert_eq!(
        (first.attempts_made, first.round_start, first.due_at),
        (1, 0, due(10))
    );
}

/// What stands before that time does not hide what comes after it.
pub async fn what_was_due_before_a_time_can_be_left_out(store: &TestStore) {
    let scene = Scene::new(store).await;
    let (lane, id) = (scene.subscription.lane, scene.subscription.id);
    let due = |seconds| START + TimeDelta::seconds(seconds);
    let mut events = Vec::new();
    for seconds in [10, 10, 20, 30] {
        let event = scene.event(store).await;
        retry(
            store,
            &scene.lease,
            event,
            &scene.subscription,
            due(seconds),
        )
        .await;
        events.push(event);
    }
    let after = async |seconds| -> Vec<EventId> {
        let keys = [(lane, id, due(seconds))];
        let retries = store.due_after(&keys, due(30), 2).await.unwrap();
        retries.iter().map(|retry| retry.delivery.event).collect()
    };
    assert_eq!(after(9).await, events[..2]);
    assert_eq!(after(10).await, events[2..]);
    assert_eq!(after(20).await, events[3..]);
    assert!(after(30).await.is_empty());
}

pub async fn the_limit_of_due_retries_is_per_subscription(store: &TestStore) {
    let scene = Scene::new(store).await;
    let second = seed::subscription(store, scene.app, START).await;
    for _ in 0..3 {
        let event = scene.event(store).await;
        for subscription in [&scene.subscription, &second] {
            retry(store, &scene.lease, event, subscription, START).await;
        }
    }
    let keys = [&scene.subscription, &second].map(|one| (one.lane, one.id));
    let retries = store.due(&keys, START, 2).await.unwrap();
    for (_, id) in keys {
        let of_one = retries
            .iter()
            .filter(|retry| retry.delivery.subscription == id);
        assert_eq!(of_one.count(), 2);
    }
    assert!(store.due(&[], START, 2).await.unwrap().is_empty());
}

pub async fn a_sending_state_is_what_the_subscription_is_now(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let config = SubscriptionConfig {
        headers: Some(Sealed::from_bytes(vec![0, 1, 2])),
        timeout_ms: 9_000,
        max_in_flight: 3,
        ..seed::config("https://receiver.example/?a='b'")
    };
    let made = seed::subscription_with(store, app, config.clone(), START).await;
    let state = store
        .sending_states(&[made.id], START)
        .await
        .unwrap()
        .remove(0);
    assert_eq!((state.id, state.app, state.lane), (made.id, app, made.lane));
    assert_eq!(
        (state.status, state.deleted),
        (SubscriptionStatus::Active, false)
    );
    assert_eq!((state.version, state.url), (made.version, config.url));
    assert_eq!((state.headers, state.retry), (config.headers, config.retry));
    assert_eq!((state.timeout_ms, state.max_in_flight), (9_000, 3));

    let change = SubscriptionChange {
        max_in_flight: Some(5),
        ..Default::default()
    };
    store
        .update_subscription(made.id, ALL, change, None, START)
        .await
        .unwrap();
    store.pause_subscription(made.id, ALL, START).await.unwrap();
    let state = store
        .sending_states(&[made.id], START)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (state.status, state.max_in_flight),
        (SubscriptionStatus::Paused, 5)
    );
    assert!(state.version > made.version);
}

pub async fn deleted_subscriptions_have_a_sending_state_and_unknown_ones_none(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let [kept, gone] = [
        seed::subscription(store, app, START).await.id,
        seed::subscription(store, app, START).await.id,
    ];
    store.delete_subscription(gone, ALL, START).await.unwrap();
    let ids = [gone, SubscriptionId::new(7), kept];
    let states = store.sending_states(&ids, START).await.unwrap();
    let found: BTreeSet<_> = states
        .iter()
        .map(|state| (state.id, state.deleted))
        .collect();
    assert_eq!(found, BTreeSet::from([(kept, false), (gone, true)]));
}

pub async fn what_changed_since_is_named(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let mut made = Vec::new();
    for _ in 0..6 {
        made.push(seed::subscription(store, app, START).await.id);
    }
    let at = |seconds| START + TimeDelta::seconds(seconds);
    let change = SubscriptionChange {
        timeout_ms: Some(1_000),
        ..Default::default()
    };
    store
        .update_subscription(made[0], ALL, change, None, at(10))
        .await
        .unwrap();
    store
        .pause_subscription(made[1], ALL, at(20))
        .await
        .unwrap();
    let secret = Sealed::from_bytes(vec![1]);
    store
        .rotate_secret(made[2], ALL, secret, at(90), at(30))
        .await
        .unwrap();
    store
        .disable_subscription(made[3], "410 Gone", at(40))
        .await
        .unwrap();
    store
        .delete_subscription(made[4], ALL, at(50))
        .await
        .unwrap();

    let changed = async |since| -> BTreeSet<SubscriptionId> {
        store
            .changed_since(since)
            .await
            .unwrap()
            .into_iter()
            .collect()
    };
    for (index, seconds) in [0, 10, 20, 30, 40, 50].into_iter().enumerate() {
        let expected: BTreeSet<_> = match index {
            0 => made.iter().copied().collect(),
            _ => made[index - 1..5].iter().copied().collect(),
        };
        assert_eq!(changed(at(seconds)).await, expected, "since {seconds} s");
    }
    assert!(changed(at(51)).await.is_empty());
}

pub async fn parked_rows_wait_in_the_retries(store: &TestStore) {
    let scene = Scene::new(store).await;
    let [parked, stays] = [scene.event(store).await, scene.event(store).await];
    let key = |event| OutboxKey {
        lane: scene.subscription.lane,
        delivery: scene.delivery(event),
        order: None,
    };
    let due_at = START + TimeDelta::minutes(2);
    for _ in 0..2 {
        store
            .park(&scene.lease, &[key(parked)], due_at)
            .await
            .unwrap();
        assert_eq!(seed::outbox(store).await, [key(stays)]);
        let rows = store
            .due(&[(key(parked).lane, scene.subscription.id)], due_at, 10)
            .await;
        let row = rows.unwrap().remove(0);
        assert_eq!((row.delivery.event, row.due_at), (parked, due_at));
        assert_eq!((row.attempts_made, row.round_start), (0, 0));
    }
    store
        .cancel(scene.delivery(stays), ALL, START)
        .await
        .unwrap();
    store
        .park(&scene.lease, &[key(stays)], due_at)
        .await
        .unwrap();
    assert_eq!(
        store.count("retries", "").await,
        1,
        "what was cancelled is not parked"
    );
    store.park(&scene.lease, &[], due_at).await.unwrap();
}

async fn retry(
    store: &TestStore,
    lease: &NodeLease,
    event: EventId,
    subscription: &Subscription,
    due_at: DateTime<Utc>,
) {
    let attempt = Some(seed::attempt(1, 503, START));
    let next = Next::Retry { due_at };
    let failed = seed::settlement(event, subscription, Source::Outbox, attempt, next);
    store.settle(lease, &[failed], START).await.unwrap();
}
