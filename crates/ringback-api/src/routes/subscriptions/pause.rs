//! `POST /v1/subscriptions/{sub}/pause` and `/resume`

use axum::{extract::State, response::Response};
use ringback_model::SubscriptionId;
use ringback_store::Subscription;

use super::{etag, view::SubscriptionView};
use crate::{
    Api,
    auth::Caller,
    body::{NoFields, OptionalJsonBody},
    error::ApiError,
    json::Json,
    routes::path::Named,
};

/// Pause a subscription
///
/// Its deliveries are made and held until it is resumed.
#[utoipa::path(
    post,
    path = "/v1/subscriptions/{sub}/pause",
    tag = "subscriptions",
    operation_id = "pause_subscription",
    params(("sub" = String, Path, description = "Its id.")),
    responses((status = 200, description = "As it is now.", body = SubscriptionView))
)]
pub(crate) async fn pause(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<SubscriptionId>,
    OptionalJsonBody(NoFields {}): OptionalJsonBody<NoFields>,
) -> Result<Response, ApiError> {
    let paused = api
        .store()
        .pause_subscription(id, caller.within(), api.now())
        .await?;
    answer(&api, paused)
}

/// Resume a subscription
///
/// What is held is due at once. One that was disabled gets events again.
#[utoipa::path(
    post,
    path = "/v1/subscriptions/{sub}/resume",
    tag = "subscriptions",
    operation_id = "resume_subscription",
    params(("sub" = String, Path, description = "Its id.")),
    responses((status = 200, description = "As it is now.", body = SubscriptionView))
)]
pub(crate) async fn resume(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<SubscriptionId>,
    OptionalJsonBody(NoFields {}): OptionalJsonBody<NoFields>,
) -> Result<Response, ApiError> {
    let resumed = api
        .store()
        .resume_subscription(id, caller.within(), api.now())
        .await?;
    answer(&api, resumed)
}

fn answer(api: &Api, changed: Option<Subscription>) -> Result<Response, ApiError> {
    let subscription = changed.ok_or(ApiError::not_found("subscription"))?;
    api.subscription_changed(subscription.app, subscription.id);
    let tag = etag(&subscription);
    Ok(tag.put_on(Json(SubscriptionView::of(api, subscription)?)))
}
