//! `GET /v1/deliveries/{dlv}`

use axum::{extract::State, response::Response};
use http::HeaderMap;
use ringback_model::DeliveryId;

use super::view::DeliveryView;
use crate::{Api, auth::Caller, error::ApiError, etag, routes::path::Named};

/// Get a delivery
#[utoipa::path(
    get,
    path = "/v1/deliveries/{dlv}",
    tag = "deliveries",
    operation_id = "get_delivery",
    params(("dlv" = String, Path, description = "Its id.")),
    responses((status = 200, description = "Here it is.", body = DeliveryView))
)]
pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<DeliveryId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let delivery = api.store().delivery(id, caller.within()).await?;
    let delivery = delivery.ok_or(ApiError::not_found("delivery"))?;
    Ok(etag::answer_by_content(
        &headers,
        &DeliveryView::from(delivery),
    ))
}
