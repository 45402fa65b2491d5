//! The attempts of a delivery: all of them, numbered through every round.

use chrono::TimeDelta;
use ringback_model::DeadReason;
use ringback_store::{Next, Sealed, Source, SubscriptionChange, SubscriptionConfig, Within};

use super::scene::{Scene, look};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn a_delivery_that_was_not_sent_yet_has_no_attempts(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    assert_eq!(
        store.attempts(scene.delivery(event), ALL).await.unwrap(),
        Some(vec![])
    );
}

pub async fn attempts_are_numbered_through_every_replay(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let delivery = scene.delivery(event);
    let mut made = Vec::new();
    let mut source = Source::Outbox;
    for round in 0..3_u16 {
        for (number, next) in [
            (2 * round + 1, Next::Retry { due_at: START }),
            (2 * round + 2, Next::Dead(DeadReason::OutOfAttempts)),
        ] {
            let attempt = seed::attempt(number, 500 + number, START);
            made.push(attempt.clone());
            scene
                .settle(store, scene.settlement(event, source, Some(attempt), next))
                .await;
            source = Source::Retries {
                attempts_made: number,
                round_start: 2 * round,
            };
        }
        let recorded = store.attempts(delivery, ALL).await.unwrap().unwrap();
        let recorded: Vec<_> = recorded.into_iter().map(|attempt| attempt.record).collect();
        assert_eq!(recorded, made, "round {round}");
        assert_eq!(look(store, delivery).await.attempts, 2 * round + 2);

        let now = START + TimeDelta::hours(i64::from(round) + 1);
        store.replay(delivery, ALL, now).await.unwrap();
        let key = (scene.subscription.lane, scene.subscription.id);
        let due = store.due(&[key], now, 10).await.unwrap();
        assert_eq!((due.len(), due[0].due_at), (1, now));
        assert_eq!(
            (due[0].attempts_made, due[0].round_start),
            (2 * round + 2, 2 * round + 2)
        );
        source = Source::Retries {
            attempts_made: 2 * round + 2,
            round_start: 2 * round + 2,
        };
        // What was attempted before can be seen while the replay is under way.
        assert_eq!(
            store.attempts(delivery, ALL).await.unwrap().unwrap().len(),
            made.len()
        );
    }
}

/// What was sent is shown as it was, though it is stored nowhere but in the version.
pub async fn an_attempt_shows_the_version_it_was_sent_with(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let lease = seed::owner(store, "node-1", START).await;
    let headers = Sealed::from_bytes(vec![0, 1, 2]);
    let config = SubscriptionConfig {
        headers: Some(headers.clone()),
        ..seed::config("https://old.example/?a='1'")
    };
    let old = seed::subscription_with(store, app, config, START).await;
    let event = seed::event(store, app, START).await;
    let mut first = seed::attempt(1, 503, START);
    first.subscription_version = old.version;
    let retry = Next::Retry { due_at: START };
    let failed = seed::settlement(event, &old, Source::Outbox, Some(first), retry);
    store.settle(&lease, &[failed], START).await.unwrap();

    let change = SubscriptionChange {
        url: Some("https://new.example/".to_owned()),
        headers: Some(None),
        ..Default::default()
    };
    store
        .update_subscription(old.id, ALL, change, None, START)
        .await
        .unwrap();
    let new = store.subscription(old.id, ALL).await.unwrap().unwrap();
    let mut second = seed::attempt(2, 204, START);
    second.subscription_version = new.version;
    let source = Source::Retries {
        attempts_made: 1,
        round_start: 0,
    };
    let done = seed::settlement(event, &old, source, Some(second), Next::Delivered);
    store.settle(&lease, &[done], START).await.unwrap();
    store.delete_subscription(old.id, ALL, START).await.unwrap();

    let attempts = store
        .attempts(seed::delivery(event, &old), ALL)
        .await
        .unwrap()
        .unwrap();
    let shown: Vec<_> = attempts
        .into_iter()
        .map(|attempt| (attempt.url, attempt.headers))
        .collect();
    let expected = [
        ("https://old.example/?a='1'".to_owned(), Some(headers)),
        ("https://new.example/".to_owned(), None),
    ];
    assert_eq!(shown, expected);
}
