//! What waits in the store: read now and then, not counted, so that it is right
//! whatever any node's memory holds.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use ringback_model::{DeliveryStatus, SubscriptionStatus};

use crate::family::{Gauges, Labels};

/// Set by whoever has just read the store.
#[derive(Debug)]
pub struct Backlog {
    oldest_due_age: Gauge<f64, AtomicU64>,
    read_at: Gauge<f64, AtomicU64>,
    deliveries: Gauges<1>,
    subscriptions: Gauges<1>,
    failing: Gauge,
}

impl Backlog {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let (oldest_due_age, read_at) = (Gauge::default(), Gauge::default());
        registry.register(
            "delivery_oldest_due_age_seconds",
            "How long the delivery that has been due longest is due; 0 if none is",
            Gauge::clone(&oldest_due_age),
        );
        registry.register(
            "backlog_read_timestamp_seconds",
            "When what waits was last read from the store, in Unix time",
            Gauge::clone(&read_at),
        );
        let failing = Gauge::default();
        registry.register(
            "subscriptions_failing",
            "Subscriptions, not disabled, that have had nothing but failures for a minute or more",
            Gauge::clone(&failing),
        );
        Self {
            oldest_due_age,
            read_at,
            deliveries: Gauges::new(
                registry,
                "deliveries",
                "Deliveries that are not settled; at most 100000 rows of a table are counted",
            ),
            subscriptions: Gauges::new(
                registry,
                "subscriptions",
                "Subscriptions; at most 100000 are counted",
            ),
            failing,
        }
    }

    /// How long the delivery that has been due longest is due; zero if none is.
    pub fn set_oldest_due_age(&self, age: Duration) {
        self.oldest_due_age.set(age.as_secs_f64());
    }

    /// When the store was read, in Unix time.
    pub fn set_read_at(&self, unix: Duration) {
        self.read_at.set(unix.as_secs_f64());
    }

    /// How many deliveries are in a state.
    pub fn set_deliveries(&self, state: DeliveryStatus, count: u64) {
        self.deliveries.set(state_of(state.as_str()), count);
    }

    /// How many subscriptions are in a state.
    pub fn set_subscriptions(&self, state: SubscriptionStatus, count: u64) {
        self.subscriptions.set(state_of(state.as_str()), count);
    }

    /// How many subscriptions, not disabled, have had nothing but failures for a while.
    pub fn set_failing(&self, count: u64) {
        self.failing.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

const fn state_of(state: &'static str) -> Labels<1> {
    [("state", state)]
}
