//! What is not settled, read from the database itself.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use ringback::database::Database;
use ringback_model::{EventId, Lane};
use ringback_store::{OutboxKey, Store};

use super::Sending;

/// Deliveries that are not settled, each with the attempt that comes next.
pub(crate) async fn unsettled(database_url: &str) -> BTreeSet<Sending> {
    let database = Database::open(&database_url.parse().unwrap())
        .await
        .unwrap();
    let store = database.store();
    let first = |key: OutboxKey| Sending {
        delivery: key.delivery,
        attempt: 1,
    };
    let mut unsettled: BTreeSet<Sending> = outbox(&*store).await.into_iter().map(first).collect();
    unsettled.extend(retries(&*store).await);
    drop(store);
    database.close().await;
    unsettled
}

async fn outbox(store: &dyn Store) -> Vec<OutboxKey> {
    let lanes: Vec<_> = Lane::all().map(|lane| (lane, EventId::MIN)).collect();
    store.read(&lanes, 100_000).await.unwrap()
}

async fn retries(store: &dyn Store) -> Vec<Sending> {
    let lanes: Vec<Lane> = Lane::all().collect();
    let waiting = store.waiting(&lanes).await.unwrap();
    let waiting: Vec<_> = waiting
        .iter()
        .map(|(lane, subscription, _)| (*lane, *subscription))
        .collect();
    let ever = store.now().await.unwrap() + TimeDelta::days(365);
    let due = store.due(&waiting, ever, 100_000).await.unwrap();
    let next = due.iter().map(|retry| Sending {
        delivery: retry.delivery,
        attempt: retry.attempts_made + 1,
    });
    next.collect()
}
