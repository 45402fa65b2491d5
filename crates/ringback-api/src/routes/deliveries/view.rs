//! A delivery as it is shown.

use ringback_model::{DeadReason, time::rfc3339};
use ringback_store::Delivery;
use serde::Serialize;
use utoipa::ToSchema;

/// One event on its way to one subscription.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryView {
    #[schema(example = "dlv_02xk6m3q9s0w102xk6m3q9s0w2")]
    id: String,
    /// The id of the application that both belong to.
    app: String,
    /// The subscription's id.
    subscription: String,
    /// The event's id.
    event: String,
    #[schema(example = "order.paid")]
    event_type: String,
    /// `pending`, `retrying`, `delivered`, `dead`, `held` or `cancelled`.
    #[schema(value_type = String)]
    status: &'static str,
    /// Attempts that have ended.
    attempts: u16,
    /// When the next one is due; null if none is to come, or while it is held.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    /// How the last attempt ended; null before the first.
    last_attempt: Option<LastAttempt>,
    /// Why it is not delivered: the last attempt's error; `subscription_disabled` or
    /// `payload_expired` if it is dead for that.
    #[schema(value_type = Option<String>, example = "http_status")]
    error: Option<&'static str>,
    /// When the event was accepted.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was delivered, given up or cancelled.
    #[schema(format = DateTime)]
    settled_at: Option<String>,
}

/// How an attempt ended, in short.
#[derive(Serialize, ToSchema)]
pub(crate) struct LastAttempt {
    number: u16,
    status_code: Option<u16>,
    #[schema(value_type = Option<String>)]
    error: Option<&'static str>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        let last_error = delivery.last_error.map(|error| error.as_str());
        let last_attempt = (delivery.attempts > 0).then_some(LastAttempt {
            number: delivery.attempts,
            status_code: delivery.last_status_code,
            error: last_error,
        });
        let error = match delivery.dead_reason {
            Some(reason @ (DeadReason::SubscriptionDisabled | DeadReason::PayloadExpired)) => {
                Some(reason.as_str())
            }
            Some(DeadReason::OutOfAttempts) | None => last_error,
        };
        Self {
            id: delivery.id.to_string(),
            app: delivery.app.to_string(),
            subscription: delivery.id.subscription.to_string(),
            event: delivery.id.event.to_string(),
            event_type: delivery.event_type.to_string(),
            status: delivery.status.as_str(),
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at.map(rfc3339),
            last_attempt,
            error,
            created_at: rfc3339(delivery.id.event.time()),
            settled_at: delivery.settled_at.map(rfc3339),
        }
    }
}
