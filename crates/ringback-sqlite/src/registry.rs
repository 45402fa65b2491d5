//! What people set up: each method is a function of the file it is named for.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_model::{AppId, KeyId, SubscriptionId};
use ringback_store::{
    App, AppChange, AppRef, BegunRequest, Changed, CreatedApp, IdempotencyKey, Key, NewApp, NewKey,
    NewSubscription, Registry, Sealed, StoreError, StoredSecret, Subscription, SubscriptionChange,
    Within,
};

use crate::{
    SqliteStore, apps, idempotency, keys, secrets, subscription_status, subscriptions,
    writer::commit,
};

#[async_trait]
impl Registry for SqliteStore {
    async fn create_app(&self, app: NewApp, now: DateTime<Utc>) -> Result<CreatedApp, StoreError> {
        commit!(self, |connection, app| apps::create(connection, &app, now))
    }

    async fn app(&self, app: &AppRef) -> Result<Option<App>, StoreError> {
        apps::get(&self.0.readers, app).await
    }

    async fn apps(
        &self,
        within: Within,
        before: AppId,
        limit: u32,
    ) -> Result<Vec<App>, StoreError> {
        apps::list(&self.0.readers, within, before, limit).await
    }

    async fn update_app(
        &self,
        app: AppId,
        change: AppChange,
        expected: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<Changed<App>, StoreError> {
        commit!(self, |connection, change| apps::update(
            connection, app, &change, expected, now
        ))
    }

    async fn delete_app(&self, app: AppId, now: DateTime<Utc>) -> Result<bool, StoreError> {
        commit!(self, |connection| apps::delete(connection, app, now))
    }

    async fn create_subscription(
        &self,
        subscription: NewSubscription,
        now: DateTime<Utc>,
    ) -> Result<Option<Subscription>, StoreError> {
        commit!(self, |connection, subscription| {
            subscriptions::create(connection, &subscription, now)
        })
    }

    async fn subscription(
        &self,
        id: SubscriptionId,
        within: Within,
    ) -> Result<Option<Subscription>, StoreError> {
        subscriptions::get(&self.0.readers, id, within).await
    }

    async fn subscriptions(
        &self,
        app: AppId,
        before: SubscriptionId,
        limit: u32,
    ) -> Result<Vec<Subscription>, StoreError> {
        subscriptions::list(&self.0.readers, app, before, limit).await
    }

    async fn update_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        change: SubscriptionChange,
        expected: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Changed<Subscription>, StoreError> {
        commit!(self, |connection, change| {
            subscriptions::update(connection, id, within, change, expected, now)
        })
    }

    async fn pause_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<Option<Subscription>, StoreError> {
        commit!(self, |connection| subscription_status::pause(
            connection, id, within, now
        ))
    }

    async fn resume_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<Option<Subscription>, StoreError> {
        commit!(self, |connection| subscription_status::resume(
            connection, id, within, now
        ))
    }

    async fn delete_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        commit!(self, |connection| subscription_status::delete(
            connection, id, within, now
        ))
    }

    async fn secrets(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<StoredSecret>>, StoreError> {
        secrets::list(&self.0.readers, id, within, now).await
    }

    async fn rotate_secret(
        &self,
        id: SubscriptionId,
        within: Within,
        secret: Sealed,
        previous_expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        commit!(self, |connection, secret| {
            secrets::rotate(connection, id, within, &secret, previous_expires_at, now)
        })
    }

    async fn create_key(&self, key: NewKey, now: DateTime<Utc>) -> Result<Key, StoreError> {
        commit!(self, |connection, key| keys::create(connection, &key, now))
    }

    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<Key>, StoreError> {
        keys::by_hash(&self.0.readers, hash).await
    }

    async fn keys(
        &self,
        within: Within,
        before: KeyId,
        limit: u32,
    ) -> Result<Vec<Key>, StoreError> {
        keys::list(&self.0.readers, within, before, limit).await
    }

    async fn revoke_key(
        &self,
        id: KeyId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        commit!(self, |connection| keys::revoke(connection, id, within, now))
    }

    async fn begin_request(
        &self,
        key: IdempotencyKey,
        now: DateTime<Utc>,
    ) -> Result<BegunRequest, StoreError> {
        commit!(self, |connection| idempotency::begin(connection, key, now))
    }

    async fn finish_request(
        &self,
        key: IdempotencyKey,
        answer: Option<Sealed>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        commit!(self, |connection, answer| {
            idempotency::finish(connection, key, answer.as_ref(), now)
        })
    }
}
