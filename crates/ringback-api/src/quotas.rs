//! How much one application may bring in.
//!
//! Judged from memory, so that it costs the way of an event no statement: only the first
//! event of an application in ten minutes waits until its quotas are read. Every five
//! seconds the applications that brought something in are read again, and what was
//! accepted is added to the sums that all nodes share.
//!
//! - Events per second: a [`bucket::Bucket`] per application, on each node.
//! - Pending deliveries and stored bytes: what was read, and what this node has accepted
//!   since. It lets through what comes while there is less than the limit; so there may
//!   be more by one request, and by what other nodes accept within five seconds.
//!
//! A process that is killed forgets what it had not added yet: five seconds of bytes.
//!
//! What is on disk already is never refused for want of room: see [`Keeper::came_before`].

mod bucket;
mod ledger;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use ringback_metrics::{Metrics, RefusedBecause, Statement};
use ringback_model::{AppId, Quota, Quotas, Retention};
use ringback_store::{AcceptItem, AcceptOutcome, Clock, StoreError, Usage};
use tokio::sync::Notify;

use self::ledger::{Demand, Figures, Ledger, Wanted};

/// How often everything is read anew, and bytes are added,
const EVERY: TimeDelta = TimeDelta::seconds(5);
/// or after so many times as long as that took: it must not become a load of its own.
const ROUND_REST: i32 = 4;
/// How soon what is near its quota is read again,
const SOONEST: TimeDelta = TimeDelta::milliseconds(200);
/// or after so many times as long as that took.
const SOON_REST: i32 = 20;
/// No reading is taken to have lasted longer.
const LONGEST: TimeDelta = TimeDelta::seconds(15);
/// When something may have been delivered.
const PENDING_AGAIN: Duration = Duration::from_secs(5);
/// Only the end of a day, or another quota, makes room.
const BYTES_AGAIN: Duration = Duration::from_secs(3600);

/// Keeps the quotas of one process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keeper(Arc<Inner>);

struct Inner {
    ledger: Mutex<Ledger>,
    usage: Arc<dyn Usage>,
    clock: Clock,
    metrics: Arc<Metrics>,
    retention: Retention,
    /// Whose turn it is to read what is not known.
    turn: tokio::sync::Mutex<()>,
    /// Something should be read before its time.
    wake: Arc<Notify>,
}

/// Why a request is over a quota.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The first event in the item of the application whose quota it is.
    pub(crate) index: usize,
    pub(crate) quota: Quota,
    /// Limit and present value, in words.
    pub(crate) detail: String,
    /// When asking again may do better.
    pub(crate) retry_after: Duration,
}

/// Why a request is not let through.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    Refused(Refusal),
    /// What is needed to judge could not be read.
    Failed(StoreError),
}

/// What is set aside for a request, until it is dropped.
pub(crate) struct Admission {
    keeper: Keeper,
    demands: BTreeMap<AppId, Demand>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.keeper.ledger().release(&self.demands);
    }
}

impl Refusal {
    fn of_rate(index: usize, limit: f64, level: f64, retry_after: Duration) -> Self {
        let left = level.max(0.0).floor();
        Self {
            index,
            quota: Quota::EventsPerS,
            detail: format!("may bring in {limit} events per second: {left} more may come now"),
            retry_after,
        }
    }

    fn of_count(index: usize, quota: Quota, limit: u64, present: u64) -> Self {
        let (what, retry_after) = match quota {
            Quota::StoredBytes => ("bytes kept", BYTES_AGAIN),
            Quota::PendingDeliveries | Quota::EventsPerS => ("deliveries pending", PENDING_AGAIN),
        };
        Self {
            index,
            quota,
            detail: format!("may have {limit} {what}: there are {present}"),
            retry_after,
        }
    }

    /// For the metrics.
    pub(crate) fn because(&self) -> RefusedBecause {
        match self.quota {
            Quota::EventsPerS => RefusedBecause::QuotaEventsPerS,
            Quota::PendingDeliveries => RefusedBecause::QuotaPendingDeliveries,
            Quota::StoredBytes => RefusedBecause::QuotaStoredBytes,
        }
    }
}

impl Keeper {
    /// Starts the task that reads and adds; it ends when the last handle is dropped.
    ///
    /// - `defaults`: for applications that have no quotas of their own.
    /// - `retention`: how long events are kept.
    pub(crate) fn start(
        usage: Arc<dyn Usage>,
        clock: Clock,
        metrics: Arc<Metrics>,
        defaults: Quotas,
        retention: Retention,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let inner = Arc::new(Inner {
            ledger: Mutex::new(Ledger::new(defaults)),
            usage,
            clock: clock.clone(),
            metrics,
            retention,
            turn: tokio::sync::Mutex::default(),
            wake: Arc::clone(&wake),
        });
        tokio::spawn(run(Arc::downgrade(&inner), clock, wake));
        Self(inner)
    }

    /// Lets an item through, or not. What is let through is to be accepted while the
    /// admission is held.
    ///
    /// - `pays`: whether it counts for the rate: not when it is tried again on our own
    ///   account.
    pub(crate) async fn admit(
        &self,
        item: &AcceptItem,
        pays: bool,
    ) -> Result<Admission, NotAdmitted> {
        let demands = ledger::demands(item);
        if !self.unknown(&demands).is_empty() {
            self.learn(&demands).await.map_err(NotAdmitted::Failed)?;
        }
        let now = self.0.clock.now();
        let admitted = {
            let mut ledger = self.ledger();
            let paid = if pays {
                ledger.pay(&demands, now)
            } else {
                Ok(())
            };
            paid.and_then(|()| ledger.reserve(&demands, now))
        };
        match admitted {
            Ok(soon) => {
                if soon {
                    self.0.wake.notify_one();
                }
                Ok(Admission {
                    keeper: self.clone(),
                    demands,
                })
            }
            Err(refusal) => Err(NotAdmitted::Refused(refusal)),
        }
    }

    /// What an item that was refused for want of room is answered because it is on disk
    /// already: a producer that did not hear the answer must not be refused for ever.
    pub(crate) async fn came_before(
        &self,
        item: &AcceptItem,
        refusal: &Refusal,
    ) -> Result<Option<AcceptOutcome>, StoreError> {
        if refusal.quota == Quota::EventsPerS {
            // Its time will come. And whoever asks too often must not cause reading.
            return Ok(None);
        }
        self.0.usage.came_before(item, self.0.clock.now()).await
    }

    /// Counts an event that is on disk, whoever brought it in.
    pub(crate) fn accepted(&self, app: AppId, at: DateTime<Utc>, deliveries: u32, bytes: usize) {
        let (day, deliveries) = (at.date_naive(), u64::from(deliveries));
        self.ledger().accepted(app, day, deliveries, bytes as u64);
    }

    /// Says that an application's quotas changed.
    pub(crate) fn changed(&self, app: AppId) {
        self.ledger().changed(app);
    }

    /// Adds what was accepted to the sums in the store.
    pub(crate) async fn flush(&self) {
        self.0.flush().await;
    }

    fn unknown(&self, demands: &BTreeMap<AppId, Demand>) -> Vec<AppId> {
        self.ledger().unknown(demands.keys().copied())
    }

    async fn learn(&self, demands: &BTreeMap<AppId, Demand>) -> Result<(), StoreError> {
        let _turn = self.0.turn.lock().await;
        let unknown = self.unknown(demands);
        if unknown.is_empty() {
            return Ok(());
        }
        for wanted in self.0.quotas(&unknown).await? {
            self.0.figures(wanted).await?;
        }
        Ok(())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger()
    }
}

async fn run(keeper: Weak<Inner>, clock: Clock, wake: Arc<Notify>) {
    let mut next = clock.now() + EVERY;
    loop {
        tokio::select! {
            () = clock.sleep_until(next) => {}
            () = wake.notified() => {}
        }
        let Some(inner) = keeper.upgrade() else {
            return;
        };
        let began = clock.now();
        let is_round = began >= next;
        if is_round {
            inner.round().await;
        } else {
            inner.look_again().await;
        }
        drop(inner);
        let now = clock.now();
        // A clock that was set forward meanwhile says nothing of how long it took.
        let took = (now - began).min(LONGEST);
        let rest = if is_round {
            next = now + EVERY.max(took * ROUND_REST);
            SOONEST.max(took)
        } else {
            SOONEST.max(took * SOON_REST)
        };
        clock.sleep_until(next.min(now + rest)).await;
    }
}

impl Inner {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads everything that is due.
    async fn round(&self) {
        self.flush().await;
        let due = {
            let mut ledger = self.ledger();
            ledger.tidy(self.clock.now());
            ledger.due()
        };
        if due.is_empty() {
            return;
        }
        match self.quotas(&due).await {
            Ok(wanted) => self.all_figures(wanted).await,
            Err(error) => warn(&error),
        }
    }

    /// Reads what is near its quota of deliveries: they may be delivered by now.
    async fn look_again(&self) {
        let urgent = self.ledger().urgent();
        self.all_figures(urgent).await;
    }

    async fn all_figures(&self, wanted: Vec<Wanted>) {
        for wanted in wanted {
            if let Err(error) = self.figures(wanted).await {
                warn(&error);
            }
        }
    }

    async fn quotas(&self, apps: &[AppId]) -> Result<Vec<Wanted>, StoreError> {
        let own = self.timed(self.usage.quotas(apps)).await?;
        Ok(self.ledger().learn(apps, &own, self.clock.now()))
    }

    async fn figures(&self, wanted: Wanted) -> Result<(), StoreError> {
        let mut figures = Figures {
            wanted,
            pending: None,
            bytes: None,
        };
        if let Some(up_to) = wanted.pending_up_to {
            let pending = self.usage.pending_deliveries(wanted.app, up_to);
            figures.pending = Some(self.timed(pending).await?);
        }
        if wanted.bytes {
            let bytes = self.usage.stored_bytes(wanted.app, self.kept_since());
            figures.bytes = Some(self.timed(bytes).await?);
        }
        self.ledger().read(figures);
        Ok(())
    }

    async fn flush(&self) {
        let unflushed = self.ledger().unflushed();
        if unflushed.is_empty() {
            return;
        }
        match self.timed(self.usage.add_stored_bytes(&unflushed)).await {
            Ok(()) => self.ledger().flushed(&unflushed),
            // Added next time. If it was done all the same, it counts twice: too much
            // rather than too little.
            Err(error) => warn(&error),
        }
    }

    /// The first day of which events are kept.
    fn kept_since(&self) -> NaiveDate {
        let first = self.retention.ended_before(self.clock.now());
        first.time().date_naive()
    }

    async fn timed<T>(&self, statement: impl Future<Output = T>) -> T {
        let began = self.clock.now();
        let done = statement.await;
        let took = (self.clock.now() - began).to_std().unwrap_or_default();
        self.metrics.database.ran(Statement::Usage, took);
        done
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // So that its task ends.
        self.wake.notify_one();
    }
}

fn warn(error: &StoreError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "what applications use could not be read or added to: quotas go by what is known"
    );
}
