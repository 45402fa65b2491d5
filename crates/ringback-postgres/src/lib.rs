//! The storage contract in PostgreSQL.
//!
//! One file per step or noun; here is which method of the contract is where. The SQL
//! is constant and run as it stands. Single statements are preferred: they commit by
//! themselves, so nobody can stop between two of them. What needs several runs in
//! `transaction`, the only place that begins one.
//!
//! Times come in from callers, by the database's clock; nothing here reads another.

mod connect;
mod failure;
mod lines;
mod migrations;
mod transaction;
mod usage;

mod accept;
mod apps;
mod attempts;
mod bounds;
mod cancel;
mod deliveries;
mod emitted;
mod event_types;
mod events;
mod health;
mod hints;
mod in_order;
mod kept;
mod keys;
mod labels;
mod lanes;
mod observe;
mod outbox;
mod park;
mod partitions;
mod replay;
mod requests;
mod retire;
mod routes;
mod rows;
mod secrets;
mod sending;
mod settle;
mod subscriptions;
mod system_events;
mod withdraw;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use ringback_model::{
    AppId, DeliveryId, EventId, KeyId, Lane, OrderKey, Quotas, Retention, SubscriptionId,
};
use ringback_store::{
    Accept, AcceptItem, AcceptOutcome, App, AppChange, AppRef, AppRoutes, Attempt, Backlog, Beat,
    BegunRequest, CancelOutcome, Changed, Connections, CreatedApp, DeadLetter, Delivery,
    DeliveryCursor, DeliveryFilter, DueRetry, EmittedId, EmittedPage, Event, EventFilter,
    HealthChange, Hint, Hints, History, IdempotencyKey, Key, Lanes, Maintain, NewApp, NewKey,
    NewSubscription, NodeLease, Observe, OrderHeads, Outbox, OutboxKey, Page, Payload, Registry,
    ReplayOutcome, RouteChanges, Sealed, SendingState, Settlement, StoreError, StoredBytes,
    StoredSecret, Subscription, SubscriptionChange, Usage, Within,
};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::sync::broadcast;

pub use connect::{ConnectError, PostgresOptions};
pub use migrations::MigrateError;

/// The store on a PostgreSQL server. Clones share its connections.
#[derive(Clone, Debug)]
pub struct PostgresStore(Arc<Inner>);

/// What all clones share.
#[derive(Debug)]
struct Inner {
    options: PgConnectOptions,
    pool: PgPool,
    /// For accepting alone.
    accept: Arc<lines::Lines>,
    /// For settling alone: here a commit does not wait for the disk.
    settle: Arc<lines::Lines>,
    event_types: event_types::EventTypes,
    retention: Retention,
    ended: kept::Ended,
    emitted: emitted::Reader,
    hints: hints::HintLine,
}

/// Connections for accepting, and for settling: more would only make batches smaller.
const LINES: usize = 2;

impl PostgresStore {
    /// Connects, and begins to listen for hints. The schema may still be missing.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], if the server cannot be reached within
    /// [`PostgresOptions::connect_timeout`], is too old, or would lose what it commits.
    pub async fn connect(options: PostgresOptions) -> Result<Self, ConnectError> {
        let connect = connect::connect_options(&options.url)?;
        connect::check_server(&connect, options.connect_timeout).await?;
        let pool = connect::pool(connect.clone(), options.max_connections);
        let relaxed = connect.clone().options([("synchronous_commit", "off")]);
        let hints = hints::HintLine::start(connect.clone(), pool.clone())
            .await
            .map_err(ConnectError::Unreachable)?;
        Ok(Self(Arc::new(Inner {
            accept: lines::Lines::new(connect.clone(), LINES),
            settle: lines::Lines::new(relaxed, LINES),
            emitted: emitted::Reader::new(connect.clone()),
            options: connect,
            pool,
            event_types: event_types::EventTypes::default(),
            retention: options.retention,
            ended: kept::Ended::default(),
            hints,
        })))
    }

    /// Brings the schema up to date; answers the names of what was applied.
    ///
    /// # Errors
    ///
    /// [`MigrateError`]; what was applied before stays.
    pub async fn migrate(&self) -> Result<Vec<String>, MigrateError> {
        migrations::migrate(&self.0.options).await
    }

    /// The names of what [`Self::migrate`] would apply.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Unavailable`] if the database does not answer.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, MigrateError> {
        migrations::pending(&self.0.pool).await
    }

    /// Waits for what is under way, and closes all connections. Every call after it
    /// fails.
    pub async fn close(&self) {
        self.0.hints.stop();
        self.0.accept.close().await;
        self.0.settle.close().await;
        self.0.emitted.close().await;
        self.0.pool.close().await;
    }
}

#[async_trait]
impl Accept for PostgresStore {
    async fn accept(
        &self,
        items: Vec<AcceptItem>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Result<AcceptOutcome, StoreError>>, StoreError> {
        accept::accept(&self.0, &items, now).await
    }

    async fn routes(&self, app: &AppRef) -> Result<Option<AppRoutes>, StoreError> {
        routes::all(&self.0.pool, app).await
    }

    async fn routes_since(
        &self,
        app: &AppRef,
        version: i64,
    ) -> Result<Option<RouteChanges>, StoreError> {
        routes::since(&self.0.pool, app, version).await
    }

    async fn emitted(
        &self,
        after: EmittedId,
        except: &[EmittedId],
        limit: u32,
    ) -> Result<EmittedPage, StoreError> {
        self.0.emitted.page(after, except, limit).await
    }

    async fn discard_emitted(&self, rows: &[EmittedId]) -> Result<Vec<EmittedId>, StoreError> {
        emitted::discard(&self.0.pool, rows).await
    }
}

#[async_trait]
impl Registry for PostgresStore {
    async fn create_app(&self, app: NewApp, now: DateTime<Utc>) -> Result<CreatedApp, StoreError> {
        apps::create(&self.0.pool, app, now).await
    }

    async fn app(&self, app: &AppRef) -> Result<Option<App>, StoreError> {
        apps::one(&self.0.pool, app).await
    }

    async fn apps(
        &self,
        within: Within,
        before: AppId,
        limit: u32,
    ) -> Result<Vec<App>, StoreError> {
        apps::list(&self.0.pool, within, before, limit).await
    }

    async fn update_app(
        &self,
        app: AppId,
        change: AppChange,
        expected: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<Changed<App>, StoreError> {
        apps::update(&self.0.pool, app, change, expected, now).await
    }

    async fn delete_app(&self, app: AppId, now: DateTime<Utc>) -> Result<bool, StoreError> {
        apps::delete(&self.0.pool, app, now).await
    }

    async fn create_subscription(
        &self,
        subscription: NewSubscription,
        now: DateTime<Utc>,
    ) -> Result<Option<Subscription>, StoreError> {
        subscriptions::create(&self.0.pool, subscription, now).await
    }

    async fn subscription(
        &self,
        id: SubscriptionId,
        within: Within,
    ) -> Result<Option<Subscription>, StoreError> {
        subscriptions::one(&self.0.pool, id, within).await
    }

    async fn subscriptions(
        &self,
        app: AppId,
        before: SubscriptionId,
        limit: u32,
    ) -> Result<Vec<Subscription>, StoreError> {
        subscriptions::list(&self.0.pool, app, before, limit).await
    }

    async fn update_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        change: SubscriptionChange,
        expected: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Changed<Subscription>, StoreError> {
        subscriptions::update(&self.0.pool, id, within, change, expected, now).await
    }

    async fn pause_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<Option<Subscription>, StoreError> {
        subscriptions::pause(&self.0.pool, id, within, now).await
    }

    async fn resume_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<Option<Subscription>, StoreError> {
        subscriptions::resume(&self.0.pool, id, within, now).await
    }

    async fn delete_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        subscriptions::delete(&self.0.pool, id, within, now).await
    }

    async fn secrets(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<StoredSecret>>, StoreError> {
        secrets::live(&self.0.pool, id, within, now).await
    }

    async fn rotate_secret(
        &self,
        id: SubscriptionId,
        within: Within,
        secret: Sealed,
        previous_expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        secrets::rotate(&self.0.pool, id, within, secret, previous_expires_at, now).await
    }

    async fn create_key(&self, key: NewKey, now: DateTime<Utc>) -> Result<Key, StoreError> {
        keys::create(&self.0.pool, key, now).await
    }

    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<Key>, StoreError> {
        keys::by_hash(&self.0.pool, hash).await
    }

    async fn keys(
        &self,
        within: Within,
        before: KeyId,
        limit: u32,
    ) -> Result<Vec<Key>, StoreError> {
        keys::list(&self.0.pool, within, before, limit).await
    }

    async fn revoke_key(
        &self,
        id: KeyId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        keys::revoke(&self.0.pool, id, within, now).await
    }

    async fn begin_request(
        &self,
        key: IdempotencyKey,
        now: DateTime<Utc>,
    ) -> Result<BegunRequest, StoreError> {
        requests::begin(&self.0.pool, key, now).await
    }

    async fn finish_request(
        &self,
        key: IdempotencyKey,
        answer: Option<Sealed>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        requests::finish(&self.0.pool, key, answer, now).await
    }
}

#[async_trait]
impl History for PostgresStore {
    async fn event(&self, id: EventId, within: Within) -> Result<Option<Event>, StoreError> {
        events::one(&self.0.pool, id, within).await
    }

    async fn events(
        &self,
        filter: &EventFilter,
        before: EventId,
        limit: u32,
    ) -> Result<Page<Event, EventId>, StoreError> {
        events::list(&self.0.pool, filter, before, limit).await
    }

    async fn delivery(
        &self,
        id: DeliveryId,
        within: Within,
    ) -> Result<Option<Delivery>, StoreError> {
        Ok(deliveries::find(&self.0.pool, id, within)
            .await?
            .map(|found| found.delivery))
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        before: DeliveryCursor,
        limit: u32,
    ) -> Result<Page<Delivery, DeliveryCursor>, StoreError> {
        deliveries::list(&self.0.pool, filter, before, limit).await
    }

    async fn attempts(
        &self,
        id: DeliveryId,
        within: Within,
    ) -> Result<Option<Vec<Attempt>>, StoreError> {
        attempts::of_delivery(&self.0.pool, id, within).await
    }

    async fn replay(
        &self,
        id: DeliveryId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<ReplayOutcome, StoreError> {
        replay::replay(&self.0, id, within, now).await
    }

    async fn cancel(
        &self,
        id: DeliveryId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<CancelOutcome, StoreError> {
        cancel::cancel(&self.0.pool, id, within, now).await
    }
}

#[async_trait]
impl Outbox for PostgresStore {
    async fn read(
        &self,
        cursors: &[(Lane, EventId)],
        limit: u32,
    ) -> Result<Vec<OutboxKey>, StoreError> {
        outbox::read(&self.0.pool, cursors, limit).await
    }

    async fn payloads(&self, events: &[EventId]) -> Result<Vec<Payload>, StoreError> {
        outbox::payloads(&self.0.pool, events).await
    }

    async fn waiting(
        &self,
        lanes: &[Lane],
    ) -> Result<Vec<(Lane, SubscriptionId, DateTime<Utc>)>, StoreError> {
        outbox::waiting(&self.0.pool, lanes).await
    }

    async fn due_after(
        &self,
        subscriptions: &[(Lane, SubscriptionId, DateTime<Utc>)],
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueRetry>, StoreError> {
        outbox::due_after(&self.0.pool, subscriptions, until, limit).await
    }

    async fn due_unordered(
        &self,
        subscriptions: &[(Lane, SubscriptionId)],
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueRetry>, StoreError> {
        in_order::due_unordered(&self.0.pool, subscriptions, now, until, limit).await
    }

    async fn order_heads(
        &self,
        subscription: SubscriptionId,
        after: Option<OrderKey>,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<OrderHeads, StoreError> {
        in_order::order_heads(&self.0.pool, subscription, after, now, limit).await
    }

    async fn in_order(
        &self,
        keys: &[(SubscriptionId, OrderKey)],
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueRetry>, StoreError> {
        in_order::in_order(&self.0.pool, keys, now, limit).await
    }

    async fn sending_states(
        &self,
        subscriptions: &[SubscriptionId],
        now: DateTime<Utc>,
    ) -> Result<Vec<SendingState>, StoreError> {
        sending::states(&self.0.pool, subscriptions, now).await
    }

    async fn changed_since(&self, since: DateTime<Utc>) -> Result<Vec<SubscriptionId>, StoreError> {
        sending::changed_since(&self.0.pool, since).await
    }

    async fn settle(
        &self,
        lease: &NodeLease,
        settlements: &[Settlement],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        settle::settle(&self.0, lease, settlements, now).await
    }

    async fn park(
        &self,
        lease: &NodeLease,
        keys: &[OutboxKey],
        due_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        park::park(&self.0, lease, keys, due_at).await
    }

    async fn record_health(
        &self,
        lease: &NodeLease,
        changes: &[HealthChange],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        health::record(&self.0.pool, lease, changes, now).await
    }

    async fn disable_subscription(
        &self,
        id: SubscriptionId,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        subscriptions::disable(&self.0.pool, id, reason, now).await
    }

    async fn report_dead(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        system_events::report_dead(&self.0.pool, letters).await
    }
}

#[async_trait]
impl Lanes for PostgresStore {
    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        lanes::now(&self.0.pool).await
    }

    async fn join(
        &self,
        name: &str,
        dispatching: bool,
        now: DateTime<Utc>,
    ) -> Result<Option<NodeLease>, StoreError> {
        lanes::join(&self.0.pool, name, dispatching, now).await
    }

    async fn beat(
        &self,
        lease: &NodeLease,
        now: DateTime<Utc>,
    ) -> Result<Option<Beat>, StoreError> {
        lanes::beat(&self.0.pool, lease, now).await
    }

    async fn take(
        &self,
        lease: &NodeLease,
        lanes: &[Lane],
        now: DateTime<Utc>,
    ) -> Result<Vec<Lane>, StoreError> {
        lanes::take(&self.0.pool, lease, lanes, now).await
    }

    async fn release(&self, lease: &NodeLease, lanes: &[Lane]) -> Result<(), StoreError> {
        lanes::release(&self.0.pool, lease, lanes).await
    }

    async fn leave(&self, lease: &NodeLease, now: DateTime<Utc>) -> Result<(), StoreError> {
        // Another may read what is emitted, too.
        self.0.emitted.close().await;
        lanes::leave(&self.0.pool, lease, now).await
    }
}

impl Hints for PostgresStore {
    fn hint(&self, hint: Hint) {
        self.0.hints.hint(hint);
    }

    fn listen(&self) -> broadcast::Receiver<Hint> {
        self.0.hints.listen()
    }
}

#[async_trait]
impl Maintain for PostgresStore {
    async fn tend(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        partitions::tend(&self.0.pool, now).await
    }

    async fn end_days(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        kept::forget(&self.0.pool, self.0.retention, now).await?;
        // Last: it may have to wait for others.
        retire::end_days(&self.0, now).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1")
            .execute(&self.0.pool)
            .await
            .map_err(failure::failed)?;
        Ok(())
    }
}

#[async_trait]
impl Observe for PostgresStore {
    async fn backlog(&self, now: DateTime<Utc>) -> Result<Backlog, StoreError> {
        observe::backlog(&self.0.pool, now).await
    }

    fn connections(&self) -> Connections {
        observe::connections(&self.0.pool)
    }
}

#[async_trait]
impl Usage for PostgresStore {
    async fn quotas(&self, apps: &[AppId]) -> Result<Vec<(AppId, Quotas)>, StoreError> {
        usage::quotas(&self.0.pool, apps).await
    }

    async fn pending_deliveries(&self, app: AppId, up_to: u64) -> Result<u64, StoreError> {
        usage::pending_deliveries(&self.0.pool, app, up_to).await
    }

    async fn stored_bytes(&self, app: AppId, since: NaiveDate) -> Result<u64, StoreError> {
        usage::stored_bytes(&self.0.pool, app, since).await
    }

    async fn add_stored_bytes(&self, added: &[StoredBytes]) -> Result<(), StoreError> {
        usage::add_stored_bytes(&self.0.pool, added).await
    }

    async fn came_before(
        &self,
        item: &AcceptItem,
        now: DateTime<Utc>,
    ) -> Result<Option<AcceptOutcome>, StoreError> {
        accept::came_before(&self.0.pool, item, now).await
    }
}
