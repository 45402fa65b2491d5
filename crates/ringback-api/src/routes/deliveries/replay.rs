//! `POST /v1/deliveries/{dlv}/replay`

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header::LOCATION};
use ringback_model::{DeliveryId, Lane};
use ringback_store::{Hint, ReplayOutcome};

use super::view::DeliveryView;
use crate::{
    Api,
    auth::Caller,
    body::{NoFields, OptionalJsonBody},
    error::ApiError,
    json::Json,
    routes::path::Named,
};

/// Send an event again
///
/// The same `webhook-id` and bytes, a new timestamp and signature. What waits for a
/// retry is sent at once; what is pending stays as it is.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{dlv}/replay",
    tag = "deliveries",
    operation_id = "replay_delivery",
    params(("dlv" = String, Path, description = "The delivery's id.")),
    responses((status = 202, description = "It is due.", body = DeliveryView))
)]
pub(crate) async fn replay(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<DeliveryId>,
    OptionalJsonBody(NoFields {}): OptionalJsonBody<NoFields>,
) -> Result<Response, ApiError> {
    let delivery = match api.store().replay(id, caller.within(), api.now()).await? {
        ReplayOutcome::Due(delivery) => {
            api.store()
                .hint(Hint::Due(Lane::of(id.subscription), id.subscription));
            delivery
        }
        ReplayOutcome::AlreadyPending(delivery) => delivery,
        ReplayOutcome::NotFound => return Err(ApiError::not_found("delivery")),
        refused => return Err(refusal(&refused)),
    };
    let location = format!("/v1/deliveries/{id}");
    let view = Json(DeliveryView::from(delivery));
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], view).into_response())
}

fn refusal(outcome: &ReplayOutcome) -> ApiError {
    let (code, detail) = match outcome {
        ReplayOutcome::Held => (
            "held",
            "its subscription is paused: resume it, and what it holds is sent",
        ),
        ReplayOutcome::SubscriptionDisabled => (
            "subscription_disabled",
            "its subscription is disabled: resume it first",
        ),
        ReplayOutcome::SubscriptionGone => ("subscription_gone", "its subscription is deleted"),
        ReplayOutcome::PayloadExpired => (
            "payload_expired",
            "the event's data is no longer kept, or goes within the hour",
        ),
        ReplayOutcome::Due(_) | ReplayOutcome::AlreadyPending(_) | ReplayOutcome::NotFound => {
            return ApiError::Internal(None);
        }
    };
    ApiError::conflict(code, detail)
}
