//! Events that were written into the database, and are not accepted yet.
//!
//! Producers write them in their own transactions, the store in the commit that their
//! cause is in. The API picks them up: see [`crate::Accept::emitted`].

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::{
    AppId, AttemptError, DeadReason, DeliveryId, EventType, SubscriptionId, SystemEvent,
};

/// Names a row of `emitted`. Ids rise in the order of writing; what was written earlier
/// may be seen later, when its transaction takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmittedId(i64);

impl EmittedId {
    /// Below every other.
    pub const MIN: Self = Self(0);

    /// From its number.
    pub const fn new(raw: i64) -> Self {
        Self(raw)
    }

    /// Its number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// An emitted event, as it is in the database: nothing of it was checked since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmittedRow {
    /// Its row.
    pub id: EmittedId,
    /// The application; it may be gone.
    pub app: AppId,
    /// Its type.
    pub event_type: String,
    /// JSON.
    pub data: Bytes,
    /// The producer's own id.
    pub external_id: Option<String>,
    /// The producer's trace context.
    pub traceparent: Option<String>,
    /// A JSON object of texts.
    pub labels: Option<String>,
    /// See [`crate::NewEvent::ordering_key`].
    pub ordering_key: Option<String>,
    /// See [`crate::NewEvent::deliver_at`].
    pub deliver_at: Option<DateTime<Utc>>,
}

/// What [`crate::Accept::emitted`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmittedPage {
    /// Oldest first.
    pub rows: Vec<EmittedRow>,
    /// Behind these there are more.
    pub has_more: bool,
    /// How soon to ask again if there are none and no hint comes.
    pub ask_again: Duration,
}

/// A delivery that became a dead letter, to be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The application it belongs to.
    pub app: AppId,
    /// Event and subscription.
    pub delivery: DeliveryId,
    /// The event's type.
    pub event_type: EventType,
    /// How many attempts were made, over all rounds.
    pub attempts: u16,
    /// Why the last one failed.
    pub error: Option<AttemptError>,
    /// Why no other is made.
    pub dead_reason: DeadReason,
    /// When.
    pub at: DateTime<Utc>,
}

impl DeadLetter {
    /// For whom it was.
    pub fn subscription(&self) -> SubscriptionId {
        self.delivery.subscription
    }

    /// What is emitted of it.
    pub fn event(&self) -> SystemEvent {
        SystemEvent::DeliveryDead {
            delivery: self.delivery,
            subscription: self.delivery.subscription,
            event: self.delivery.event,
            event_type: self.event_type.clone(),
            attempts: self.attempts,
            error: self.error,
            dead_reason: self.dead_reason,
            at: self.at,
        }
    }

    /// The id it is emitted under, so that reporting it twice makes one event.
    pub fn event_id(&self) -> String {
        format!("ringback:dead:{}:{}", self.delivery, self.attempts)
    }
}
