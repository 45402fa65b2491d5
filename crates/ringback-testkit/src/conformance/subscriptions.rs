//! Subscriptions: made, found, changed, paused, deleted.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use ringback_model::{
    AppId, DeliveryStatus, EventTypePattern, Lane, RetryPreset, RetrySpec, SubscriptionId,
    SubscriptionStatus,
};
use ringback_store::{
    Changed, Next, Sealed, Source, Subscription, SubscriptionChange, SubscriptionConfig,
    SubscriptionKind, Within,
};

use super::scene::{Scene, look, twenty_at_once};
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
        headers: Some(full.headers.clone()),
        retry: Some(full.retry.clone()),
        timeout_ms: Some(full.timeout_ms),
        max_in_flight: Some(full.max_in_flight),
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

pub async fn pausing_and_resuming_leave_the_configuration_alone(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let active = seed::subscription(store, app, START).await;
    let (id, later) = (active.id, START + TimeDelta::minutes(1));

    for _ in 0..2 {
        let paused = store
            .pause_subscription(id, ALL, later)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(paused.status, SubscriptionStatus::Paused);
        assert_eq!(
            (paused.version, &paused.config),
            (active.version, &active.config)
        );
        assert_eq!(store.subscription(id, ALL).await.unwrap(), Some(paused));
    }
    for _ in 0..2 {
        let resumed = store
            .resume_subscription(id, ALL, later)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(resumed.status, SubscriptionStatus::Active);
        assert_eq!(
            (resumed.version, &resumed.config),
            (active.version, &active.config)
        );
        assert_eq!(store.subscription(id, ALL).await.unwrap(), Some(resumed));
    }
    let unknown = SubscriptionId::new(7);
    assert!(
        store
            .pause_subscription(unknown, ALL, START)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .resume_subscription(unknown, ALL, START)
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn a_disabled_subscription_can_be_resumed_but_not_paused(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let id = seed::subscription(store, app, START).await.id;
    store
        .disable_subscription(id, "410 Gone", START)
        .await
        .unwrap();
    let disabled = store
        .pause_subscription(id, ALL, START)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(disabled.status, SubscriptionStatus::Disabled);
    assert_eq!(disabled.status_reason.as_deref(), Some("410 Gone"));
    let resumed = store
        .resume_subscription(id, ALL, START)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (resumed.status, resumed.status_reason),
        (SubscriptionStatus::Active, None)
    );
}

pub async fn pausing_holds_what_waits_and_resuming_frees_it(store: &TestStore) {
    let scene = Scene::new(store).await;
    let [waiting, retrying] = [scene.event(store).await, scene.event(store).await];
    let due_at = START + TimeDelta::seconds(5);
    let attempt = seed::attempt(1, 503, START);
    let failed = scene.settlement(
        retrying,
        Source::Outbox,
        Some(attempt),
        Next::Retry { due_at },
    );
    scene.settle(store, failed).await;
    let retries = async || {
        let lanes = [(scene.subscription.lane, scene.subscription.id)];
        store.due(&lanes, due_at, 10).await.unwrap()
    };
    let before = retries().await;

    store
        .pause_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();

    let held = look(store, scene.delivery(retrying)).await;
    assert_eq!(
        (held.status, held.next_attempt_at),
        (DeliveryStatus::Held, None)
    );
    assert_eq!(retries().await, before, "pausing touches no waiting row");
    // The outbox is the owner's to park.
    assert_eq!(seed::outbox(store).await.len(), 1);

    store
        .resume_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();
    let free = look(store, scene.delivery(retrying)).await;
    assert_eq!(
        (free.status, free.next_attempt_at),
        (DeliveryStatus::Retrying, Some(due_at))
    );
    let free = look(store, scene.delivery(waiting)).await;
    assert_eq!(free.status, DeliveryStatus::Pending);
}

pub async fn deleting_a_subscription_cancels_what_waits_for_it(store: &TestStore) {
    let scene = Scene::new(store).await;
    let bystander = seed::subscription(store, scene.app, START).await;
    let [waiting, retrying, delivered] = [
        scene.event(store).await,
        scene.event(store).await,
        scene.event(store).await,
    ];
    let failed = Next::Retry { due_at: START };
    let first = |status| Some(seed::attempt(1, status, START));
    scene
        .settle(
            store,
            scene.settlement(retrying, Source::Outbox, first(503), failed),
        )
        .await;
    let succeeded = scene.settlement(delivered, Source::Outbox, first(204), Next::Delivered);
    scene.settle(store, succeeded).await;

    let later = START + TimeDelta::minutes(1);
    assert!(
        store
            .delete_subscription(scene.subscription.id, ALL, later)
            .await
            .unwrap()
    );
    assert!(
        !store
            .delete_subscription(scene.subscription.id, ALL, later)
            .await
            .unwrap()
    );

    assert!(
        store
            .subscription(scene.subscription.id, ALL)
            .await
            .unwrap()
            .is_none()
    );
    for (event, attempts) in [(waiting, 0), (retrying, 1)] {
        let cancelled = look(store, scene.delivery(event)).await;
        assert_eq!(
            (cancelled.status, cancelled.attempts),
            (DeliveryStatus::Cancelled, attempts)
        );
        assert_eq!(cancelled.settled_at, Some(later));
    }
    // History stays.
    let kept = look(store, scene.delivery(delivered)).await;
    assert_eq!(kept.status, DeliveryStatus::Delivered);
    let attempts = store
        .attempts(scene.delivery(retrying), ALL)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(attempts.len(), 1);
    // And what is another's.
    let others = seed::delivery(waiting, &bystander);
    assert_eq!(look(store, others).await.status, DeliveryStatus::Pending);
    assert_eq!(
        (
            store.count("outbox", "").await,
            store.count("retries", "").await
        ),
        (3, 0)
    );
}

fn full_config() -> SubscriptionConfig {
    SubscriptionConfig {
        // Byte for byte, though a parser would write it anew.
        url: "https://R.example/x/%2F..%2Fy/a%20b?sig=A%2Bb%3d&t='(~)#frag".to_owned(),
        event_types: vec!["order.*".parse().unwrap(), EventTypePattern::Any],
        headers: Some(Sealed::from_bytes(vec![0, 1, 0xff])),
        retry: RetrySpec::ScheduleS(vec![0.5, 5.0]),
        timeout_ms: 12_345,
        max_in_flight: 65_535,
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
