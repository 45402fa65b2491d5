//! Events that Ringback emits itself, about an application's own subscriptions.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    AttemptError, DeadReason, DeliveryId, EventId, EventType, SubscriptionId, time::serde_rfc3339,
};

/// An event that Ringback emits, in the application it is about.
///
/// ```
/// # use ringback_model::{SubscriptionId, SystemEvent, shown_url};
/// let event = SystemEvent::SubscriptionDisabled {
///     subscription: SubscriptionId::new(7),
///     url: shown_url("https://billing.example/hooks?sig=secret"),
///     reason: "410 Gone".to_owned(),
///     dead_deliveries: 3,
///     at: "2026-01-05T09:00:00.120Z".parse().unwrap(),
/// };
/// assert_eq!(event.event_type(), "ringback.subscription.disabled");
/// assert_eq!(
///     String::from_utf8_lossy(&event.data()),
///     concat!(
///         r#"{"subscription":"sub_0000000000007","url":"https://billing.example/hooks","#,
///         r#""reason":"410 Gone","dead_deliveries":3,"at":"2026-01-05T09:00:00.120Z"}"#,
///     ),
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SystemEvent {
    /// A subscription was disabled, and what waited for it is dead.
    SubscriptionDisabled {
        /// Which.
        subscription: SubscriptionId,
        /// Its URL, as [`shown_url`] gives it.
        url: String,
        /// As its `status_reason`.
        reason: String,
        /// How many waiting deliveries became dead with it.
        dead_deliveries: u64,
        /// When.
        #[serde(with = "serde_rfc3339")]
        at: DateTime<Utc>,
    },
    /// A subscription has had nothing but failures, for this part of the time after which
    /// it is disabled.
    SubscriptionFailing {
        /// Which.
        subscription: SubscriptionId,
        /// Its URL, as [`shown_url`] gives it.
        url: String,
        /// Since when nothing was delivered.
        #[serde(with = "serde_rfc3339")]
        failing_since: DateTime<Utc>,
        /// When it will be disabled if that goes on.
        #[serde(with = "serde_rfc3339")]
        disables_at: DateTime<Utc>,
        /// How much of the time until then is over.
        percent: u8,
    },
    /// A delivery is a dead letter: no attempt of it is to come.
    DeliveryDead {
        /// Which.
        delivery: DeliveryId,
        /// To whom it was to go.
        subscription: SubscriptionId,
        /// The event it is of.
        event: EventId,
        /// That event's type.
        event_type: EventType,
        /// How many attempts were made.
        attempts: u16,
        /// Why the last one failed.
        error: Option<AttemptError>,
        /// Why no other is made.
        dead_reason: DeadReason,
        /// When.
        #[serde(with = "serde_rfc3339")]
        at: DateTime<Utc>,
    },
}

impl SystemEvent {
    /// Its type: see [`EventType::is_system`].
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::SubscriptionDisabled { .. } => "ringback.subscription.disabled",
            Self::SubscriptionFailing { .. } => "ringback.subscription.failing",
            Self::DeliveryDead { .. } => "ringback.delivery.dead",
        }
    }

    /// Its data: JSON, as receivers get it.
    pub fn data(&self) -> Vec<u8> {
        // Texts, numbers and times cannot fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A subscription's URL for people: without what may be a secret in it, which is the
/// query and who logs in.
///
/// ```
/// # use ringback_model::shown_url;
/// let cases = [
///     ("https://r.example/hooks?sig=secret#part", "https://r.example/hooks"),
///     ("https://user:pass@r.example:8443/a@b", "https://r.example:8443/a@b"),
///     ("https://r.example", "https://r.example"),
/// ];
/// for (url, shown) in cases {
///     assert_eq!(shown_url(url), shown);
/// }
/// ```
pub fn shown_url(url: &str) -> String {
    let sent = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = sent.split_once("://") else {
        return sent.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn what_receivers_get_is_as_documented() {
        let subscription = SubscriptionId::new(7);
        let event = EventId::new(9);
        let delivery = DeliveryId {
            event,
            subscription,
        };
        let cases = [
            (
                SystemEvent::SubscriptionFailing {
                    subscription,
                    url: "https://billing.example/hooks".to_owned(),
                    failing_since: at("2026-01-05T09:00:00Z"),
                    disables_at: at("2026-01-10T09:00:00Z"),
                    percent: 50,
                },
                "ringback.subscription.failing",
                r#"{"subscription":"sub_0000000000007","url":"https://billing.example/hooks","failing_since":"2026-01-05T09:00:00.000Z","disables_at":"2026-01-10T09:00:00.000Z","percent":50}"#,
            ),
            (
                SystemEvent::DeliveryDead {
                    delivery,
                    subscription,
                    event,
                    event_type: "order.paid".parse().unwrap(),
                    attempts: 10,
                    error: Some(AttemptError::HttpStatus),
                    dead_reason: DeadReason::OutOfAttempts,
                    at: at("2026-01-08T12:35:00Z"),
                },
                "ringback.delivery.dead",
                r#"{"delivery":"dlv_00000000000090000000000007","subscription":"sub_0000000000007","event":"evt_0000000000009","event_type":"order.paid","attempts":10,"error":"http_status","dead_reason":"out_of_attempts","at":"2026-01-08T12:35:00.000Z"}"#,
            ),
        ];
        for (event, event_type, data) in cases {
            assert_eq!(event.event_type(), event_type);
            assert_eq!(String::from_utf8(event.data()).unwrap(), data);
            assert!(event_type.parse::<EventType>().unwrap().is_system());
        }
    }
}
