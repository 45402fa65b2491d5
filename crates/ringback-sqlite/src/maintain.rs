//! Upkeep.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_store::{Maintain, StoreError};

use crate::{SqliteStore, failure::failed, idempotency};

#[async_trait]
impl Maintain for SqliteStore {
    async fn tend(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        idempotency::forget(&self.0.writer, now).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1")
            .execute(&self.0.readers)
            .await
            .map(drop)
            .map_err(failed)
    }
}
