//! `GET /v1/apps/{app}`

use axum::{extract::State, response::Response};
use http::HeaderMap;
use ringback_store::AppRef;

use super::{AppView, etag};
use crate::{
    Api,
    auth::Caller,
    error::ApiError,
    routes::path::{Named, visible_app},
};

/// Get an application
#[utoipa::path(
    get,
    path = "/v1/apps/{app}",
    tag = "applications",
    operation_id = "get_app",
    params(("app" = String, Path, description = "Its id or slug.")),
    responses((status = 200, description = "Here it is.", body = AppView))
)]
pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Named(app): Named<AppRef>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let app = visible_app(&api, &caller, &app).await?;
    Ok(etag(&app).answer(&headers, &AppView::new(&api, app)))
}
