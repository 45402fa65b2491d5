//! `GET /v1/subscriptions/{sub}`

use axum::{extract::State, response::Response};
use http::HeaderMap;
use ringback_model::SubscriptionId;

use super::{etag, view::SubscriptionView, visible};
use crate::{Api, auth::Caller, error::ApiError, routes::path::Named};

/// Get a subscription
#[utoipa::path(
    get,
    path = "/v1/subscriptions/{sub}",
    tag = "subscriptions",
    operation_id = "get_subscription",
    params(("sub" = String, Path, description = "Its id.")),
    responses((status = 200, description = "Here it is.", body = SubscriptionView))
)]
pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<SubscriptionId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let subscription = visible(&api, &caller, id).await?;
    let tag = etag(&subscription);
    Ok(tag.answer(&headers, &SubscriptionView::of(&api, subscription)?))
}
