//! What is to be sent, and what became of it: each method is a function of the file
//! it is named for.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_model::{EventId, Lane, SubscriptionId};
use ringback_store::{
    DueRetry, HealthChange, NodeLease, Outbox, OutboxKey, Payload, SendingState, Settlement,
    StoreError,
};

use crate::{
    SqliteStore, health, outbox_read, park, sending, settle, subscription_status, writer::commit,
};

#[async_trait]
impl Outbox for SqliteStore {
    async fn read(
        &self,
        cursors: &[(Lane, EventId)],
        limit: u32,
    ) -> Result<Vec<OutboxKey>, StoreError> {
        outbox_read::read(&self.0.readers, cursors, limit).await
    }

    async fn payloads(&self, events: &[EventId]) -> Result<Vec<Payload>, StoreError> {
        outbox_read::payloads(&self.0.readers, events).await
    }

    async fn waiting(
        &self,
        lanes: &[Lane],
    ) -> Result<Vec<(Lane, SubscriptionId, DateTime<Utc>)>, StoreError> {
        outbox_read::waiting(&self.0.readers, lanes).await
    }

    async fn due_after(
        &self,
        subscriptions: &[(Lane, SubscriptionId, DateTime<Utc>)],
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueRetry>, StoreError> {
        outbox_read::due_after(&self.0.readers, subscriptions, until, limit).await
    }

    async fn sending_states(
        &self,
        subscriptions: &[SubscriptionId],
        now: DateTime<Utc>,
    ) -> Result<Vec<SendingState>, StoreError> {
        sending::sending_states(&self.0.readers, subscriptions, now).await
    }

    async fn changed_since(&self, since: DateTime<Utc>) -> Result<Vec<SubscriptionId>, StoreError> {
        sending::changed_since(&self.0.readers, since).await
    }

    async fn settle(
        &self,
        lease: &NodeLease,
        settlements: &[Settlement],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let types = settlements.iter().map(|settlement| &settlement.event_type);
        let types = Arc::new(self.0.event_types.numbers(&self.0.writer, types).await?);
        let (lease, settlements) = (*lease, Arc::new(settlements.to_vec()));
        commit!(self, |connection, settlements, types| {
            settle::settle(connection, lease, &settlements, &types, now)
        })
    }

    async fn park(
        &self,
        lease: &NodeLease,
        keys: &[OutboxKey],
        due_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (lease, keys) = (*lease, Arc::new(keys.to_vec()));
        commit!(self, |connection, keys| park::park(
            connection, lease, &keys, due_at
        ))
    }

    async fn record_health(
        &self,
        lease: &NodeLease,
        changes: &[HealthChange],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (lease, changes) = (*lease, Arc::new(changes.to_vec()));
        commit!(self, |connection, changes| health::record(
            connection, lease, &changes, now
        ))
    }

    async fn disable_subscription(
        &self,
        id: SubscriptionId,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let reason = reason.to_owned();
        commit!(self, |connection, reason| subscription_status::disable(
            connection, id, &reason, now
        ))
    }
}
