//! What the service counts, and how that is shown: the Prometheus text format 0.0.4.
//!
//! The binary makes one [`Metrics`] and hands it to each role; the API shows it at
//! `/metrics`. Whoever is not given one counts into one of its own, which nobody reads.
//!
//! To add a metric: a field in the file of whoever counts it (`accepting.rs`,
//! `delivering.rs`, …), with the line that registers it in its `new`; the call where it
//! happens; and its line in `docs/operations.md`. Names have base units and no prefix
//! here: `ringback_` is put before them, and `_total` behind counters.
//!
//! Labels come from closed sets that are known when this is compiled, never from what
//! others chose: no id, no URL, no application, no event type.
//!
//! Counting costs one or two relaxed atomic additions. So a metric with labels is
//! looked up once, by its [`family::Kept`], and held from then on.

mod durations;
pub use durations::Durations;

mod family;

mod accepting;
pub use accepting::{Accepting, RefusedBecause};

mod delivering;
pub use delivering::{Delivering, Settled};

mod backlog;
pub use backlog::Backlog;

mod database;
pub use database::{Database, Statement};

mod http;
pub use http::{Http, RouteDurations};

mod build_info;

mod process;

use prometheus_client::{encoding::prometheus_text, registry::Registry};

/// All that one process counts.
#[derive(Debug)]
pub struct Metrics {
    /// Events, on their way in.
    pub accepting: Accepting,
    /// Deliveries, on their way out.
    pub delivering: Delivering,
    /// What waits, read from the store now and then.
    pub backlog: Backlog,
    /// Statements and connections.
    pub database: Database,
    /// Requests to the API.
    pub http: Http,
    registry: Registry,
}

impl Metrics {
    /// The media type of [`Self::text`].
    pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

    /// With everything at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        process::register(&mut registry);
        let ours = registry.sub_registry_with_prefix("ringback");
        build_info::register(ours);
        Self {
            accepting: Accepting::new(ours),
            delivering: Delivering::new(ours),
            backlog: Backlog::new(ours),
            database: Database::new(ours),
            http: Http::new(ours),
            registry,
        }
    }

    /// Everything as it is now, for Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(32 * 1024);
        // Writing to a `String` cannot fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
