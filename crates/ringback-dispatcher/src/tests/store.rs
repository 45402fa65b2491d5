//! A store that can be watched, hindered and made to fail.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_model::{EventId, Lane, SubscriptionId};
use ringback_sqlite::SqliteStore;
use ringback_store::{
    Beat, DueRetry, HealthChange, Hint, Hints, Lanes, NodeLease, Outbox, OutboxKey, Payload,
    SendingState, Settlement, StoreError,
};
use tokio::sync::{broadcast, watch};

/// What is asked of the store, by name.
type Call = &'static str;

pub(crate) struct WatchedStore {
    pub(crate) inner: SqliteStore,
    /// Rises whenever anything happens.
    pub(crate) activity: watch::Sender<u64>,
    under_way: AtomicUsize,
    counts: Mutex<BTreeMap<Call, usize>>,
    /// Calls of these names fail, before or after they had their effect.
    failing: Mutex<Vec<(Call, Fails)>>,
    /// Replies to calls of this name are held back, after they had their effect.
    held: watch::Sender<Option<Call>>,
    holding: AtomicUsize,
    /// No event is kept any more.
    pub(crate) forgetful: AtomicBool,
    /// Replies arrive in any order.
    pub(crate) jumbled: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fails {
    Before,
    After,
}

impl WatchedStore {
    pub(crate) fn new(inner: SqliteStore) -> Self {
        Self {
            inner,
            activity: watch::Sender::new(0),
            under_way: AtomicUsize::new(0),
            counts: Mutex::default(),
            failing: Mutex::default(),
            held: watch::Sender::new(None),
            holding: AtomicUsize::new(0),
            forgetful: AtomicBool::new(false),
            jumbled: AtomicBool::new(false),
        }
    }

    pub(crate) fn fail(&self, call: Call, fails: Fails) {
        self.failing.lock().unwrap().push((call, fails));
    }

    pub(crate) fn mend(&self) {
        self.failing.lock().unwrap().clear();
    }

    pub(crate) fn hold(&self, call: Option<Call>) {
        self.held.send_replace(call);
    }

    /// Whether a reply is being held back.
    pub(crate) fn is_holding(&self) -> bool {
        self.held_back() > 0
    }

    /// How many replies are being held back.
    pub(crate) fn held_back(&self) -> usize {
        self.holding.load(Ordering::SeqCst)
    }

    pub(crate) fn count(&self, call: Call) -> usize {
        self.counts
            .lock()
            .unwrap()
            .get(call)
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn total(&self) -> usize {
        self.counts.lock().unwrap().values().sum()
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    pub(crate) fn bump(&self) {
        self.activity.send_modify(|count| *count += 1);
    }

    async fn watch<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let answer = self.hinder(call, work).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        *self.counts.lock().unwrap().entry(call).or_default() += 1;
        self.bump();
        answer
    }

    async fn hinder<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fails = |when| self.failing.lock().unwrap().contains(&(call, when));
        let failure = || StoreError::unavailable(io::Error::other("hindered"));
        if fails(Fails::Before) {
            return Err(failure());
        }
        let answer = work.await;
        if self.jumbled.load(Ordering::Relaxed) {
            for _ in 0..rand::random_range(0..50) {
                tokio::task::yield_now().await;
            }
        }
        if *self.held.borrow() == Some(call) {
            self.holding.fetch_add(1, Ordering::SeqCst);
            self.bump();
            let _ = self
                .held
                .subscribe()
                .wait_for(|held| *held != Some(call))
                .await;
            self.holding.fetch_sub(1, Ordering::SeqCst);
        }
        if fails(Fails::After) {
            Err(failure())
        } else {
            answer
        }
    }
}

#[async_trait]
impl Outbox for WatchedStore {
    async fn read(
        &self,
        cursors: &[(Lane, EventId)],
        limit: u32,
    ) -> Result<Vec<OutboxKey>, StoreError> {
        self.watch("read", self.inner.read(cursors, limit)).await
    }

    async fn payloads(&self, events: &[EventId]) -> Result<Vec<Payload>, StoreError> {
        let mut found = self.watch("payloads", self.inner.payloads(events)).await?;
        if self.forgetful.load(Ordering::Relaxed) {
            found.clear();
        }
        Ok(found)
    }

    async fn waiting(
        &self,
        lanes: &[Lane],
    ) -> Result<Vec<(Lane, SubscriptionId, DateTime<Utc>)>, StoreError> {
        self.watch("waiting", self.inner.waiting(lanes)).await
    }

    async fn due_after(
        &self,
        subscriptions: &[(Lane, SubscriptionId, DateTime<Utc>)],
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueRetry>, StoreError> {
        self.watch("due", self.inner.due_after(subscriptions, until, limit))
            .await
    }

    async fn sending_states(
        &self,
        subscriptions: &[SubscriptionId],
        now: DateTime<Utc>,
    ) -> Result<Vec<SendingState>, StoreError> {
        self.watch(
            "sending_states",
            self.inner.sending_states(subscriptions, now),
        )
        .await
    }

    async fn changed_since(&self, since: DateTime<Utc>) -> Result<Vec<SubscriptionId>, StoreError> {
        self.watch("changed_since", self.inner.changed_since(since))
            .await
    }

    async fn settle(
        &self,
        lease: &NodeLease,
        settlements: &[Settlement],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.watch("settle", self.inner.settle(lease, settlements, now))
            .await
    }

    async fn park(
        &self,
        lease: &NodeLease,
        keys: &[OutboxKey],
        due_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.watch("park", self.inner.park(lease, keys, due_at))
            .await
    }

    async fn record_health(
        &self,
        lease: &NodeLease,
        changes: &[HealthChange],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.watch("record", self.inner.record_health(lease, changes, now))
            .await
    }

    async fn disable_subscription(
        &self,
        id: SubscriptionId,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.watch("disable", self.inner.disable_subscription(id, reason, now))
            .await
    }
}

#[async_trait]
impl Lanes for WatchedStore {
    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.inner.now().await
    }

    async fn join(
        &self,
        name: &str,
        dispatching: bool,
        now: DateTime<Utc>,
    ) -> Result<Option<NodeLease>, StoreError> {
        self.inner.join(name, dispatching, now).await
    }

    async fn beat(
        &self,
        lease: &NodeLease,
        now: DateTime<Utc>,
    ) -> Result<Option<Beat>, StoreError> {
        self.inner.beat(lease, now).await
    }

    async fn take(
        &self,
        lease: &NodeLease,
        lanes: &[Lane],
        now: DateTime<Utc>,
    ) -> Result<Vec<Lane>, StoreError> {
        self.watch("take", self.inner.take(lease, lanes, now)).await
    }

    async fn release(&self, lease: &NodeLease, lanes: &[Lane]) -> Result<(), StoreError> {
        self.watch("release", self.inner.release(lease, lanes))
            .await
    }

    async fn leave(&self, lease: &NodeLease, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.inner.leave(lease, now).await
    }
}

impl Hints for WatchedStore {
    fn hint(&self, hint: Hint) {
        self.inner.hint(hint);
    }

    fn listen(&self) -> broadcast::Receiver<Hint> {
        self.inner.listen()
    }
}
