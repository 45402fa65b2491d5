//! What operators watch.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::StoreError;

/// Used by `/metrics`: what waits, whatever any node's memory holds.
#[async_trait]
pub trait Observe: Send + Sync {
    /// What waits at `now`, over all lanes.
    ///
    /// Costs by lanes, by the subscriptions that have retries, and by the rows that are
    /// counted, of each at most [`Backlog::COUNTED`]: to be asked for every few seconds,
    /// not more often.
    async fn backlog(&self, now: DateTime<Utc>) -> Result<Backlog, StoreError>;

    /// How many connections are open for what has none of its own.
    fn connections(&self) -> Connections;
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Since when the delivery that has been due longest is due: the acceptance of its
    /// event, or the time of its retry. What an active subscription is to get counts, also
    /// while an attempt is under way; what is held does not. `None` if nothing is due.
    pub oldest_due_at: Option<DateTime<Utc>>,
    /// Deliveries whose first attempt is not finished. Those of a subscription that was
    /// paused just now are among them until they are parked.
    pub pending: u64,
    /// Deliveries with a failed attempt behind them.
    pub retrying: u64,
    /// Deliveries that wait because their subscription is paused.
    pub held: u64,
    /// Subscriptions that get deliveries; callbacks' hidden ones are left out.
    pub active: u64,
    /// Subscriptions whose deliveries are held.
    pub paused: u64,
    /// Subscriptions that get none.
    pub disabled: u64,
    /// Subscriptions, not disabled, that have had nothing but failures for a minute or
    /// more, as far as that is written: see [`crate::HealthChange`].
    pub failing: u64,
}

impl Backlog {
    /// No more rows of a table are counted: figures that reach this mean "or more".
    pub const COUNTED: u32 = 100_000;
}

/// A pool of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// At work.
    pub used: u64,
    /// Waiting for work.
    pub idle: u64,
}
