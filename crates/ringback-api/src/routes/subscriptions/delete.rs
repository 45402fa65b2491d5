//! `DELETE /v1/subscriptions/{sub}`

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use ringback_model::SubscriptionId;

use super::{etag, visible};
use crate::{Api, auth::Caller, error::ApiError, routes::path::Named};

/// Delete a subscription
///
/// What waits for it is cancelled; what was delivered can still be looked up.
#[utoipa::path(
    delete,
    path = "/v1/subscriptions/{sub}",
    tag = "subscriptions",
    operation_id = "delete_subscription",
    params(("sub" = String, Path, description = "Its id.")),
    responses((status = 204, description = "It is deleted."))
)]
pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<SubscriptionId>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let subscription = visible(&api, &caller, id).await?;
    etag(&subscription).check_if_match(&headers)?;
    if !api
        .store()
        .delete_subscription(id, caller.within(), api.now())
        .await?
    {
        return Err(ApiError::not_found("subscription"));
    }
    api.subscription_changed(subscription.app, id);
    Ok(StatusCode::NO_CONTENT)
}
