//! `POST /v1/deliveries/{dlv}/cancel`

use axum::extract::State;
use ringback_model::DeliveryId;
use ringback_store::{CancelOutcome, Hint};

use super::view::DeliveryView;
use crate::{
    Api,
    auth::Caller,
    body::{NoFields, OptionalJsonBody},
    error::ApiError,
    json::Json,
    routes::path::Named,
};

/// Withdraw a delivery
///
/// An attempt that is under way is recorded when it ends; nothing follows it.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{dlv}/cancel",
    tag = "deliveries",
    operation_id = "cancel_delivery",
    params(("dlv" = String, Path, description = "The delivery's id.")),
    responses((status = 200, description = "It is withdrawn.", body = DeliveryView))
)]
pub(crate) async fn cancel(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<DeliveryId>,
    OptionalJsonBody(NoFields {}): OptionalJsonBody<NoFields>,
) -> Result<Json<DeliveryView>, ApiError> {
    match api.store().cancel(id, caller.within(), api.now()).await? {
        CancelOutcome::Cancelled(delivery) => {
            api.store().hint(Hint::Withdrawn(id));
            Ok(Json(delivery.into()))
        }
        CancelOutcome::Settled(status) => Err(ApiError::conflict(
            "settled",
            format!("it is `{status}` already"),
        )),
        CancelOutcome::NotFound => Err(ApiError::not_found("delivery")),
    }
}
