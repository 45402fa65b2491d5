//! `DELETE /v1/keys/{key}`

use axum::extract::State;
use http::StatusCode;
use ringback_model::KeyId;

use crate::{Api, auth::Caller, error::ApiError, routes::path::Named};

/// Revoke an API key
///
/// It stops working at once here, and within five seconds on other nodes.
#[utoipa::path(
    delete,
    path = "/v1/keys/{key}",
    tag = "keys",
    operation_id = "revoke_key",
    params(("key" = String, Path, description = "The key's id, not the key.")),
    responses((status = 204, description = "It is revoked."))
)]
pub(crate) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<KeyId>,
) -> Result<StatusCode, ApiError> {
    if !api
        .store()
        .revoke_key(id, caller.within(), api.now())
        .await?
    {
        return Err(ApiError::not_found("key"));
    }
    api.keys().forget(id);
    Ok(StatusCode::NO_CONTENT)
}
