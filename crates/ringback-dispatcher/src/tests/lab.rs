//! Nodes on one SQLite store, a clock that is moved by hand, and receivers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{
    AppId, DeliveryId, DeliveryStatus, EventId, IdGenerator, Lane, NodeId, OrderKey, Ordering,
    RetrySpec, SubscriptionId,
};
use ringback_sqlite::{SqliteOptions, SqliteStore};
use ringback_store::{
    Accept, AcceptItem, AcceptOutcome, AppRef, Attempt, Clock, CreatedApp, Delivery, HandOver,
    Hint, Hints, History, Membership, NewApp, NewDelivery, NewEvent, NewSubscription, OutboxKey,
    Payload, Registry, SubscriptionConfig, SubscriptionKind, Within, handover,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    Dispatcher, DispatcherConfig,
    calls::Database,
    sending::tests::{SECRET, vault},
    tests::{receiver::Receiver, store::WatchedStore},
};

/// What a test that hangs is given, in real time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How far the clock is moved when nothing happens by itself.
const TICK: Duration = Duration::from_millis(5);

pub(crate) struct Lab {
    pub(crate) store: Arc<WatchedStore>,
    pub(crate) clock: Clock,
    pub(crate) receiver: Receiver,
    pub(crate) app: AppId,
    ids: IdGenerator,
    _folder: TempDir,
}

pub(crate) struct Node {
    pub(crate) membership: Arc<Membership>,
    pub(crate) hand_over: HandOver,
    shutdown: CancellationToken,
    run: JoinHandle<()>,
}

pub(crate) fn start() -> DateTime<Utc> {
    "2026-01-05T09:00:00Z".parse().unwrap()
}

pub(crate) fn retry(json: &str) -> RetrySpec {
    serde_json::from_str(json).unwrap()
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            path: folder.path().join("ringback.db"),
            ..SqliteOptions::default()
        };
        let inner = SqliteStore::open(options).await.unwrap();
        inner.migrate().await.unwrap();
        let clock = Clock::manual(start());
        let store = Arc::new(WatchedStore::new(inner));
        let receiver = Receiver::new(clock.clone(), Arc::clone(&store));
        let ids = IdGenerator::new(NodeId::new(1000).unwrap());
        let app = AppId::new(ids.next(start()));
        let new = NewApp {
            id: app,
            slug: "billing".parse().unwrap(),
            name: "Billing".to_owned(),
            metadata: BTreeMap::new(),
            quotas: Default::default(),
        };
        let created = store.inner.create_app(new, start()).await.unwrap();
        assert!(matches!(created, CreatedApp::Created(_)));
        Self {
            store,
            clock,
            receiver,
            app,
            ids,
            _folder: folder,
        }
    }

    /// Starts a node and waits until it has its lanes.
    pub(crate) async fn node(&self, name: &str, config: DispatcherConfig) -> Node {
        let node = self.late_node(name, config).await;
        node.beat(self).await;
        self.until("lanes taken", || {
            Lane::all().any(|lane| node.hand_over.owns(lane))
        })
        .await;
        node
    }

    /// Starts a node.
    pub(crate) async fn late_node(&self, name: &str, config: DispatcherConfig) -> Node {
        let (dispatcher, membership, hand_over) = self.dispatcher(name, config).await;
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(dispatcher.run(shutdown.clone()));
        Node {
            membership,
            hand_over,
            shutdown,
            run,
        }
    }

    /// Makes a node that does not run by itself.
    pub(crate) async fn dispatcher(
        &self,
        name: &str,
        config: DispatcherConfig,
    ) -> (Dispatcher<Receiver>, Arc<Membership>, HandOver) {
        let clock = self.clock.clone();
        let membership = Membership::join(&*self.store, name, true, clock)
            .await
            .unwrap();
        let membership = Arc::new(membership);
        let (hand_over, handed_over) = handover(1000);
        let database = Database {
            outbox: self.store.clone(),
            lanes: self.store.clone(),
            hints: self.store.clone(),
        };
        let dispatcher = Dispatcher::over(
            database,
            Arc::new(vault()),
            Arc::clone(&membership),
            handed_over,
            self.receiver.clone(),
            config,
        );
        (dispatcher, membership, hand_over)
    }

    pub(crate) async fn subscribe(
        &self,
        path: &str,
        max_in_flight: u16,
        retry: RetrySpec,
    ) -> SubscriptionId {
        self.subscribe_with(path, max_in_flight, retry, None).await
    }

    pub(crate) async fn subscribe_with(
        &self,
        path: &str,
        max_in_flight: u16,
        retry: RetrySpec,
        rate_per_s: Option<f64>,
    ) -> SubscriptionId {
        self.subscribe_as(path, max_in_flight, retry, rate_per_s, Ordering::None)
            .await
    }

    pub(crate) async fn subscribe_as(
        &self,
        path: &str,
        max_in_flight: u16,
        retry: RetrySpec,
        rate_per_s: Option<f64>,
        ordering: Ordering,
    ) -> SubscriptionId {
        let id = SubscriptionId::new(self.ids.next(self.clock.now()));
        let config = SubscriptionConfig {
            url: format!("https://r.example{path}"),
            event_types: vec!["*".parse().unwrap()],
            payload_filter: None,
            headers: None,
            retry,
            timeout_ms: 15_000,
            max_in_flight,
            rate_per_s,
            ordering,
            description: String::new(),
            labels: BTreeMap::new(),
        };
        let secret = vault().seal(&format!("secret:{id}"), SECRET.as_bytes());
        let kind = SubscriptionKind::Standard;
        let new = NewSubscription {
            id,
            app: self.app,
            kind,
            config,
            secret,
        };
        self.store
            .inner
            .create_subscription(new, self.clock.now())
            .await
            .unwrap()
            .unwrap();
        id
    }

    /// Accepts an event; what is handed over is up to the caller.
    pub(crate) async fn accept(&self) -> (Payload, Vec<OutboxKey>) {
        self.accept_with(None, None).await
    }

    /// Accepts an event with an ordering key, not to be sent before a time.
    pub(crate) async fn accept_with(
        &self,
        ordering_key: Option<&str>,
        deliver_at: Option<DateTime<Utc>>,
    ) -> (Payload, Vec<OutboxKey>) {
        let now = self.clock.now();
        let routes = self
            .store
            .inner
            .routes(&AppRef::Id(self.app))
            .await
            .unwrap()
            .unwrap();
        let deliveries = routes.routes.iter().map(|route| NewDelivery {
            subscription: route.subscription,
            lane: route.lane,
            order: OrderKey::of(route.ordering, ordering_key),
            held: route.held,
        });
        let event = NewEvent {
            id: EventId::new(self.ids.next(now)),
            app: self.app,
            app_version: routes.version,
            event_type: "order.paid".parse().unwrap(),
            data: Bytes::from_static(br#"{"total": 1.10}"#),
            labels: BTreeMap::new(),
            traceparent: None,
            ordering_key: ordering_key.map(str::to_owned),
            deliver_at,
            external: None,
            deliveries: deliveries.collect(),
        };
        let keys = event.deliveries.iter().filter(|delivery| !delivery.held);
        let keys = keys.map(|delivery| OutboxKey {
            lane: delivery.lane,
            delivery: DeliveryId {
                event: event.id,
                subscription: delivery.subscription,
            },
            order: delivery.order,
        });
        let payload = Payload {
            event: event.id,
            app: event.app,
            event_type: event.event_type.clone(),
            data: event.data.clone(),
            traceparent: None,
        };
        let keys = keys.collect();
        let item = AcceptItem {
            events: vec![event],
            idempotency: None,
            emitted: None,
        };
        let outcomes = self.store.inner.accept(vec![item], now).await.unwrap();
        assert!(
            matches!(outcomes[0], Ok(AcceptOutcome::Accepted(_))),
            "{outcomes:?}"
        );
        (payload, keys)
    }

    /// Accepts an event on a node, as the API does.
    pub(crate) async fn emit(&self, node: &Node) -> EventId {
        let ticket = node.hand_over.ticket(EventId::floor(self.clock.now()));
        let (payload, keys) = self.accept().await;
        let event = payload.event;
        let (ours, others): (Vec<_>, Vec<_>) = keys
            .into_iter()
            .partition(|key| node.hand_over.owns(key.lane));
        node.hand_over.offer(payload, ours);
        drop(ticket);
        others
            .iter()
            .for_each(|key| self.store.hint(Hint::Lane(key.lane)));
        event
    }

    /// Accepts an event that nobody is told of.
    pub(crate) async fn emit_silently(&self) -> EventId {
        self.accept().await.0.event
    }

    pub(crate) async fn delivery(&self, event: EventId, subscription: SubscriptionId) -> Delivery {
        let id = DeliveryId {
            event,
            subscription,
        };
        let found = self
            .store
            .inner
            .delivery(id, Within::Everything)
            .await
            .unwrap();
        found.unwrap_or_else(|| panic!("there is no {id}"))
    }

    pub(crate) async fn status(
        &self,
        event: EventId,
        subscription: SubscriptionId,
    ) -> DeliveryStatus {
        self.delivery(event, subscription).await.status
    }

    pub(crate) async fn attempts(
        &self,
        event: EventId,
        subscription: SubscriptionId,
    ) -> Vec<Attempt> {
        let id = DeliveryId {
            event,
            subscription,
        };
        self.store
            .inner
            .attempts(id, Within::Everything)
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until a delivery has a status, while time stands still.
    pub(crate) async fn until_status(
        &self,
        event: EventId,
        subscription: SubscriptionId,
        status: DeliveryStatus,
    ) {
        let mut activity = self.store.activity.subscribe();
        let reached = async {
            while self.status(event, subscription).await != status {
                activity.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, reached).await;
        assert!(waited.is_ok(), "not {status} within {PATIENCE:?}");
    }

    /// Waits until a delivery has so many finished attempts, while time stands still.
    pub(crate) async fn until_attempts(
        &self,
        event: EventId,
        subscription: SubscriptionId,
        attempts: u16,
    ) {
        let mut activity = self.store.activity.subscribe();
        let reached = async {
            while self.delivery(event, subscription).await.attempts < attempts {
                activity.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, reached).await;
        assert!(
            waited.is_ok(),
            "not {attempts} attempts within {PATIENCE:?}"
        );
    }

    /// Waits until something is so, while time stands still.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let mut activity = self.store.activity.subscribe();
        let reached = async {
            while !is_so() {
                activity.changed().await.unwrap();
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, reached).await.is_ok(),
            "never: {what}"
        );
    }

    /// Waits until something is so; whenever nothing happens by itself, time goes on.
    pub(crate) async fn until_in_time(
        &self,
        what: &str,
        nodes: &[&Node],
        is_so: impl AsyncFn() -> bool,
    ) {
        let mut activity = self.store.activity.subscribe();
        let reached = async {
            while !is_so().await {
                if self.is_calm(&mut activity).await {
                    self.tick(TICK, nodes).await;
                }
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, reached).await.is_ok(),
            "never: {what}"
        );
    }

    /// Waits until something is so. Whenever nothing happens by itself, time goes on: in
    /// small steps after a request, and in larger ones the longer none comes.
    pub(crate) async fn in_time(&self, what: &str, nodes: &[&Node], is_so: impl AsyncFn() -> bool) {
        self.in_time_before(what, nodes, DateTime::<Utc>::MAX_UTC, is_so)
            .await;
    }

    /// Lets time pass until then, as [`Self::in_time`] does.
    pub(crate) async fn in_time_until(&self, time: DateTime<Utc>, nodes: &[&Node]) {
        let is_then = async || self.clock.now() >= time;
        self.in_time_before("that time", nodes, time, is_then).await;
        // What is to happen then does.
        self.rest(nodes[0]).await;
    }

    async fn in_time_before(
        &self,
        what: &str,
        nodes: &[&Node],
        latest: DateTime<Utc>,
        is_so: impl AsyncFn() -> bool,
    ) {
        let mut activity = self.store.activity.subscribe();
        let mut last = (self.receiver.count(), self.clock.now());
        let reached = async {
            while !is_so().await {
                if !self.is_calm(&mut activity).await {
                    continue;
                }
                let (count, now) = (self.receiver.count(), self.clock.now());
                if count != last.0 {
                    last = (count, now);
                }
                let step = ((now - last.1) / 8).max(TimeDelta::milliseconds(5));
                let step = step.min(latest - now).to_std().unwrap_or_default();
                self.tick(step, nodes).await;
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, reached).await.is_ok(),
            "never: {what}"
        );
    }

    /// Whether nothing is under way; else waits for what is.
    async fn is_calm(&self, activity: &mut tokio::sync::watch::Receiver<u64>) -> bool {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        if activity.has_changed().unwrap() {
            activity.mark_unchanged();
            return false;
        }
        if self.store.under_way() > 0 {
            activity.changed().await.unwrap();
            return false;
        }
        true
    }

    /// Lets time pass. Leases are renewed when they have to be.
    pub(crate) async fn tick(&self, by: Duration, nodes: &[&Node]) {
        let before = self.clock.now();
        self.clock.advance(by);
        let beat_at = |time: DateTime<Utc>| time.timestamp_millis() / 2500;
        if beat_at(before) != beat_at(self.clock.now()) {
            for node in nodes {
                node.beat(self).await;
            }
        }
    }

    /// Moves the clock to a time; leases are renewed.
    pub(crate) async fn go_to(&self, time: DateTime<Utc>, nodes: &[&Node]) {
        let by = (time - self.clock.now()).max(TimeDelta::zero());
        self.clock.advance(by.to_std().unwrap());
        for node in nodes {
            node.beat(self).await;
        }
    }

    /// Waits until every node has gone round a few times, while time stands still: what
    /// was to happen now has happened.
    pub(crate) async fn rest(&self, node: &Node) {
        let lane = Lane::all().find(|lane| node.hand_over.owns(*lane)).unwrap();
        for _ in 0..4 {
            let reads = self.store.count("read");
            self.store.hint(Hint::Lane(lane));
            let idle = || self.store.count("read") > reads && self.store.under_way() == 0;
            self.until("a round", idle).await;
        }
    }

    /// Whether nothing is in the outbox, and nothing retried.
    pub(crate) async fn is_settled(&self, events: &[EventId], to: &[SubscriptionId]) -> bool {
        for event in events {
            for subscription in to {
                let status = self.status(*event, *subscription).await;
                if matches!(status, DeliveryStatus::Pending | DeliveryStatus::Retrying) {
                    return false;
                }
            }
        }
        true
    }
}

impl Node {
    pub(crate) async fn beat(&self, lab: &Lab) {
        self.membership.beat(&*lab.store).await.unwrap();
    }

    pub(crate) fn owned(&self) -> usize {
        Lane::all()
            .filter(|lane| self.hand_over.owns(*lane))
            .count()
    }

    /// Begins a graceful stop.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Stops gracefully.
    pub(crate) async fn stopped(self, lab: &Lab) {
        self.shutdown.cancel();
        lab.until_in_time("a stop", &[], async || self.run.is_finished())
            .await;
        self.run.await.unwrap();
    }

    /// Dies without a word.
    pub(crate) async fn vanish(self) {
        self.run.abort();
        assert!(self.run.await.unwrap_err().is_cancelled());
    }
}
