//! `PATCH /v1/subscriptions/{sub}`

use axum::{extract::State, response::Response};
use http::HeaderMap;
use ringback_model::{Ordering, RetrySpec, SubscriptionId};
use ringback_store::{Changed, Sealed, Subscription, SubscriptionChange};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{config, etag, view::SubscriptionView, visible};
use crate::{
    Api,
    auth::Caller,
    body::JsonBody,
    error::ApiError,
    faults::Faults,
    json::Json,
    patch::{MapPatch, Patch, TRIES},
    routes::path::Named,
};

/// What to change of a subscription: fields left out stay as they are, `null` sets the
/// default.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateSubscription {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    url: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Patch<Vec<String>>,
    /// Replaced as a whole.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    payload_filter: Patch<Box<RawValue>>,
    /// Merged with what is there; `null` removes a header.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    headers: MapPatch,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    /// Merged with what is there; `null` removes a label.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    labels: MapPatch,
    /// Replaced as a whole.
    #[serde(default)]
    #[schema(value_type = Option<crate::openapi::Retry>)]
    retry: Patch<RetrySpec>,
    #[serde(default)]
    #[schema(value_type = Option<f64>)]
    timeout_s: Patch<f64>,
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    max_in_flight: Patch<i64>,
    #[serde(default)]
    #[schema(value_type = Option<f64>)]
    rate_per_s: Patch<f64>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    ordering: Patch<String>,
}

/// Change a subscription
///
/// What waits for it is sent as it is now. Its secret is changed by `/rotate-secret`.
#[utoipa::path(
    patch,
    path = "/v1/subscriptions/{sub}",
    tag = "subscriptions",
    operation_id = "update_subscription",
    params(("sub" = String, Path, description = "Its id.")),
    request_body(content = UpdateSubscription, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "As it is now.", body = SubscriptionView))
)]
pub(crate) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<SubscriptionId>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<UpdateSubscription>,
) -> Result<Response, ApiError> {
    for _ in 0..TRIES {
        let present = visible(&api, &caller, id).await?;
        let knows = etag(&present).check_if_match(&headers)?;
        // Merged with what was just read, so that must still be there.
        let expected = Some(present.version);
        let change = parse(&api, present, body.clone())?;
        let within = caller.within();
        match api
            .store()
            .update_subscription(id, within, change, expected, api.now())
            .await?
        {
            Changed::Done(subscription) => {
                api.subscription_changed(subscription.app, id);
                let tag = etag(&subscription);
                return Ok(tag.put_on(Json(SubscriptionView::of(&api, subscription)?)));
            }
            // A subscription has no name that could be taken.
            Changed::NotFound | Changed::NameTaken => {
                return Err(ApiError::not_found("subscription"));
            }
            Changed::Outdated if knows => break,
            Changed::Outdated => {}
        }
    }
    Err(ApiError::OutOfDate)
}

fn parse(
    api: &Api,
    present: Subscription,
    body: UpdateSubscription,
) -> Result<SubscriptionChange, ApiError> {
    let mut faults = Faults::default();
    let url = match body.url {
        Patch::Keep => None,
        Patch::Reset => {
            faults.add("/url", "missing", "cannot be removed");
            None
        }
        Patch::Set(url) => Some(config::url(&mut faults, url, &api.config().targets)),
    };
    let headers = merge_headers(api, &mut faults, &present, body.headers)?;
    let event_types = body.event_types.or_reset_to(Vec::new);
    let payload_filter = match body.payload_filter {
        Patch::Keep => None,
        Patch::Reset => Some(None),
        Patch::Set(json) => Some(config::payload_filter(&mut faults, &json)),
    };
    let timeout_s = body.timeout_s.or_reset_to(|| config::DEFAULT_TIMEOUT_S);
    let max_in_flight = body
        .max_in_flight
        .or_reset_to(|| config::DEFAULT_MAX_IN_FLIGHT);
    let change = SubscriptionChange {
        url,
        event_types: event_types.map(|types| config::event_types(&mut faults, &types)),
        payload_filter,
        headers,
        retry: body
            .retry
            .or_reset_to(RetrySpec::default)
            .map(|it| config::retry(&mut faults, it)),
        timeout_ms: timeout_s.map(|seconds| config::timeout_ms(&mut faults, seconds)),
        max_in_flight: max_in_flight.map(|number| config::max_in_flight(&mut faults, number)),
        rate_per_s: match body.rate_per_s {
            Patch::Keep => None,
            Patch::Reset => Some(None),
            Patch::Set(rate) => Some(Some(config::rate_per_s(&mut faults, rate))),
        },
        ordering: match body.ordering {
            Patch::Keep => None,
            Patch::Reset => Some(Ordering::None),
            Patch::Set(text) => Some(config::ordering(&mut faults, Some(&text))),
        },
        description: body.description.or_reset_to(String::new),
        labels: body.labels.merge_into(present.config.labels),
    };
    if let Some(description) = &change.description {
        faults.check_text("/description", description, config::MAX_DESCRIPTION_CHARS);
    }
    if let Some(labels) = &change.labels {
        faults.check_pairs("/labels", "label", labels);
    }
    faults.finish()?;
    Ok(change)
}

/// Header names have no case, so what is to be merged is put into the one that is
/// stored.
fn merge_headers(
    api: &Api,
    faults: &mut Faults,
    present: &Subscription,
    patch: MapPatch,
) -> Result<Option<Option<Sealed>>, ApiError> {
    let patch = match patch {
        Patch::Keep => return Ok(None),
        Patch::Reset => Patch::Reset,
        Patch::Set(changes) => {
            let set =
                |(name, value): (&String, &Option<String>)| Some((name.clone(), value.clone()?));
            config::check_each_header(faults, &changes.iter().filter_map(set).collect());
            let lower = |(name, value): (String, _)| (name.to_ascii_lowercase(), value);
            Patch::Set(changes.into_iter().map(lower).collect())
        }
    };
    let stored = config::open_headers(api, present.id, present.config.headers.as_ref())?;
    let merged = patch.merge_into(stored).unwrap_or_default();
    let headers = config::all_headers(faults, merged);
    Ok(Some(config::seal_headers(api, present.id, &headers)))
}
