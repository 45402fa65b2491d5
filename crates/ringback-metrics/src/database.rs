//! Statements and connections.

use std::time::Duration;

use prometheus_client::registry::Registry;

use crate::{
    Durations,
    durations::SHORT,
    family::{Family, Gauges, Kept},
};

/// What the store is asked to do by those whose work is counted in thousands: the batch
/// of events that is written, and all that the dispatcher does.
#[derive(Debug)]
pub struct Database {
    statements: [Kept<Durations, 1>; Statement::ALL.len()],
    connections: Gauges<1>,
}

/// A step of the storage contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Write events and their deliveries.
    Accept,
    /// Read lanes of the outbox.
    Read,
    /// Read retries that are due.
    Due,
    /// Read retries of subscriptions that keep order.
    InOrder,
    /// Find which subscriptions have retries.
    Waiting,
    /// Read events to be sent.
    Payloads,
    /// Read subscriptions to send to.
    SendingStates,
    /// Find which subscriptions changed.
    ChangedSince,
    /// Write what became of deliveries.
    Settle,
    /// Move what cannot be sent soon.
    Park,
    /// Write which subscriptions fail.
    RecordHealth,
    /// Disable a subscription.
    Disable,
    /// Report dead letters to their applications.
    ReportDead,
    /// Take lanes.
    Take,
    /// Give lanes back.
    Release,
    /// Read what was emitted inside the database.
    Emitted,
    /// Read what waits, for these metrics.
    Backlog,
    /// Read what applications use, or add to it.
    Usage,
}

impl Statement {
    const ALL: [Self; 18] = [
        Self::Accept,
        Self::Read,
        Self::Due,
        Self::InOrder,
        Self::Waiting,
        Self::Payloads,
        Self::SendingStates,
        Self::ChangedSince,
        Self::Settle,
        Self::Park,
        Self::RecordHealth,
        Self::Disable,
        Self::ReportDead,
        Self::Take,
        Self::Release,
        Self::Emitted,
        Self::Backlog,
        Self::Usage,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Read => "read",
            Self::Due => "due",
            Self::InOrder => "in_order",
            Self::Waiting => "waiting",
            Self::Payloads => "payloads",
            Self::SendingStates => "sending_states",
            Self::ChangedSince => "changed_since",
            Self::Settle => "settle",
            Self::Park => "park",
            Self::RecordHealth => "record_health",
            Self::Disable => "disable",
            Self::ReportDead => "report_dead",
            Self::Take => "take",
            Self::Release => "release",
            Self::Emitted => "emitted",
            Self::Backlog => "backlog",
            Self::Usage => "usage",
        }
    }
}

impl Database {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let statements = Family::durations(
            registry,
            "db_query_duration_seconds",
            "How long steps of the store took, waiting for a connection included",
            || Durations::new(SHORT),
        );
        Self {
            statements: Statement::ALL.map(|one| statements.kept([("op", one.as_str())])),
            connections: Gauges::new(
                registry,
                "db_pool_connections",
                "Connections of the pool for everything that has none of its own",
            ),
        }
    }

    /// A step ended, well or badly.
    pub fn ran(&self, statement: Statement, took: Duration) {
        self.statements[statement as usize].get().observe(took);
    }

    /// How many connections are open, used and idle.
    pub fn set_connections(&self, used: u64, idle: u64) {
        self.connections.set([("state", "used")], used);
        self.connections.set([("state", "idle")], idle);
    }
}
