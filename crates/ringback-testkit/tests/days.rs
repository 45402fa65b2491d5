//! How days end in PostgreSQL: beside others who read, write or do the same, and cut
//! short half-way. What is promised of both databases is in the conformance suite.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{str::FromStr, time::Duration};

use chrono::TimeDelta;
use ringback_model::{DeadReason, DeliveryId, DeliveryStatus, EventId};
use ringback_postgres::{PostgresOptions, PostgresStore};
use ringback_store::{
    DeliveryFilter, History, Maintain, Next, NodeLease, Outbox, Settlement, Source, Subscription,
    Within,
};
use ringback_testkit::{
    TestStore, fresh_postgres,
    seed::{self, START},
};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

const ALL: Within = Within::Everything;
const ENDED: TimeDelta = TimeDelta::days(31);
/// What is left of the first day in the tables of days.
const PARTS: &str = "select count(*) from pg_class where relname like '%\\_20260105' \
                     and relkind = 'r' and relnamespace = 'ringback'::regnamespace";

/// They are copied whole, so a column that only one of them has would be lost, or stop
/// days from ending.
#[tokio::test]
async fn what_outlives_its_day_has_the_columns_of_its_table() {
    let store = fresh_postgres().await;
    for table in ["events", "event_labels", "deliveries", "attempts"] {
        let columns = |table: &str| {
            format!(
                "select string_agg(attname || ' ' || atttypid::regtype || ' ' || attnotnull, ', ' \
                 order by attnum) from pg_attribute where attnum > 0 and not attisdropped \
                 and attrelid = 'ringback.{table}'::regclass"
            )
        };
        let (one, other) = (columns(table), columns(&format!("kept_{table}")));
        let same = store
            .number(&format!("select (({one}) = ({other}))::int"))
            .await;
        assert_eq!(same, 1, "kept_{table} is not like {table}");
    }
}

/// Another node ended the day. This one finds out by being refused.
#[tokio::test]
async fn a_node_that_does_not_know_that_a_day_has_ended_settles_all_the_same() {
    let scene = Scene::new().await;
    let (dying, delivered) = (scene.waits().await, scene.waits().await);
    let ignorant = scene.another().await;
    scene.store.end_days(START + ENDED).await.unwrap();

    // Together with one of a day that has not ended.
    let fresh = scene.fresh().await;
    let results = [
        scene.result(dying, 2, Next::Dead(DeadReason::OutOfAttempts)),
        scene.result(fresh, 2, Next::Delivered),
        scene.result(delivered, 2, Next::Delivered),
    ];
    ignorant
        .settle(&scene.lease, &results, START + ENDED)
        .await
        .unwrap();
    for (id, status) in [
        (dying, DeliveryStatus::Dead),
        (fresh, DeliveryStatus::Delivered),
        (delivered, DeliveryStatus::Delivered),
    ] {
        assert_eq!(scene.status(id).await, Some(status));
        let attempts = ignorant.attempts(id, ALL).await.unwrap().unwrap();
        assert_eq!(attempts.len(), 2);
    }
}

/// A dump holds on to all tables; then the process that ends the day dies. Accepting and
/// settling go on, readers see the day ended at once, and the next call ends it.
#[tokio::test]
async fn a_day_that_was_half_ended_is_ended_by_the_next_call() {
    let scene = Scene::new().await;
    let (arrived, waiting, dead) = (
        scene.waits().await,
        scene.waits().await,
        scene.waits().await,
    );
    scene.settle(arrived, Next::Delivered).await;
    scene
        .settle(dead, Next::Dead(DeadReason::OutOfAttempts))
        .await;
    let ignorant = scene.another().await;
    let now = START + ENDED;

    let mut dump = scene.connect().await;
    let mut reading = dump.begin().await.unwrap();
    sqlx::raw_sql(
        "select 1 from ringback.events, ringback.event_labels, ringback.deliveries, \
         ringback.attempts limit 1",
    )
    .execute(&mut *reading)
    .await
    .unwrap();
    let ending = tokio::spawn({
        let store = scene.store.shared();
        async move { store.end_days(now).await }
    });
    let pending = "select count(*) from pg_inherits where inhdetachpending";
    while scene.store.number(pending).await == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    // It waits for the dump, and nobody else does.
    assert_eq!(scene.status(arrived).await, None);
    assert_eq!(scene.status(dead).await, Some(DeliveryStatus::Dead));
    let fresh = scene.fresh().await;
    assert_eq!(scene.listed().await, [fresh, dead, waiting]);
    let last = scene.result(waiting, 2, Next::Dead(DeadReason::OutOfAttempts));
    ignorant.settle(&scene.lease, &[last], now).await.unwrap();
    assert_eq!(scene.status(waiting).await, Some(DeliveryStatus::Dead));
    // Another node leaves it to the one that is at it.
    ignorant.end_days(now).await.unwrap();

    let kill = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity \
                where datname = current_database() and query like 'alter table%detach%'";
    assert_eq!(scene.store.number(kill).await, 1);
    ending.await.unwrap().unwrap_err();
    assert!(scene.store.number(PARTS).await > 0);
    reading.rollback().await.unwrap();

    ignorant.end_days(now).await.unwrap();
    assert_eq!(scene.store.number(PARTS).await, 0);
    assert_eq!(scene.listed().await, [fresh, dead, waiting]);
    for id in [waiting, dead] {
        assert_eq!(scene.status(id).await, Some(DeliveryStatus::Dead));
        assert_eq!(ignorant.payloads(&[id.event]).await.unwrap().len(), 1);
    }
    assert_eq!(scene.store.count("kept_events", "").await, 2);
}

/// A clock that was weeks ahead ended the day that it really is.
#[tokio::test]
async fn a_day_that_is_made_again_is_a_day_again() {
    let scene = Scene::new().await;
    let waiting = scene.waits().await;
    scene.store.end_days(START + ENDED).await.unwrap();
    scene.store.tend(START).await.unwrap();
    let again = scene.waits().await;
    scene.settle(again, Next::Delivered).await;
    assert_eq!(scene.status(again).await, Some(DeliveryStatus::Delivered));
    scene.settle(waiting, Next::Delivered).await;
    assert_eq!(scene.status(waiting).await, Some(DeliveryStatus::Delivered));
    assert_eq!(scene.listed().await.first(), Some(&again));
}

struct Scene {
    store: TestStore,
    subscription: Subscription,
    lease: NodeLease,
}

impl Scene {
    async fn new() -> Self {
        let store = fresh_postgres().await;
        let app = seed::app(&store, "billing", START).await;
        let subscription = seed::subscription(&store, app, START).await;
        let lease = seed::owner(&store, "node-1", START).await;
        Self {
            store,
            subscription,
            lease,
        }
    }

    /// Another process on the same database.
    async fn another(&self) -> PostgresStore {
        let options = PostgresOptions {
            url: self.store.url().to_owned(),
            ..PostgresOptions::default()
        };
        PostgresStore::connect(options).await.unwrap()
    }

    async fn connect(&self) -> PgConnection {
        let options = PgConnectOptions::from_str(self.store.url()).unwrap();
        options.connect().await.unwrap()
    }

    /// A delivery of the first day whose first attempt failed.
    async fn waits(&self) -> DeliveryId {
        self.failed_once(seed::event(&self.store, self.subscription.app, START).await)
            .await
    }

    /// The same, of a day that has not ended.
    async fn fresh(&self) -> DeliveryId {
        let now = START + ENDED;
        self.store.tend(now).await.unwrap();
        self.failed_once(seed::event(&self.store, self.subscription.app, now).await)
            .await
    }

    async fn failed_once(&self, event: EventId) -> DeliveryId {
        let due_at = START + TimeDelta::days(90);
        let id = seed::delivery(event, &self.subscription);
        let mut failed = self.result(id, 1, Next::Retry { due_at });
        failed.source = Source::Outbox;
        self.store
            .settle(&self.lease, &[failed], START)
            .await
            .unwrap();
        id
    }

    async fn settle(&self, id: DeliveryId, next: Next) {
        let result = self.result(id, 2, next);
        self.store
            .settle(&self.lease, &[result], START)
            .await
            .unwrap();
    }

    fn result(&self, id: DeliveryId, number: u16, next: Next) -> Settlement {
        let code = if next == Next::Delivered { 204 } else { 503 };
        let source = Source::Retries {
            attempts_made: number - 1,
            round_start: 0,
        };
        let attempt = Some(seed::attempt(number, code, START));
        seed::settlement(id.event, &self.subscription, source, attempt, next)
    }

    async fn status(&self, id: DeliveryId) -> Option<DeliveryStatus> {
        let delivery = self.store.delivery(id, ALL).await.unwrap();
        delivery.map(|delivery| delivery.status)
    }

    /// All deliveries, newest first.
    async fn listed(&self) -> Vec<DeliveryId> {
        let filter = DeliveryFilter {
            within: ALL,
            app: None,
            subscription: None,
            event: None,
            status: None,
            event_type: None,
            label: None,
            status_code: None,
            error: None,
            since: None,
            until: None,
        };
        let top = DeliveryId {
            event: EventId::MAX,
            subscription: ringback_model::SubscriptionId::MAX,
        };
        let page = self.store.deliveries(&filter, top, 100).await.unwrap();
        page.items.iter().map(|one| one.id).collect()
    }
}
