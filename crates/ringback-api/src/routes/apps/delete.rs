//! `DELETE /v1/apps/{app}`

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use ringback_store::AppRef;

use super::etag;
use crate::{
    Api,
    auth::Caller,
    error::ApiError,
    routes::path::{Named, visible_app},
};

/// Delete an application
///
/// Its subscriptions are deleted with it: what waits for them is cancelled. What was
/// delivered can still be looked up.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}",
    tag = "applications",
    operation_id = "delete_app",
    params(("app" = String, Path, description = "Its id or slug.")),
    responses((status = 204, description = "It is deleted."))
)]
pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Named(app): Named<AppRef>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let app = visible_app(&api, &caller, &app).await?;
    etag(&app).check_if_match(&headers)?;
    if !api.store().delete_app(app.id, api.now()).await? {
        return Err(ApiError::not_found("application"));
    }
    api.app_deleted(app.id);
    Ok(StatusCode::NO_CONTENT)
}
