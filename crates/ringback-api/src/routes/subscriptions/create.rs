//! `POST /v1/apps/{app}/subscriptions`

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use http::{
    StatusCode,
    header::{CACHE_CONTROL, LOCATION},
};
use ringback_model::{AppId, RetrySpec, SubscriptionId};
use ringback_signature::SigningSecret;
use ringback_store::{AppRef, NewSubscription, SubscriptionConfig, SubscriptionKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    config, etag, secret_context,
    view::{CreatedSubscription, SubscriptionView},
};
use crate::{
    Api,
    auth::Caller,
    body::JsonBody,
    error::ApiError,
    faults::Faults,
    json::Json,
    routes::path::{Named, visible_app},
};

/// A subscription to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateSubscription {
    /// Where to send events: `https`, on the public internet.
    #[schema(example = "https://billing.example/hooks")]
    url: String,
    /// Which events to send: types like `order.paid`, prefixes like `order.*`, or `*`.
    /// Every type if left out. At most 100.
    #[schema(example = json!(["order.*", "refund.created"]))]
    event_types: Option<Vec<String>>,
    /// Which of these events to send, by what is in them: a path like `data.total`,
    /// `labels.region` or `type` to a value, or to operators (`eq ne in nin gt gte lt lte
    /// exists prefix`); or `any`, `all`, `not`. All members must hold.
    #[schema(value_type = Option<Object>, example = json!({"data.total": {"gte": 1}}))]
    payload_filter: Option<Box<RawValue>>,
    /// What to sign requests with: `whsec_` and 24 to 64 bytes in base64. Made if left
    /// out.
    secret: Option<String>,
    /// What to send with each request besides. At most 20, of 16 KiB in all.
    headers: Option<BTreeMap<String, String>>,
    description: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    /// When to try again; the preset `standard` if left out.
    #[schema(value_type = Option<crate::openapi::Retry>)]
    retry: Option<RetrySpec>,
    /// How long an attempt may take: 1 to 30 seconds, 15 if left out.
    timeout_s: Option<f64>,
    /// How many attempts may be under way at once: 1 to 1000, 10 if left out.
    max_in_flight: Option<i64>,
    /// How many attempts may begin in a second, at most 10 000; no limit if left out or
    /// null. May be a fraction.
    rate_per_s: Option<f64>,
    /// `none`, or `fifo`: events with the same `ordering_key` in the order of their
    /// acceptance, each only when the one before is delivered, dead or cancelled.
    ordering: Option<String>,
}

/// Create a subscription
///
/// It gets every event that is accepted after the answer. The secret is in this answer
/// only, and at `/v1/subscriptions/{sub}/secret`.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/subscriptions",
    tag = "subscriptions",
    operation_id = "create_subscription",
    params(("app" = String, Path, description = "The application's id or slug.")),
    request_body = CreateSubscription,
    responses((status = 201, description = "It is created.", body = CreatedSubscription))
)]
pub(crate) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Named(app): Named<AppRef>,
    JsonBody(body): JsonBody<CreateSubscription>,
) -> Result<Response, ApiError> {
    let app = visible_app(&api, &caller, &app).await?;
    let (subscription, secret) = parse(&api, app.id, body)?;
    let created = api
        .store()
        .create_subscription(subscription, api.now())
        .await?;
    let created = created.ok_or(ApiError::not_found("application"))?;
    api.subscription_changed(created.app, created.id);
    let (tag, location) = (etag(&created), format!("/v1/subscriptions/{}", created.id));
    let subscription = SubscriptionView::of(&api, created)?;
    let view = Json(CreatedSubscription {
        subscription,
        secret: secret.reveal(),
    });
    let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned())];
    Ok(tag.put_on((StatusCode::CREATED, headers, view)))
}

fn parse(
    api: &Api,
    app: AppId,
    body: CreateSubscription,
) -> Result<(NewSubscription, SigningSecret), ApiError> {
    let id = SubscriptionId::new(api.next_id()?);
    let mut faults = Faults::default();
    let secret = config::secret(&mut faults, body.secret.as_deref());
    let headers = config::headers(&mut faults, body.headers.unwrap_or_default());
    let timeout_s = body.timeout_s.unwrap_or(config::DEFAULT_TIMEOUT_S);
    let max_in_flight = body.max_in_flight.unwrap_or(config::DEFAULT_MAX_IN_FLIGHT);
    let config = SubscriptionConfig {
        url: config::url(&mut faults, body.url, &api.config().targets),
        event_types: config::event_types(&mut faults, &body.event_types.unwrap_or_default()),
        payload_filter: body
            .payload_filter
            .and_then(|json| config::payload_filter(&mut faults, &json)),
        headers: config::seal_headers(api, id, &headers),
        retry: config::retry(&mut faults, body.retry.unwrap_or_default()),
        timeout_ms: config::timeout_ms(&mut faults, timeout_s),
        max_in_flight: config::max_in_flight(&mut faults, max_in_flight),
        rate_per_s: body
            .rate_per_s
            .map(|rate| config::rate_per_s(&mut faults, rate)),
        ordering: config::ordering(&mut faults, body.ordering.as_deref()),
        description: body.description.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
    };
    faults.check_text(
        "/description",
        &config.description,
        config::MAX_DESCRIPTION_CHARS,
    );
    faults.check_pairs("/labels", "label", &config.labels);
    let secret = faults.finish_with(secret)?;
    let sealed = api
        .vault()
        .seal(&secret_context(id), secret.reveal().as_bytes());
    let kind = SubscriptionKind::Standard;
    Ok((
        NewSubscription {
            id,
            app,
            kind,
            config,
            secret: sealed,
        },
        secret,
    ))
}
