//! Applications, subscriptions and API keys: what people set up.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_model::{
    AppId, EventTypePattern, KeyId, Lane, Ordering, PayloadFilter, Quotas, RetrySpec, Scopes, Slug,
    SubscriptionId, SubscriptionStatus,
};

use crate::{AppRef, IdempotencyKey, Sealed, StoreError};

/// Used by the API: sets up applications, subscriptions and keys.
///
/// Every change of a subscription raises its application's version, in the same
/// commit: see [`crate::Accept::accept`].
#[async_trait]
pub trait Registry: Send + Sync {
    /// Creates an application.
    async fn create_app(&self, app: NewApp, now: DateTime<Utc>) -> Result<CreatedApp, StoreError>;

    /// One application that is not deleted.
    async fn app(&self, app: &AppRef) -> Result<Option<App>, StoreError>;

    /// Applications newest first, with ids below `before`.
    async fn apps(&self, within: Within, before: AppId, limit: u32)
    -> Result<Vec<App>, StoreError>;

    /// Changes what `change` names. `expected` is the revision that must be current.
    async fn update_app(
        &self,
        app: AppId,
        change: AppChange,
        expected: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<Changed<App>, StoreError>;

    /// Deletes an application and its subscriptions, as
    /// [`Self::delete_subscription`] does. Its slug is free again. `false` if there
    /// is none.
    async fn delete_app(&self, app: AppId, now: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Creates a subscription, active, with one secret. `None` if its application is
    /// gone.
    async fn create_subscription(
        &self,
        subscription: NewSubscription,
        now: DateTime<Utc>,
    ) -> Result<Option<Subscription>, StoreError>;

    /// One subscription that is not deleted.
    async fn subscription(
        &self,
        id: SubscriptionId,
        within: Within,
    ) -> Result<Option<Subscription>, StoreError>;

    /// An application's subscriptions newest first, with ids below `before`; callbacks'
    /// hidden ones are left out.
    async fn subscriptions(
        &self,
        app: AppId,
        before: SubscriptionId,
        limit: u32,
    ) -> Result<Vec<Subscription>, StoreError>;

    /// Changes what `change` names, as a new version. `expected` is the version that
    /// must be current.
    async fn update_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        change: SubscriptionChange,
        expected: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Changed<Subscription>, StoreError>;

    /// Pauses an active subscription. Waiting rows are not touched: they are held.
    /// One that is paused or disabled stays as it is.
    async fn pause_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<Option<Subscription>, StoreError>;

    /// Makes a paused or disabled subscription active again. What was recorded of the
    /// failures of a disabled one is forgotten.
    async fn resume_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<Option<Subscription>, StoreError>;

    /// Deletes a subscription: its waiting rows become cancelled in the same commit,
    /// its history stays. `false` if there is none.
    async fn delete_subscription(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Its secrets that are live at `now`, newest first. `None` if there is no such
    /// subscription.
    async fn secrets(
        &self,
        id: SubscriptionId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<StoredSecret>>, StoreError>;

    /// Makes `secret` the newest; the others end at `previous_expires_at` at the
    /// latest. `false` if there is no such subscription.
    async fn rotate_secret(
        &self,
        id: SubscriptionId,
        within: Within,
        secret: Sealed,
        previous_expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Stores a new API key's hash.
    async fn create_key(&self, key: NewKey, now: DateTime<Utc>) -> Result<Key, StoreError>;

    /// The key with this SHA-256, unless it was revoked or its application is gone.
    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<Key>, StoreError>;

    /// Keys that are not revoked, newest first, with ids below `before`.
    async fn keys(&self, within: Within, before: KeyId, limit: u32)
    -> Result<Vec<Key>, StoreError>;

    /// Revokes a key. `false` if there is none.
    async fn revoke_key(
        &self,
        id: KeyId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Begins a request with an `Idempotency-Key`: exactly one caller is told
    /// [`BegunRequest::New`]. One that never finished is forgotten after a minute.
    async fn begin_request(
        &self,
        key: IdempotencyKey,
        now: DateTime<Utc>,
    ) -> Result<BegunRequest, StoreError>;

    /// Remembers what a request was answered; with `None`, forgets that it began.
    async fn finish_request(
        &self,
        key: IdempotencyKey,
        answer: Option<Sealed>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}

/// Whose things can be seen: those of one application, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Everything.
    Everything,
    /// What belongs to this application; anything else does not exist.
    App(AppId),
}

/// An application.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Its name in paths and bodies; unique among those not deleted.
    pub slug: Slug,
    /// For people.
    pub name: String,
    /// The operator's own notes.
    pub metadata: BTreeMap<String, String>,
    /// Its own, where it has any.
    pub quotas: Quotas,
    /// Rises with every change of the fields above.
    pub revision: i64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When the fields above last changed.
    pub updated_at: DateTime<Utc>,
}

/// An application to be created.
#[derive(Clone, Debug)]
pub struct NewApp {
    /// A fresh id.
    pub id: AppId,
    /// See [`App::slug`].
    pub slug: Slug,
    /// See [`App::name`].
    pub name: String,
    /// See [`App::metadata`].
    pub metadata: BTreeMap<String, String>,
    /// See [`App::quotas`].
    pub quotas: Quotas,
}

/// The answer to [`Registry::create_app`].
#[derive(Clone, Debug)]
pub enum CreatedApp {
    /// Here it is.
    Created(App),
    /// Another has this slug.
    SlugTaken,
}

/// What to change of an application; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct AppChange {
    /// See [`App::slug`].
    pub slug: Option<Slug>,
    /// See [`App::name`].
    pub name: Option<String>,
    /// See [`App::metadata`]; replaces all of it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// See [`App::quotas`]; replaces all of them.
    pub quotas: Option<Quotas>,
}

/// The answer to a change.
#[derive(Clone, Debug)]
pub enum Changed<T> {
    /// As it is now.
    Done(T),
    /// There is none.
    NotFound,
    /// It is no longer at the revision that was expected.
    Outdated,
    /// Another has this name.
    NameTaken,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// The application it belongs to.
    pub app: AppId,
    /// Its share of the work: [`Lane::of`] its id.
    pub lane: Lane,
    /// Made by a team, or for a callback.
    pub kind: SubscriptionKind,
    /// Whether it gets deliveries.
    pub status: SubscriptionStatus,
    /// Why it is not active, when a machine decided that.
    pub status_reason: Option<String>,
    /// Rises with every change of `config`; attempts name the one they used.
    pub version: i32,
    /// What its owner chose.
    pub config: SubscriptionConfig,
    /// Since when it has had nothing but failures; `None` while it works, and for the
    /// first minute.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its status or configuration last changed.
    pub updated_at: DateTime<Utc>,
}

/// Whom a subscription is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionKind {
    /// An application's standing wish.
    Standard,
    /// A job's callback: matches no event and appears in no list.
    Callback,
}

/// What a subscription's owner chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionConfig {
    /// Where to POST, byte for byte as it was registered.
    pub url: String,
    /// Which events; not empty.
    pub event_types: Vec<EventTypePattern>,
    /// Which of those, by what is in them; `None` for all.
    pub payload_filter: Option<PayloadFilter>,
    /// Extra request headers as JSON, sealed for `headers:{subscription id}`; `None`
    /// if there are none.
    pub headers: Option<Sealed>,
    /// When to try again.
    pub retry: RetrySpec,
    /// How long an attempt may take.
    pub timeout_ms: u32,
    /// How many attempts may be under way at once.
    pub max_in_flight: u16,
    /// How many attempts may begin in a second; `None` if there is no limit.
    pub rate_per_s: Option<f64>,
    /// Whether deliveries keep the order of their events.
    pub ordering: Ordering,
    /// For people.
    pub description: String,
    /// The owner's own notes.
    pub labels: BTreeMap<String, String>,
}

/// A subscription to be created.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    /// A fresh id.
    pub id: SubscriptionId,
    /// The application it belongs to.
    pub app: AppId,
    /// Made by a team, or for a callback.
    pub kind: SubscriptionKind,
    /// What its owner chose.
    pub config: SubscriptionConfig,
    /// Its signing secret, sealed for `secret:{subscription id}`.
    pub secret: Sealed,
}

/// What to change of a subscription; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionChange {
    /// See [`SubscriptionConfig::url`].
    pub url: Option<String>,
    /// See [`SubscriptionConfig::event_types`].
    pub event_types: Option<Vec<EventTypePattern>>,
    /// See [`SubscriptionConfig::payload_filter`]; the inner `None` removes it.
    pub payload_filter: Option<Option<PayloadFilter>>,
    /// See [`SubscriptionConfig::headers`]; the inner `None` removes them.
    pub headers: Option<Option<Sealed>>,
    /// See [`SubscriptionConfig::retry`].
    pub retry: Option<RetrySpec>,
    /// See [`SubscriptionConfig::timeout_ms`].
    pub timeout_ms: Option<u32>,
    /// See [`SubscriptionConfig::max_in_flight`].
    pub max_in_flight: Option<u16>,
    /// See [`SubscriptionConfig::rate_per_s`]; the inner `None` removes the limit.
    pub rate_per_s: Option<Option<f64>>,
    /// See [`SubscriptionConfig::ordering`].
    pub ordering: Option<Ordering>,
    /// See [`SubscriptionConfig::description`].
    pub description: Option<String>,
    /// See [`SubscriptionConfig::labels`]; replaces all of them.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A signing secret of a subscription.
#[derive(Clone, Debug)]
pub struct StoredSecret {
    /// Sealed for `secret:{subscription id}`.
    pub secret: Sealed,
    /// When it stops being used; `None` for the newest.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An API key, which is itself stored nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The application it is bound to, if it is.
    pub app: Option<AppId>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

/// An API key to be stored.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// A fresh id.
    pub id: KeyId,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// See [`Key::name`].
    pub name: String,
    /// See [`Key::scopes`].
    pub scopes: Scopes,
    /// See [`Key::app`].
    pub app: Option<AppId>,
}

/// The answer to [`Registry::begin_request`].
#[derive(Clone, Debug)]
pub enum BegunRequest {
    /// It is new: do it, then call [`Registry::finish_request`].
    New,
    /// Another is doing it right now.
    Running,
    /// It was done; this was answered.
    Finished(Sealed),
    /// It came with another body.
    Reused,
}
