//! Upkeep.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_store::{Maintain, StoreError};

use crate::{SqliteStore, failure::failed, idempotency, retention, usage, writer::commit};

#[async_trait]
impl Maintain for SqliteStore {
    async fn tend(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        usage::forget(&self.0.writer, now).await?;
        idempotency::forget(&self.0.writer, now).await
    }

    async fn end_days(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        retention::end_days(&self.0.writer, self.0.options.retention, now).await
    }

    /// By way of the writer: a database that can only be read is of no use.
    async fn ping(&self) -> Result<(), StoreError> {
        commit!(self, |connection| async {
            let alive = sqlx::query("select 1").execute(connection).await;
            alive.map(drop).map_err(failed)
        })
    }
}
