//! What is true of SQLite alone; what both databases promise is tested by the
//! conformance suite of `ringback-testkit`.

mod files;
mod lists;
mod writing;

use std::{collections::BTreeSet, path::Path};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::{
    AppId, AttemptError, DeliveryId, DeliveryStatus, EventId, Lane, Ordering, SubscriptionId,
};
use ringback_store::{
    Accept, AcceptItem, AcceptOutcome, AppRef, CreatedApp, DeliveryFilter, EventFilter, History,
    NewApp, NewDelivery, NewEvent, NewSubscription, Outbox, Registry, Sealed, StoreError,
    SubscriptionConfig, SubscriptionKind, Within,
};
use sqlx::SqliteConnection;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{LockError, OpenError, SqliteOptions, SqliteStore, failure::failed, lock_for_serving};

const APP: AppId = AppId::new(1);

fn start() -> DateTime<Utc> {
    "2026-01-05T09:00:00Z".parse().unwrap()
}

fn at(folder: &TempDir) -> SqliteOptions {
    SqliteOptions {
        path: folder.path().join("test.db"),
        ..SqliteOptions::default()
    }
}

async fn fresh(folder: &TempDir) -> SqliteStore {
    let store = SqliteStore::open(at(folder)).await.unwrap();
    store.migrate().await.unwrap();
    store
}

fn new_app(id: AppId) -> NewApp {
    NewApp {
        id,
        slug: format!("app-{}", id.get()).parse().unwrap(),
        name: String::new(),
        metadata: Default::default(),
        quotas: Default::default(),
    }
}

fn new_subscription(id: SubscriptionId) -> NewSubscription {
    NewSubscription {
        id,
        app: APP,
        kind: SubscriptionKind::Standard,
        config: SubscriptionConfig {
            url: "https://receiver.example/".to_owned(),
            event_types: vec!["*".parse().unwrap()],
            payload_filter: None,
            headers: None,
            retry: Default::default(),
            timeout_ms: 15_000,
            max_in_flight: 10,
            rate_per_s: None,
            ordering: Ordering::None,
            description: String::new(),
            labels: Default::default(),
        },
        secret: Sealed::from_bytes(vec![1]),
    }
}

/// An event for `subscription`, matched at `version`.
fn item(id: i64, version: i64, to: &[(Lane, SubscriptionId)]) -> AcceptItem {
    let deliver = |&(lane, subscription): &(Lane, SubscriptionId)| NewDelivery {
        subscription,
        lane,
        order: None,
        held: false,
    };
    let event = NewEvent {
        id: EventId::new(id),
        app: APP,
        app_version: version,
        event_type: "order.paid".parse().unwrap(),
        data: Bytes::from_static(b"{}"),
        labels: Default::default(),
        traceparent: None,
        ordering_key: None,
        deliver_at: None,
        external: None,
        deliveries: to.iter().map(deliver).collect(),
    };
    AcceptItem {
        events: vec![event],
        idempotency: None,
        emitted: None,
    }
}

/// Runs SQL in the writer.
async fn execute(store: &SqliteStore, sql: &'static str) -> Result<(), StoreError> {
    store
        .0
        .writer
        .run(move |connection| Box::pin(run(connection, sql)))
        .await
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::raw_sql(sql)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}

async fn slugs(store: &SqliteStore) -> BTreeSet<String> {
    let apps = store
        .apps(Within::Everything, AppId::MAX, 100)
        .await
        .unwrap();
    apps.into_iter().map(|app| app.slug.to_string()).collect()
}
