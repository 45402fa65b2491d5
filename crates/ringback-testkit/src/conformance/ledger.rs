//! What settling writes, and how cases look at it.

use chrono::TimeDelta;
use ringback_model::EventId;
use ringback_store::{Attempt, AttemptRecord, Next, Source, Within};

use super::scene::Scene;
use crate::{TestStore, seed::START};

const ALL: Within = Within::Everything;

#[derive(Debug, PartialEq)]
pub(super) struct Counts {
    pub(super) outbox: i64,
    pub(super) retries: i64,
    pub(super) deliveries: i64,
    pub(super) attempts: i64,
}

pub(super) async fn counts(store: &TestStore) -> Counts {
    Counts {
        outbox: store.count("outbox", "").await,
        retries: store.count("retries", "").await,
        deliveries: store.count("deliveries", "").await,
        attempts: store.count("attempts", "").await,
    }
}

/// Records a failure that is to be tried again `wait_s` after the start.
pub(super) async fn fail(
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

pub(super) fn from_retries(attempts_made: u16) -> Source {
    Source::Retries {
        attempts_made,
        round_start: 0,
    }
}

/// All attempts; each went to the subscription's URL.
pub(super) async fn records(
    store: &TestStore,
    scene: &Scene,
    event: EventId,
) -> Vec<AttemptRecord> {
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
