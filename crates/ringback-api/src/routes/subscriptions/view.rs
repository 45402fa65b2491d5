//! A subscription as it is shown.

use std::collections::BTreeMap;

use ringback_model::{Failing, PayloadFilter, RetrySpec, SubscriptionStatus, time::rfc3339};
use ringback_store::Subscription;
use serde::Serialize;
use serde_json::{Number, value::RawValue};
use utoipa::ToSchema;

use super::config;
use crate::{Api, error::ApiError, json::number};

/// An application's standing wish to have events sent to a URL.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(crate) struct SubscriptionView {
    #[schema(example = "sub_02xk6m3q9s0w1")]
    id: String,
    /// The id of the application it belongs to.
    #[schema(example = "app_02xk6m3q9s0w1")]
    app: String,
    /// Where events are sent: byte for byte as it was registered.
    url: String,
    /// Which events are sent: those that any of these matches.
    #[schema(example = json!(["order.*", "refund.created"]))]
    event_types: Vec<String>,
    /// Which of these, by what is in them: as it was given. Null for all.
    #[schema(value_type = Option<Object>, example = json!({"data.total": {"gte": 1}}))]
    payload_filter: Option<Box<RawValue>>,
    /// What is sent with each request besides. Credentials are shown as `***`.
    headers: BTreeMap<String, String>,
    description: String,
    labels: BTreeMap<String, String>,
    #[schema(value_type = crate::openapi::Retry)]
    retry: RetrySpec,
    /// How long an attempt may take, in seconds.
    #[schema(value_type = f64)]
    timeout_s: Number,
    /// How many attempts may be under way at once.
    max_in_flight: u16,
    /// How many attempts may begin in a second; null if there is no limit.
    #[schema(value_type = Option<f64>)]
    rate_per_s: Option<Number>,
    /// `none` or `fifo`.
    #[schema(value_type = String)]
    ordering: &'static str,
    /// `active`, `paused` (deliveries are held) or `disabled` (events make none).
    #[schema(value_type = String)]
    status: &'static str,
    /// Why it is not active, when it was not a person who decided that.
    status_reason: Option<String>,
    health: HealthView,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// Whether its receiver works.
#[derive(Serialize, ToSchema)]
#[schema(as = SubscriptionHealth)]
pub(crate) struct HealthView {
    /// `healthy`, or `failing`: nothing but failures for more than a minute.
    #[schema(value_type = String)]
    state: &'static str,
    /// The first failure after the last success.
    #[schema(format = DateTime)]
    failing_since: Option<String>,
    /// A failure from then on disables it, unless an attempt succeeds before.
    #[schema(format = DateTime)]
    disables_at: Option<String>,
}

/// A subscription that was just created: the only time that its secret is shown
/// without being asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedSubscription {
    #[serde(flatten)]
    pub(crate) subscription: SubscriptionView,
    /// What its requests are signed with: `whsec_` and base64.
    pub(crate) secret: String,
}

impl SubscriptionView {
    pub(crate) fn of(api: &Api, subscription: Subscription) -> Result<Self, ApiError> {
        let health = HealthView::of(&subscription);
        let config = subscription.config;
        let headers = config::open_headers(api, subscription.id, config.headers.as_ref())?;
        Ok(Self {
            id: subscription.id.to_string(),
            app: subscription.app.to_string(),
            url: config.url,
            event_types: config.event_types.iter().map(ToString::to_string).collect(),
            payload_filter: config.payload_filter.as_ref().and_then(json),
            headers: config::mask(headers),
            description: config.description,
            labels: config.labels,
            retry: config.retry,
            timeout_s: seconds(config.timeout_ms),
            max_in_flight: config.max_in_flight,
            rate_per_s: config.rate_per_s.map(number),
            ordering: config.ordering.as_str(),
            status: subscription.status.as_str(),
            status_reason: subscription.status_reason,
            health,
            created_at: rfc3339(subscription.created_at),
            updated_at: rfc3339(subscription.updated_at),
        })
    }
}

/// A filter is JSON, so this is never `None`.
fn json(filter: &PayloadFilter) -> Option<Box<RawValue>> {
    RawValue::from_string(filter.to_string()).ok()
}

impl HealthView {
    fn of(subscription: &Subscription) -> Self {
        let failing = subscription
            .failing_since
            .map(|since| Failing { since, warned: 0 });
        let is_disabled = subscription.status == SubscriptionStatus::Disabled;
        Self {
            state: if failing.is_some() {
                "failing"
            } else {
                "healthy"
            },
            failing_since: failing.map(|failing| rfc3339(failing.since)),
            disables_at: failing
                .filter(|_| !is_disabled)
                .map(|failing| rfc3339(failing.disables_at())),
        }
    }
}

/// Whole seconds are written as such: `15`, not `15.0`.
fn seconds(ms: u32) -> Number {
    number(f64::from(ms) / 1000.0)
}
