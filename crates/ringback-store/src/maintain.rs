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

    /// Whether the database answers, for `/readyz`.
    async fn ping(&self) -> Result<(), StoreError>;
}
