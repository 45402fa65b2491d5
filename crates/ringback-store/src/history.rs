//! What happened: events, deliveries and attempts, and sending them again.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::{
    AppId, AttemptError, DeadReason, DeliveryId, DeliveryStatus, EventId, EventType,
    EventTypePattern, SubscriptionId,
};

use crate::{AttemptRecord, StoreError, Within};

/// Used by the API: looks up, replays and cancels.
#[async_trait]
pub trait History: Send + Sync {
    /// One event.
    async fn event(&self, id: EventId, within: Within) -> Result<Option<Event>, StoreError>;

    /// Events newest first, with ids below `before`.
    async fn events(
        &self,
        filter: &EventFilter,
        before: EventId,
        limit: u32,
    ) -> Result<Page<Event, EventId>, StoreError>;

    /// One delivery, live or settled.
    async fn delivery(
        &self,
        id: DeliveryId,
        within: Within,
    ) -> Result<Option<Delivery>, StoreError>;

    /// Deliveries by event newest first, then by subscription downwards, from just
    /// behind `before`. Live and settled ones are merged; a live row outranks a
    /// settled one of the same delivery.
    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        before: DeliveryCursor,
        limit: u32,
    ) -> Result<Page<Delivery, DeliveryCursor>, StoreError>;

    /// All finished attempts of a delivery, first to last. `None` if there is no such
    /// delivery.
    async fn attempts(
        &self,
        id: DeliveryId,
        within: Within,
    ) -> Result<Option<Vec<Attempt>>, StoreError>;

    /// Has an event sent again: a settled delivery starts a new round, one that waits
    /// for a retry is due at once. Attempts keep their numbers. What is settled and
    /// would go within the hour is refused, so that nothing goes that was replayed.
    async fn replay(
        &self,
        id: DeliveryId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<ReplayOutcome, StoreError>;

    /// Withdraws a delivery that is not settled. An attempt that is under way is
    /// recorded when it ends; nothing follows it.
    async fn cancel(
        &self,
        id: DeliveryId,
        within: Within,
        now: DateTime<Utc>,
    ) -> Result<CancelOutcome, StoreError>;
}

/// Part of a list, and where the rest begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T, C> {
    /// At most as many as were asked for; may be fewer although there are more, since
    /// one page examines at most 200 000 rows.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<C>,
}

/// An event as it was accepted. Its id says when.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// The producer's own id.
    pub external_id: Option<String>,
    /// The application it belongs to.
    pub app: AppId,
    /// Its type.
    pub event_type: EventType,
    /// See [`crate::NewEvent::ordering_key`].
    pub ordering_key: Option<String>,
    /// See [`crate::NewEvent::deliver_at`].
    pub deliver_at: Option<DateTime<Utc>>,
    /// JSON, byte for byte as the producer gave it.
    pub data: Bytes,
    /// Searchable names and values.
    pub labels: BTreeMap<String, String>,
}

/// Which events to list; all that are named must hold.
#[derive(Clone, Debug)]
pub struct EventFilter {
    /// Whose events may be seen.
    pub within: Within,
    /// Of this application.
    pub app: Option<AppId>,
    /// Of these types.
    pub event_type: Option<EventTypePattern>,
    /// With this label.
    pub label: Option<(String, String)>,
    /// Accepted then or later.
    pub since: Option<DateTime<Utc>>,
    /// Accepted before then.
    pub until: Option<DateTime<Utc>>,
}

/// A delivery, put together from its live row, its settled one and its event.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Event and subscription.
    pub id: DeliveryId,
    /// The application both belong to.
    pub app: AppId,
    /// The event's type.
    pub event_type: EventType,
    /// Where it is on its way.
    pub status: DeliveryStatus,
    /// Attempts that have ended, over all rounds.
    pub attempts: u16,
    /// When the next attempt is due; `None` when settled or held.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The last attempt's status code.
    pub last_status_code: Option<u16>,
    /// The last attempt's error.
    pub last_error: Option<AttemptError>,
    /// Why it is dead.
    pub dead_reason: Option<DeadReason>,
    /// When it was settled.
    pub settled_at: Option<DateTime<Utc>>,
}

/// Where a list of deliveries goes on: behind this pair.
pub type DeliveryCursor = DeliveryId;

/// Which deliveries to list; all that are named must hold.
#[derive(Clone, Debug)]
pub struct DeliveryFilter {
    /// Whose deliveries may be seen.
    pub within: Within,
    /// Of this application.
    pub app: Option<AppId>,
    /// To this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Of this event.
    pub event: Option<EventId>,
    /// In this status.
    pub status: Option<DeliveryStatus>,
    /// Of events of these types.
    pub event_type: Option<EventTypePattern>,
    /// Of events with this label.
    pub label: Option<(String, String)>,
    /// The last attempt's status code is in this range, like 500 to 599.
    pub status_code: Option<(u16, u16)>,
    /// The last attempt's error.
    pub error: Option<AttemptError>,
    /// Of events accepted then or later.
    pub since: Option<DateTime<Utc>>,
    /// Of events accepted before then.
    pub until: Option<DateTime<Utc>>,
}

/// One finished HTTP exchange, and what it was sent with.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// What was recorded when it ended.
    pub record: AttemptRecord,
    /// The URL of the subscription's version that was used.
    pub url: String,
    /// That version's extra headers, sealed for `headers:{subscription id}`.
    pub headers: Option<crate::Sealed>,
}

/// The answer to [`History::replay`].
#[derive(Clone, Debug)]
pub enum ReplayOutcome {
    /// It is due now.
    Due(Delivery),
    /// Its first attempt, or the round before, has not been made yet: nothing to do.
    AlreadyPending(Delivery),
    /// Its subscription is paused.
    Held,
    /// Its subscription is disabled.
    SubscriptionDisabled,
    /// Its subscription is deleted.
    SubscriptionGone,
    /// The event's data is no longer kept, or goes within the hour.
    PayloadExpired,
    /// There is none.
    NotFound,
}

/// The answer to [`History::cancel`].
#[derive(Clone, Debug)]
pub enum CancelOutcome {
    /// It is withdrawn.
    Cancelled(Delivery),
    /// It was settled before.
    Settled(DeliveryStatus),
    /// There is none.
    NotFound,
}
