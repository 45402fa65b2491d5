//! What each application uses of the service, for its quotas.

use async_trait::async_trait;
use chrono::{DateTime, Days, NaiveDate, Utc};
use ringback_model::{AppId, Quotas};

#[cfg(doc)]
use crate::Backlog;
use crate::{AcceptItem, AcceptOutcome, StoreError};

/// Used by the API, every few seconds and never between a request and its answer, but for
/// the first of an application in a while, and for what came before.
#[async_trait]
pub trait Usage: Send + Sync {
    /// The quotas that these applications have of their own; those that are gone are left
    /// out.
    async fn quotas(&self, apps: &[AppId]) -> Result<Vec<(AppId, Quotas)>, StoreError>;

    /// How many deliveries of an application are not settled, at most `up_to` and what is
    /// in the outbox besides.
    ///
    /// Costs by the application's subscriptions and by the rows that are counted: in the
    /// retries at most `up_to`, in the outbox the first [`Backlog::COUNTED`] rows of the
    /// application's lanes, whosever they are.
    async fn pending_deliveries(&self, app: AppId, up_to: u64) -> Result<u64, StoreError>;

    /// The bytes that were added for an application and days from `since` on.
    async fn stored_bytes(&self, app: AppId, since: NaiveDate) -> Result<u64, StoreError>;

    /// Adds what was accepted. Rows that are [`StoredBytes::KEPT_DAYS`] old are forgotten
    /// by [`crate::Maintain::tend`].
    ///
    /// - `added`: one per application and day; all in the same order, so that nodes do not
    ///   wait for each other in a circle.
    async fn add_stored_bytes(&self, added: &[StoredBytes]) -> Result<(), StoreError>;

    /// What an item would be answered that came before as a whole: under its
    /// `Idempotency-Key`, or every event of it under its own id. `None` if it has
    /// something new. Writes nothing.
    async fn came_before(
        &self,
        item: &AcceptItem,
        now: DateTime<Utc>,
    ) -> Result<Option<AcceptOutcome>, StoreError>;
}

/// Bytes of `data` that were accepted for one application on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBytes {
    /// Whose.
    pub app: AppId,
    /// The day of acceptance.
    pub day: NaiveDate,
    /// How many.
    pub bytes: u64,
}

impl StoredBytes {
    /// How long rows are kept: as long as any retention may be.
    pub const KEPT_DAYS: Days = Days::new(400);

    /// The first day that is kept at `now`.
    pub fn kept_since(now: DateTime<Utc>) -> NaiveDate {
        let today = now.date_naive();
        today.checked_sub_days(Self::KEPT_DAYS).unwrap_or(today)
    }
}
