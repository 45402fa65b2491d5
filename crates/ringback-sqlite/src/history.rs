//! What happened: each method is a function of the file it is named for.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_model::{DeliveryId, EventId};
use ringback_store::{
    Attempt, CancelOutcome, Delivery, DeliveryCursor, DeliveryFilter, Event, EventFilter, History,
    Page, ReplayOutcome, StoreError, Within,
};

use crate::{SqliteStore, attempts, deliveries, delivery, events, replay, writer::commit};

#[async_trait]
impl History for SqliteStore {
    async fn event(&self, id: EventId, within: Within) -> Result<Option<Event>, StoreError> {
        events::get(&self.0.readers, id, within).await
    }

    async fn events(
        &self,
        filter: &EventFilter,
        before: EventId,
        limit: u32,
    ) -> Result<Page<Event, EventId>, StoreError> {
        events::list(&self.0.readers, filter, before, limit).await
    }

    async fn delivery(
        &self,
        id: DeliveryId,
        within: Within,
    ) -> Result<Option<Delivery>, StoreError> {
        delivery::get(&self.0.readers, id, within).await
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        before: DeliveryCursor,
        limit: u32,
    ) -> Result<Page<Delivery, DeliveryCursor>, StoreError> {
        deliveries::list(&self.0.readers, filter, before, limit).await
    }

    async fn attempts(
        &self,
        id: DeliveryId,
        within: Within,
    ) -> Result<Option<Vec<Attempt>>, StoreError> {
        attempts::list(&self.0.readers, id, within).await
    }

    async fn replay(
        &self,
        id: DeliveryId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<ReplayOutcome, StoreError> {
        let keep = self.0.options.retention;
        commit!(self, |connection| replay::replay(
            connection, id, within, keep, now
        ))
    }

    async fn cancel(
        &self,
        id: DeliveryId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<CancelOutcome, StoreError> {
        commit!(self, |connection| replay::cancel(
            connection, id, within, now
        ))
    }
}
