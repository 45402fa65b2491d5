//! Statements under way: each runs in a task of its own and comes back as a [`Reply`].

use std::{future::Future, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_metrics::{Metrics, Statement};
use ringback_model::{EventId, Lane, SubscriptionId};
use ringback_store::{
    Clock, DueRetry, HealthChange, Hints, Lanes, NodeLease, Outbox, OutboxKey, Payload,
    SendingState, Settlement, StoreError, Ticket, Transit,
};
use tokio::task::{JoinError, JoinSet};

use crate::{reader::Page, retries::Look};

/// Beyond every retry there can be.
const FAR: TimeDelta = TimeDelta::days(3660);

type Answer<T> = Result<T, StoreError>;

/// What a statement brought.
#[derive(Debug)]
pub(crate) enum Reply {
    Read {
        page: Page,
        rows: Answer<Vec<OutboxKey>>,
        begun: Begun,
    },
    Looked {
        look: Look,
        rows: Answer<Vec<DueRetry>>,
        begun: Begun,
    },
    Waiting(Answer<Vec<(Lane, SubscriptionId, DateTime<Utc>)>>),
    Payloads {
        events: Vec<EventId>,
        found: Answer<Vec<Payload>>,
    },
    States {
        ids: Vec<SubscriptionId>,
        found: Answer<Vec<SendingState>>,
    },
    Changed {
        at: DateTime<Utc>,
        found: Answer<Vec<SubscriptionId>>,
    },
    Settled {
        batch: Vec<Settlement>,
        done: Answer<()>,
    },
    Parked {
        keys: Vec<OutboxKey>,
        due_at: DateTime<Utc>,
        done: Answer<()>,
    },
    Recorded {
        batch: Vec<HealthChange>,
        done: Answer<()>,
    },
    Disabled {
        subscription: SubscriptionId,
        reason: &'static str,
        done: Answer<()>,
    },
    Taken {
        lease: NodeLease,
        taken: Answer<Vec<Lane>>,
    },
    Released {
        lanes: Vec<Lane>,
        done: Answer<()>,
    },
}

/// When a read began: rows that it brings may be settled since. To be dropped only
/// when its rows have been taken in.
#[derive(Debug)]
pub(crate) struct Begun {
    /// What began before this mark began before the read.
    pub(crate) mark: u64,
    _ticket: Ticket,
}

impl Begun {
    fn now(transit: &Transit) -> Self {
        Self {
            mark: transit.mark(),
            _ticket: transit.begin(),
        }
    }
}

/// The store, as far as the dispatcher uses it.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) lanes: Arc<dyn Lanes>,
    pub(crate) hints: Arc<dyn Hints>,
}

/// Starts statements and collects what comes of them.
pub(crate) struct Calls {
    database: Database,
    transit: Transit,
    clock: Clock,
    metrics: Arc<Metrics>,
    replies: JoinSet<Reply>,
}

impl Calls {
    pub(crate) fn new(
        database: Database,
        transit: Transit,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            database,
            transit,
            clock,
            metrics,
            replies: JoinSet::new(),
        }
    }

    /// The next reply; `None` if nothing is under way.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        self.replies.join_next().await.map(answer)
    }

    /// The next reply, if one is there.
    pub(crate) fn try_reply(&mut self) -> Option<Reply> {
        self.replies.try_join_next().map(answer)
    }

    pub(crate) fn read(&mut self, page: Page) {
        let (outbox, begun) = (self.outbox(), Begun::now(&self.transit));
        self.spawn(Statement::Read, async move {
            let rows = outbox.read(&page.cursors, page.limit).await;
            Reply::Read { page, rows, begun }
        });
    }

    pub(crate) fn look(&mut self, look: Look) {
        let (outbox, begun) = (self.outbox(), Begun::now(&self.transit));
        self.spawn(Statement::Due, async move {
            let limit = u32::try_from(look.limit).unwrap_or(u32::MAX);
            // Beyond what is taken in, so that the first row there tells when to look again.
            let until = look.until + FAR;
            let rows = outbox.due_after(&look.subscriptions, until, limit).await;
            Reply::Looked { look, rows, begun }
        });
    }

    pub(crate) fn waiting(&mut self, lanes: Vec<Lane>) {
        let outbox = self.outbox();
        self.spawn(Statement::Waiting, async move {
            Reply::Waiting(outbox.waiting(&lanes).await)
        });
    }

    pub(crate) fn payloads(&mut self, events: Vec<EventId>) {
        let outbox = self.outbox();
        self.spawn(Statement::Payloads, async move {
            let found = outbox.payloads(&events).await;
            Reply::Payloads { events, found }
        });
    }

    pub(crate) fn states(&mut self, ids: Vec<SubscriptionId>, now: DateTime<Utc>) {
        let outbox = self.outbox();
        self.spawn(Statement::SendingStates, async move {
            let found = outbox.sending_states(&ids, now).await;
            Reply::States { ids, found }
        });
    }

    pub(crate) fn changed(&mut self, since: DateTime<Utc>, at: DateTime<Utc>) {
        let outbox = self.outbox();
        self.spawn(Statement::ChangedSince, async move {
            let found = outbox.changed_since(since).await;
            Reply::Changed { at, found }
        });
    }

    pub(crate) fn settle(&mut self, lease: NodeLease, batch: Vec<Settlement>, now: DateTime<Utc>) {
        let outbox = self.outbox();
        self.spawn(Statement::Settle, async move {
            let done = outbox.settle(&lease, &batch, now).await;
            Reply::Settled { batch, done }
        });
    }

    pub(crate) fn park(&mut self, lease: NodeLease, keys: Vec<OutboxKey>, due_at: DateTime<Utc>) {
        let outbox = self.outbox();
        self.spawn(Statement::Park, async move {
            let done = outbox.park(&lease, &keys, due_at).await;
            Reply::Parked { keys, due_at, done }
        });
    }

    pub(crate) fn record(
        &mut self,
        lease: NodeLease,
        batch: Vec<HealthChange>,
        now: DateTime<Utc>,
    ) {
        let outbox = self.outbox();
        self.spawn(Statement::RecordHealth, async move {
            let done = outbox.record_health(&lease, &batch, now).await;
            Reply::Recorded { batch, done }
        });
    }

    pub(crate) fn disable(
        &mut self,
        subscription: SubscriptionId,
        reason: &'static str,
        now: DateTime<Utc>,
    ) {
        let outbox = self.outbox();
        self.spawn(Statement::Disable, async move {
            let done = outbox.disable_subscription(subscription, reason, now).await;
            Reply::Disabled {
                subscription,
                reason,
                done,
            }
        });
    }

    pub(crate) fn take(&mut self, lease: NodeLease, lanes: Vec<Lane>, now: DateTime<Utc>) {
        let store = Arc::clone(&self.database.lanes);
        self.spawn(Statement::Take, async move {
            let taken = store.take(&lease, &lanes, now).await;
            Reply::Taken { lease, taken }
        });
    }

    pub(crate) fn release(&mut self, lease: NodeLease, lanes: Vec<Lane>) {
        let store = Arc::clone(&self.database.lanes);
        self.spawn(Statement::Release, async move {
            let done = store.release(&lease, &lanes).await;
            Reply::Released { lanes, done }
        });
    }

    /// Starts one, and counts how long it takes.
    fn spawn(&mut self, statement: Statement, call: impl Future<Output = Reply> + Send + 'static) {
        let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
        self.replies.spawn(async move {
            let began = clock.now();
            let reply = call.await;
            let took = (clock.now() - began).to_std().unwrap_or_default();
            metrics.database.ran(statement, took);
            reply
        });
    }

    fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::clone(&self.database.outbox)
    }
}

/// A panic in a store is a bug that leaves its answer unknown: it is passed on.
fn answer(joined: Result<Reply, JoinError>) -> Reply {
    joined.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // Nobody aborts these tasks.
        Err(_) => unreachable!("a statement was cancelled"),
    })
}
