//! Upkeep that every running service does by itself.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::StoreError;

/// Used by the process: what has to be done now and then.
#[async_trait]
pub trait Maintain: Send + Sync {
    /// Makes the days ahead ready, and forgets keys and counts that are out of their time.
    /// Any node may call it at any time; it is cheap when there is nothing to do.
    async fn tend(&self, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Ends days that are out of their time. Any node may call it at any time; it is
    /// cheap when there is nothing to do, may take minutes when there is, and a call
    /// that was cut short is made good by the next.
    ///
    /// How long a day is kept is the store's [`Retention`](ringback_model::Retention),
    /// given when it is opened. From an ended day stays what waits to be sent, for as
    /// long as it waits, and what is dead, for its own time; each with its event, its
    /// labels and its attempts. Accepting goes on meanwhile.
    async fn end_days(&self, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Whether the database answers, for `/readyz`.
    async fn ping(&self) -> Result<(), StoreError>;
}
