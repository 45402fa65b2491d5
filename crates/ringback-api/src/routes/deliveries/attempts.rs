//! `GET /v1/deliveries/{dlv}/attempts`

use axum::extract::State;
use ringback_model::{DeliveryId, Scope};
use ringback_store::Attempt;

use super::attempt_view::AttemptView;
use crate::{
    Api,
    auth::Caller,
    error::ApiError,
    json::Json,
    list::List,
    routes::{path::Named, subscriptions::open_headers},
};

/// List a delivery's attempts, first to last
///
/// All of them: a delivery has few.
#[utoipa::path(
    get,
    path = "/v1/deliveries/{dlv}/attempts",
    tag = "deliveries",
    operation_id = "list_attempts",
    params(("dlv" = String, Path, description = "The delivery's id.")),
    responses((status = 200, description = "Here they are.", body = List<AttemptView>))
)]
pub(crate) async fn attempts(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<DeliveryId>,
) -> Result<Json<List<AttemptView>>, ApiError> {
    let attempts = api.store().attempts(id, caller.within()).await?;
    let attempts = attempts.ok_or(ApiError::not_found("delivery"))?;
    let with_body = caller.may(Scope::PayloadsRead);
    let view = |attempt: Attempt| {
        let own = open_headers(&api, id.subscription, attempt.headers.as_ref())?;
        Ok(AttemptView::of(id, attempt, own.into_keys(), with_body))
    };
    let data = attempts
        .into_iter()
        .map(view)
        .collect::<Result<_, ApiError>>()?;
    Ok(Json(List {
        data,
        next_cursor: None,
    }))
}
