//! Accepting events: the one step that a `202` stands on.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::{
    AppId, EventId, EventType, EventTypePattern, KeyId, Lane, OrderKey, Ordering, PayloadFilter,
    Slug, SubscriptionId,
};

use crate::StoreError;

/// Used by the API: takes events in.
#[async_trait]
pub trait Accept: Send + Sync {
    /// Writes events, their deliveries and their keys, many callers in one commit.
    ///
    /// When it returns, everything that was answered [`AcceptOutcome::Accepted`] is
    /// on disk. Each item is written whole or not at all; the outcomes come in the
    /// order of `items`. An item that the database refuses fails alone.
    ///
    /// An item is only written while [`NewEvent::app_version`] is still the version of
    /// each of its applications, so what was subscribed before misses nothing.
    ///
    /// A delivery goes to the outbox; if it is `held`, or its event's `deliver_at` is to
    /// come, straight to the retries, due at `now` or then.
    ///
    /// Items with the same keys at the same time wait for the first: one is
    /// accepted, the others are its duplicates.
    ///
    /// # Errors
    ///
    /// If the database cannot answer, for all of them: what was written is unknown.
    async fn accept(
        &self,
        items: Vec<AcceptItem>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Result<AcceptOutcome, StoreError>>, StoreError>;

    /// What an application's events have to be matched with; `None` if there is no
    /// such application.
    async fn routes(&self, app: &AppRef) -> Result<Option<AppRoutes>, StoreError>;

    /// What became of those routes after `version`; `None` if there is no such
    /// application.
    ///
    /// For who has the routes of that version, or of any later one: applying the changes
    /// to them gives the routes of [`RouteChanges::version`]. Costs as much as there are
    /// changes.
    async fn routes_since(
        &self,
        app: &AppRef,
        version: i64,
    ) -> Result<Option<RouteChanges>, StoreError>;
}

/// Names an application, as `{app}` in paths and bodies does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AppRef {
    /// By its id.
    Id(AppId),
    /// By its slug.
    Slug(Slug),
}

/// The subscriptions of one application that new events go to.
#[derive(Clone, Debug)]
pub struct AppRoutes {
    /// Whose they are.
    pub app: AppId,
    /// Rises with every change of the application or its subscriptions.
    pub version: i64,
    /// Active and paused ones that are not deleted, without callbacks' hidden ones.
    pub routes: Vec<Route>,
}

/// What changed in the routes of one application.
#[derive(Clone, Debug)]
pub struct RouteChanges {
    /// Whose they are: another application may have the slug by now.
    pub app: AppId,
    /// The version that they lead to.
    pub version: i64,
    /// New ones and changed ones, as they are at that version.
    pub routes: Vec<Route>,
    /// Subscriptions that have no route at that version: deleted or disabled.
    pub gone: Vec<SubscriptionId>,
}

/// One subscription, as far as matching needs it.
#[derive(Clone, Debug)]
pub struct Route {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// Its lane, as stored with it.
    pub lane: Lane,
    /// Which events it wants: those that any pattern matches,
    pub event_types: Vec<EventTypePattern>,
    /// and this filter, if there is one.
    pub filter: Option<PayloadFilter>,
    /// Whether its deliveries keep the order of their events.
    pub ordering: Ordering,
    /// It is paused: its deliveries are made, and wait.
    pub held: bool,
}

/// What one request wants accepted: one event, or a batch that is all or nothing.
#[derive(Clone, Debug)]
pub struct AcceptItem {
    /// At least one.
    pub events: Vec<NewEvent>,
    /// The request's `Idempotency-Key`, if it has one.
    pub idempotency: Option<IdempotencyKey>,
}

/// An event to be accepted, matched already.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its time is the time of acceptance.
    pub id: EventId,
    /// The application it belongs to.
    pub app: AppId,
    /// Of the routes that `deliveries` came from.
    pub app_version: i64,
    /// Its type.
    pub event_type: EventType,
    /// JSON, byte for byte as the producer gave it.
    pub data: Bytes,
    /// Searchable names and values; often none.
    pub labels: BTreeMap<String, String>,
    /// The producer's trace context, as it came.
    pub traceparent: Option<String>,
    /// Events with the same one keep their order where a subscription asks for it.
    pub ordering_key: Option<String>,
    /// Not to be sent before.
    pub deliver_at: Option<DateTime<Utc>>,
    /// The producer's own id, at most one event per application and id.
    pub external: Option<ExternalId>,
    /// One per matching subscription, active or paused.
    pub deliveries: Vec<NewDelivery>,
}

impl NewEvent {
    /// When a delivery is due that waits in the retries from the beginning; `None` for
    /// one that goes to the outbox.
    pub fn waits_until(&self, delivery: &NewDelivery, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let later = self.deliver_at.filter(|at| *at > now);
        later.or(delivery.held.then_some(now))
    }
}

/// A producer's own id of an event, and what it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalId {
    /// The id, as the producer wrote it.
    pub id: String,
    /// SHA-256 of the id.
    pub id_hash: [u8; 32],
    /// SHA-256 of all that makes the event: another event under the same id differs.
    pub body_hash: [u8; 32],
}

/// A request's `Idempotency-Key`, scoped and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The API key that sent it: two keys' callers never meet.
    pub api_key: KeyId,
    /// SHA-256 of the header's value.
    pub key_hash: [u8; 32],
    /// SHA-256 of method, path and body.
    pub body_hash: [u8; 32],
}

/// A delivery to be made with its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// For whom.
    pub subscription: SubscriptionId,
    /// The subscription's lane.
    pub lane: Lane,
    /// Of the event's ordering key, if the subscription keeps order.
    pub order: Option<OrderKey>,
    /// The subscription is paused.
    pub held: bool,
}

/// What became of one [`AcceptItem`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptOutcome {
    /// It is on disk; one entry per event, in order.
    Accepted(Vec<Accepted>),
    /// The same `Idempotency-Key` and body came before: what was answered then.
    Replayed(Vec<Accepted>),
    /// An application changed or is gone: load its routes and try again. Nothing
    /// was written.
    Stale,
    /// The event at this index has an id that came before with another event.
    /// Nothing was written.
    IdReused(usize),
    /// The `Idempotency-Key` came before with another body. Nothing was written.
    KeyReused,
}

/// One accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id, or the first one's if it is a duplicate.
    pub id: EventId,
    /// How many deliveries were written with it.
    pub deliveries: u32,
    /// The same producer's id and body came before; nothing new was written.
    pub duplicate: bool,
}
