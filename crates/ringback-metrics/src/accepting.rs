//! Events, on their way in.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use crate::family::{Family, Kept};

/// What came of events that were handed in.
#[derive(Debug)]
pub struct Accepting {
    accepted: Kept<Counter, 1>,
    duplicate: Kept<Counter, 1>,
    picked_up: Kept<Counter, 1>,
    deliveries: Counter,
    refused: [Kept<Counter, 1>; RefusedBecause::ALL.len()],
}

/// Why events were not accepted, though nothing was wrong with how they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBecause {
    /// Their id or `Idempotency-Key` came before with something else.
    Conflict,
    /// Their application brought in too much at once,
    QuotaEventsPerS,
    /// had too much pending,
    QuotaPendingDeliveries,
    /// or too much stored.
    QuotaStoredBytes,
    /// Too much waited to be stored.
    Overloaded,
    /// This node had no lease.
    LeaseLost,
    /// The database did not answer: they may be stored, or not.
    Unavailable,
    /// The database refused them.
    Database,
    /// They were emitted inside the database, and can never be accepted.
    Unfit,
}

impl RefusedBecause {
    const ALL: [Self; 9] = [
        Self::Conflict,
        Self::QuotaEventsPerS,
        Self::QuotaPendingDeliveries,
        Self::QuotaStoredBytes,
        Self::Overloaded,
        Self::LeaseLost,
        Self::Unavailable,
        Self::Database,
        Self::Unfit,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::QuotaEventsPerS => "quota_events_per_s",
            Self::QuotaPendingDeliveries => "quota_pending_deliveries",
            Self::QuotaStoredBytes => "quota_stored_bytes",
            Self::Overloaded => "overloaded",
            Self::LeaseLost => "lease_lost",
            Self::Unavailable => "unavailable",
            Self::Database => "database",
            Self::Unfit => "unfit",
        }
    }
}

impl Accepting {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let accepted = Family::counters(
            registry,
            "events_accepted",
            "Events that were answered 202, by whether they were new, or picked up",
        );
        let refused = Family::counters(
            registry,
            "events_refused",
            "Well-formed events that were not accepted",
        );
        let deliveries = Counter::default();
        registry.register(
            "deliveries_accepted",
            "Deliveries that were written with their events",
            deliveries.clone(),
        );
        Self {
            accepted: accepted.shown([("result", "accepted")]),
            duplicate: accepted.shown([("result", "duplicate")]),
            picked_up: accepted.shown([("result", "picked_up")]),
            deliveries,
            refused: RefusedBecause::ALL.map(|why| refused.shown([("reason", why.as_str())])),
        }
    }

    /// A new event is on disk, with so many deliveries.
    pub fn accepted(&self, deliveries: u32) {
        self.accepted.get().inc();
        self.deliveries.inc_by(deliveries.into());
    }

    /// A new event that was emitted inside the database is accepted, with so many
    /// deliveries.
    pub fn picked_up(&self, deliveries: u32) {
        self.picked_up.get().inc();
        self.deliveries.inc_by(deliveries.into());
    }

    /// An event came again, and was answered as the first time.
    pub fn duplicate(&self) {
        self.duplicate.get().inc();
    }

    /// So many events were not accepted.
    pub fn refused(&self, events: usize, why: RefusedBecause) {
        self.refused[why as usize].get().inc_by(events as u64);
    }
}
