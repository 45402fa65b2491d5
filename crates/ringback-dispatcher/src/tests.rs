//! The whole loop, on SQLite, with time moved by hand.

mod changing;
mod limits;
mod nodes;
mod once;
mod pacing;
mod retrying;
mod sending;
mod stopping;

mod lab;
mod receiver;
mod store;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{
    AttemptError, DeadReason, DeliveryId, DeliveryStatus, EventId, Lane, SubscriptionId,
    SubscriptionStatus,
};
use ringback_store::{
    Hint, Hints, History, NodeLease, Outbox, OutboxKey, Registry, ReplayOutcome,
    SubscriptionChange, Within,
};

use crate::{
    DispatcherConfig,
    retries::AHEAD,
    settle::Settler,
    tests::{
        lab::{Lab, Node, retry, start},
        receiver::Reaction,
        store::Fails,
    },
};

const STANDARD: &str = r#"{"preset":"standard"}"#;
const ONCE: &str = r#"{"schedule_s":[]}"#;
/// One retry, an hour later.
const TWICE: &str = r#"{"schedule_s":[3600]}"#;
const EVERYTHING: Within = Within::Everything;

fn config() -> DispatcherConfig {
    DispatcherConfig::default()
}

async fn lab_with(retry_json: &str, max_in_flight: u16) -> (Lab, Node, SubscriptionId) {
    let lab = Lab::new().await;
    let subscription = lab
        .subscribe("/hooks", max_in_flight, retry(retry_json))
        .await;
    let node = lab.node("a", config()).await;
    (lab, node, subscription)
}

/// Emits many events, every third only to be found by reading.
async fn emit_many(lab: &Lab, node: &Node, count: usize) -> Vec<EventId> {
    let mut events = Vec::new();
    for number in 0..count {
        events.push(match number % 3 {
            0 => lab.emit_silently().await,
            _ => lab.emit(node).await,
        });
    }
    events
}

fn assert_once_each(lab: &Lab, events: &[EventId], paths: usize) {
    let tally = lab.receiver.tally();
    assert!(
        tally.values().all(|count| *count == 1),
        "sent twice: {tally:?}"
    );
    assert_eq!(tally.len(), events.len() * paths);
}
