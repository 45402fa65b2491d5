//! What can be set.

use std::sync::Arc;

use ringback_metrics::Metrics;

/// What can be set of a [`crate::Dispatcher`].
#[derive(Clone, Debug)]
pub struct DispatcherConfig {
    /// Attempts under way at once on this node, over all subscriptions.
    pub max_in_flight: usize,
    /// Of them, to one host, over all its subscriptions.
    pub max_in_flight_per_host: usize,
    /// Deliveries of one subscription in memory; more wait in the retries.
    pub queue_per_subscription: usize,
    /// Deliveries in memory; beyond it, the outbox is not read.
    pub queue_per_node: usize,
    /// What waits to be sent is kept in memory up to this many bytes, and read again
    /// beyond.
    pub payload_cache_bytes: usize,
    /// The value of the header `user-agent`.
    pub user_agent: String,
    /// What to count with.
    pub metrics: Arc<Metrics>,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            max_in_flight: 512,
            max_in_flight_per_host: 256,
            queue_per_subscription: 100_000,
            queue_per_node: 1_000_000,
            payload_cache_bytes: 64 * 1024 * 1024,
            user_agent: concat!("Ringback/", env!("CARGO_PKG_VERSION")).to_owned(),
            metrics: Arc::default(),
        }
    }
}
