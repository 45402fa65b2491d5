//! What is promised of one event's way, through the HTTP doors, each on both databases.
//!
//! A number in a comment is that of the sender's black-box conformance case it settles.

use std::time::Duration;

use ringback_testkit::{Receiver, TestStore};
use serde_json::{Value, json};

use crate::harness::{Ringback, Subscription};

/// Makes two tests of each `async fn(TestStore)`: `sqlite::` and `postgres::`.
macro_rules! on_both_databases {
    ($($case:ident,)+) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(ringback_testkit::fresh_sqlite().await).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                super::$case(ringback_testkit::fresh_postgres().await).await;
            })+
        }
    };
}

mod payloads;
mod rotation;
mod signature;

mod failures;
mod fifo;
mod gone;
mod outcomes;
mod pacing;
mod schedule;
mod tls;

mod cancel;
mod deletion;
mod deliver_at;
mod pause;
mod replay;
mod retention;
mod shutdown;

mod batches;
mod duplicates;
mod emit;
mod filters;

mod system_events;

mod addresses;
mod scopes;
mod secrecy;
mod tenancy;
mod urls;

mod cli;
mod dev;

mod metrics;
mod quotas;

/// The application of most tests.
const APP: &str = "billing";

/// A service at the default of tests' times, with the application [`APP`].
async fn service(store: TestStore) -> Ringback {
    let ringback = Ringback::start(store).await;
    ringback.api.app(APP).await;
    ringback
}

/// Subscribes a receiver to the events of type `order.*`.
async fn subscribe(ringback: &Ringback, receiver: &Receiver, mut fields: Value) -> Subscription {
    fields["event_types"] = json!(["order.*"]);
    ringback
        .api
        .subscribe(APP, &receiver.url("/"), fields)
        .await
}

/// Emits an `order.paid`; answers its id.
async fn emit(ringback: &Ringback) -> String {
    ringback
        .api
        .emit(APP, "order.paid", json!({"total": 1.10}))
        .await
}

/// Shows that nothing more is to be sent: a receiver of its own is sent events
/// meanwhile.
struct Bystander {
    receiver: Receiver,
}

impl Bystander {
    async fn start(ringback: &Ringback) -> Self {
        let receiver = Receiver::start().await;
        let fields = json!({"event_types": ["bystander"]});
        ringback
            .api
            .subscribe(APP, &receiver.url("/"), fields)
            .await;
        Self { receiver }
    }

    /// Returns when what was due by now has had its time: two events of its own have
    /// come, one after the other.
    async fn is_served(&self, ringback: &Ringback) {
        for _ in 0..2 {
            let already = self.receiver.count();
            ringback.api.emit(APP, "bystander", Value::Null).await;
            self.receiver.wait_for(already + 1).await;
        }
    }
}

/// Moves the clock and shows that nothing is sent to `receiver`.
async fn stays_quiet(
    ringback: &Ringback,
    bystander: &Bystander,
    receiver: &Receiver,
    time: Duration,
) {
    let before = receiver.count();
    ringback.later(time).await;
    bystander.is_served(ringback).await;
    assert_eq!(receiver.count(), before, "something was sent");
}

/// The faults that a refusal names, each by its place and its word.
fn faults(problem: &Value) -> Vec<(&str, &str)> {
    let errors = problem["errors"].as_array().into_iter().flatten();
    errors
        .map(|error| {
            (
                error["pointer"].as_str().unwrap(),
                error["code"].as_str().unwrap(),
            )
        })
        .collect()
}
