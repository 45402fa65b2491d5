//! Subscriptions: made, found, changed, paused, deleted.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use ringback_model::{
    AppId, EventTypePattern, Lane, Ordering, RetryPreset, RetrySpec, SubscriptionId,
    SubscriptionStatus,
};
use ringback_store::{
    Changed, Sealed, Subscription, SubscriptionChange, SubscriptionConfig, SubscriptionKind, Within,
};

use super::scene::twenty_at_once;
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn a_subscription_is_found_as_it_was_created(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let new = seed::new_subscription(store, app, full_config(), START);
    let created = store
        .create_subscription(new.clone(), START)
        .await
        .unwrap()
        .unwrap();
    let expected = Subscription {
        id: new.id,
        app,
        lane: Lane::of(new.id),
        kind: SubscriptionKind::Standard,
        status: SubscriptionStatus::Active,
        status_reason: None,
        version: created.version,
        config: full_config(),
        failing_since: None,
        created_at: START,
        updated_at: START,
    };
    assert_eq!(created, expected);
    assert_eq!(
        store.subscription(new.id, ALL).await.unwrap(),
        Some(expected)
    );
    assert!(
        store
            .subscription(SubscriptionId::new(7), ALL)
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn every_form_of_retry_policy_is_kept(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let cases = [
        RetrySpec::Preset(RetryPreset::Fast),
        RetrySpec::ScheduleS(vec![]),
        RetrySpec::ScheduleS(vec![0.1, 1.5, 86_400.0]),
        RetrySpec::Exponential {
            initial_s: 5.0,
            factor: 2.0,
            max_s: 3600.0,
            attempts: 12,
        },
    ];
    for retry in cases {
        let config = SubscriptionConfig {
            retry,
            ..seed::config("https://r.example/")
        };
        let id = seed::subscription_with(store, app, config.clone(), START)
            .await
            .id;
        assert_eq!(
            store.subscription(id, ALL).await.unwrap().unwrap().config,
            config
        );
    }
}

pub async fn an_unknown_application_gets_no_subscription(store: &TestStore) {
    let config = seed::config("https://receiver.example/");
    let lost = seed::new_subscription(store, AppId::new(7), config, START);
    assert!(
        store
            .create_subscription(lost, START)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(store.count("subscriptions", "").await, 0);
}

pub async fn subscriptions_are_listed_newest_first(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.insert(0, seed::subscription(store, app, START).await.id);
    }
    let mut callback =
        seed::new_subscription(store, app, seed::config("https://caller.example/"), START);
    callback.kind = SubscriptionKind::Callback;
    store
        .create_subscription(callback, START)
        .await
        .unwrap()
        .unwrap();
    let other = seed::app(store, "other", START).await;
    seed::subscription(store, other, START).await;
    store
        .delete_subscription(made.remove(1), ALL, START)
        .await
        .unwrap();

    let list = async |before, limit| -> Vec<SubscriptionId> {
        let found = store.subscriptions(app, before, limit).await.unwrap();
        found.iter().map(|subscription| subscription.id).collect()
    };
    assert_eq!(list(SubscriptionId::MAX, 200).await, made);
    assert_eq!(list(SubscriptionId::MAX, 2).await, made[..2]);
    assert_eq!(list(made[1], 200).await, made[2..]);
}

pub async fn an_update_is_a_new_version_of_what_it_names(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let before = seed::subscription_with(store, app, full_config(), START).await;
    let later = START + TimeDelta::minutes(1);

    let change = SubscriptionChange {
        timeout_ms: Some(9_000),
        ..Default::default()
    };
    let changed = done(
        store
            .update_subscription(before.id, ALL, change, None, later)
            .await
            .unwrap(),
    );

    let config = SubscriptionConfig {
        timeout_ms: 9_000,
        ..full_config()
    };
    let expected = Subscription {
        version: changed.version,
        updated_at: later,
        config,
        ..before.clone()
    };
    assert!(changed.version > before.version);
    assert_eq!(changed, expected);
    assert_eq!(
        store.subscription(before.id, ALL).await.unwrap(),
        Some(expected)
    );
}

pub async fn an_update_can_change_everything(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let plain = seed::subscription(store, app, START).await;
    let full = full_config();
    let change = SubscriptionChange {
        url: Some(full.url.clone()),
        event_types: Some(full.event_types.clone()),
        payload_filter: Some(full.payload_filter.clone()),
        headers: Some(full.headers.clone()),
        retry: Some(full.retry.clone()),
        timeout_ms: Some(full.timeout_ms),
        max_in_flight: Some(full.max_in_flight),
        rate_per_s: Some(full.rate_per_s),
        ordering: Some(full.ordering),
        description: Some(full.description.clone()),
        labels: Some(full.labels.clone()),
    };
    let changed = done(
        store
            .update_subscription(plain.id, ALL, change, None, START)
            .await
            .unwrap(),
    );
    assert_eq!(changed.config, full);

    let change = SubscriptionChange {
        payload_filter: Some(None),
        headers: Some(None),
        ..Default::default()
    };
    let changed = done(
        store
            .update_subscription(plain.id, ALL, change, None, START)
            .await
            .unwrap(),
    );
    assert_eq!(
        changed.config,
        SubscriptionConfig {
            payload_filter: None,
            headers: None,
            ..full
        }
    );
}

pub async fn an_update_of_an_older_version_is_refused(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let first = seed::subscription(store, app, START).await;
    let change = |timeout| SubscriptionChange {
        timeout_ms: Some(timeout),
        ..SubscriptionChange::default()
    };
    let expected = Some(first.version);
    let update = store.update_subscription(first.id, ALL, change(1_000), expected, START);
    let second = done(update.await.unwrap());
    let update = store.update_subscription(first.id, ALL, change(2_000), expected, START);
    let outdated = update.await.unwrap();
    assert!(matches!(outdated, Changed::Outdated), "{outdated:?}");
    assert_eq!(
        store.subscription(first.id, ALL).await.unwrap(),
        Some(second)
    );
    let unknown = SubscriptionId::new(7);
    let update = store.update_subscription(unknown, ALL, change(1_000), None, START);
    assert!(matches!(update.await.unwrap(), Changed::NotFound));
}

pub async fn one_of_twenty_updates_of_the_same_version_is_done(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let first = seed::subscription(store, app, START).await;
    let update = |expected: Option<i32>| {
        let (store, id) = (store.shared(), first.id);
        async move {
            let change = SubscriptionChange {
                timeout_ms: Some(1_000),
                ..Default::default()
            };
            store
                .update_subscription(id, ALL, change, expected, START)
                .await
                .unwrap()
        }
    };
    let outcomes = twenty_at_once(|_| update(Some(first.version))).await;
    let done = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Changed::Done(_)))
        .count();
    let outdated = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Changed::Outdated))
        .count();
    assert_eq!((done, outdated), (1, 19));

    // Whoever names no version always comes through, each with one of its own.
    let versions: BTreeSet<i32> = twenty_at_once(|_| update(None))
        .await
        .into_iter()
        .map(|changed| self::done(changed).version)
        .collect();
    assert_eq!(versions.len(), 20);
}

fn full_config() -> SubscriptionConfig {
    SubscriptionConfig {
        // Byte for byte, though a parser would write it anew.
        url: "https://R.example/x/%2F..%2Fy/a%20b?sig=A%2Bb%3d&t='(~)#frag".to_owned(),
        event_types: vec!["order.*".parse().unwrap(), EventTypePattern::Any],
        payload_filter: Some(r#"{"data.größe":{"gte":1.10}}"#.parse().unwrap()),
        headers: Some(Sealed::from_bytes(vec![0, 1, 0xff])),
        retry: RetrySpec::ScheduleS(vec![0.5, 5.0]),
        timeout_ms: 12_345,
        max_in_flight: 65_535,
        rate_per_s: Some(0.25),
        ordering: Ordering::Fifo,
        description: "für \"alle\"\n".to_owned(),
        labels: [("team".to_owned(), "7".to_owned())].into(),
    }
}

fn done(changed: Changed<Subscription>) -> Subscription {
    match changed {
        Changed::Done(subscription) => subscription,
        refused => panic!("{refused:?}"),
    }
}
