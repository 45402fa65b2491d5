//! The outbox and the retries: what is to be sent, and what became of it.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::{
    AppId, AttemptError, DeadReason, DeliveryId, EventId, EventType, Failing, Lane, OrderKey,
    Ordering, RetrySpec, SubscriptionId, SubscriptionStatus,
};

use crate::{NodeLease, Sealed, StoreError};

/// Used by the dispatcher: reads what is to be sent, settles what was.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Reads what is next in lanes, oldest first in each.
    ///
    /// - `cursors`: per lane, read behind this event.
    /// - `limit`: the most rows per lane.
    ///
    /// Reading changes nothing: owning the lane is the claim. Rows come back until
    /// they are settled, so the caller drops those it already holds.
    async fn read(
        &self,
        cursors: &[(Lane, EventId)],
        limit: u32,
    ) -> Result<Vec<OutboxKey>, StoreError>;

    /// What these events are to be sent with, in any order. An event that is no longer
    /// kept is left out.
    async fn payloads(&self, events: &[EventId]) -> Result<Vec<Payload>, StoreError>;

    /// Per subscription of these lanes that has retries: when the first is due.
    ///
    /// Costs by the subscriptions that wait, not by their rows.
    async fn waiting(
        &self,
        lanes: &[Lane],
    ) -> Result<Vec<(Lane, SubscriptionId, DateTime<Utc>)>, StoreError>;

    /// Retries of these subscriptions that are due by `until`, first due first.
    ///
    /// - `limit`: the most rows per subscription.
    async fn due(
        &self,
        subscriptions: &[(Lane, SubscriptionId)],
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueRetry>, StoreError> {
        let from_the_first = |(lane, id): &_| (*lane, *id, DateTime::UNIX_EPOCH);
        let subscriptions: Vec<_> = subscriptions.iter().map(from_the_first).collect();
        self.due_after(&subscriptions, until, limit).await
    }

    /// The same without what was due at a time or before it.
    ///
    /// - `subscriptions`: each with that time. What was parked stands before it, so a
    ///   look costs nothing by how much that is.
    async fn due_after(
        &self,
        subscriptions: &[(Lane, SubscriptionId, DateTime<Utc>)],
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueRetry>, StoreError>;

    /// What is needed to send to these subscriptions, deleted ones included, with the
    /// secrets that are live at `now`, newest first. One that never was is left out.
    async fn sending_states(
        &self,
        subscriptions: &[SubscriptionId],
        now: DateTime<Utc>,
    ) -> Result<Vec<SendingState>, StoreError>;

    /// Subscriptions whose status, configuration or secrets changed at `since` or
    /// later.
    async fn changed_since(&self, since: DateTime<Utc>) -> Result<Vec<SubscriptionId>, StoreError>;

    /// Records attempts and moves their rows, all in one statement.
    ///
    /// Each settlement names the row it came from, and moves only that row: if it was
    /// cancelled, replayed or settled meanwhile, nothing moves. The attempt is
    /// recorded either way. Run twice, it changes nothing more.
    ///
    /// Fenced: if `lease` no longer owns a lane, only [`Next::Delivered`] moves rows
    /// of that lane; whatever else it holds stays for the lane's owner.
    ///
    /// A PostgreSQL crash may undo it: that costs repeats, never a loss.
    async fn settle(
        &self,
        lease: &NodeLease,
        settlements: &[Settlement],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Moves rows from the outbox to the retries, due at `due_at`: they cannot be sent
    /// soon. Fenced like [`Self::settle`].
    async fn park(
        &self,
        lease: &NodeLease,
        keys: &[OutboxKey],
        due_at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Takes note of how subscriptions are, at most one change of each: that they fail,
    /// or that they work again. Fenced: what the lease does not own is left out, and so
    /// are subscriptions that are deleted.
    async fn record_health(
        &self,
        lease: &NodeLease,
        changes: &[HealthChange],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Disables a subscription because its receiver wants no more, or has failed for too
    /// long: all that waits for it becomes dead, in the same commit. `reason` is shown to
    /// people, like `410 Gone`.
    async fn disable_subscription(
        &self,
        id: SubscriptionId,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}

/// A row of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutboxKey {
    /// The subscription's lane.
    pub lane: Lane,
    /// Event and subscription.
    pub delivery: DeliveryId,
    /// Of the event's ordering key, if the subscription kept order when it was accepted.
    pub order: Option<OrderKey>,
}

/// An event, as far as sending needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its id.
    pub event: EventId,
    /// The application it belongs to.
    pub app: AppId,
    /// Its type.
    pub event_type: EventType,
    /// JSON, byte for byte as the producer gave it.
    pub data: Bytes,
    /// The producer's trace context.
    pub traceparent: Option<String>,
}

/// A row of the retries that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueRetry {
    /// The subscription's lane.
    pub lane: Lane,
    /// Event and subscription.
    pub delivery: DeliveryId,
    /// See [`OutboxKey::order`].
    pub order: Option<OrderKey>,
    /// Attempts that have ended, over all rounds.
    pub attempts_made: u16,
    /// The attempt after which the schedule started afresh.
    pub round_start: u16,
    /// When it is due.
    pub due_at: DateTime<Utc>,
}

/// A subscription, as far as sending needs it.
#[derive(Clone, Debug)]
pub struct SendingState {
    /// Its id.
    pub id: SubscriptionId,
    /// The application it belongs to.
    pub app: AppId,
    /// Its lane.
    pub lane: Lane,
    /// Whether it gets deliveries.
    pub status: SubscriptionStatus,
    /// It is deleted: what still waits for it is cancelled.
    pub deleted: bool,
    /// The version that the fields below are of.
    pub version: i32,
    /// Where to POST.
    pub url: String,
    /// Extra request headers as JSON, sealed for `headers:{subscription id}`.
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
    /// Live signing secrets, newest first, each with its end, sealed for
    /// `secret:{subscription id}`.
    pub secrets: Vec<(Sealed, Option<DateTime<Utc>>)>,
    /// It has had nothing but failures, as far as that was recorded.
    pub failing: Option<Failing>,
}

/// How a subscription is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// Its lane.
    pub lane: Lane,
    /// Its id.
    pub subscription: SubscriptionId,
    /// `None`: it works.
    pub failing: Option<Failing>,
}

/// What became of a delivery that was taken in hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The subscription's lane.
    pub lane: Lane,
    /// Event and subscription.
    pub delivery: DeliveryId,
    /// The application both belong to.
    pub app: AppId,
    /// The event's type.
    pub event_type: EventType,
    /// The row it came from.
    pub source: Source,
    /// The attempt that was made; `None` if none was, because the subscription is
    /// disabled or deleted.
    pub attempt: Option<AttemptRecord>,
    /// Where it goes.
    pub next: Next,
}

/// The row that a delivery was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The outbox.
    Outbox,
    /// The retries, with these counts.
    Retries {
        /// See [`DueRetry::attempts_made`].
        attempts_made: u16,
        /// See [`DueRetry::round_start`].
        round_start: u16,
    },
}

/// Where a delivery goes after an attempt, or instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Settled: a receiver answered 2xx.
    Delivered,
    /// Settled: a dead letter.
    Dead(DeadReason),
    /// Settled: withdrawn, because its subscription is deleted.
    Cancelled,
    /// To the retries, due then.
    Retry {
        /// When.
        due_at: DateTime<Utc>,
    },
}

/// One finished HTTP exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRecord {
    /// Counted from 1 over all rounds.
    pub number: u16,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// The subscription's version that was used.
    pub subscription_version: i32,
    /// Why it failed; `None` if it did not.
    pub error: Option<AttemptError>,
    /// The address that was connected to.
    pub remote_addr: Option<SocketAddr>,
    /// Looking up the name, if that was done.
    pub dns_ms: Option<u32>,
    /// Connecting, if that was done.
    pub connect_ms: Option<u32>,
    /// The TLS handshake, if there was one.
    pub tls_ms: Option<u32>,
    /// From the beginning to the answer's first byte, if one came.
    pub first_byte_ms: Option<u32>,
    /// From the beginning to the end.
    pub total_ms: u32,
    /// What the receiver answered, if it did.
    pub answer: Option<AttemptAnswer>,
}

/// What a receiver answered, cut to what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptAnswer {
    /// The status code.
    pub status_code: u16,
    /// Header names and values; values may be any bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body's beginning; any bytes.
    pub body: Bytes,
    /// Whether there was more of the body.
    pub truncated: bool,
}
