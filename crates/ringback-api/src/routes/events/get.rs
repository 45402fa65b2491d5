//! `GET /v1/events/{evt}`

use axum::{extract::State, response::Response};
use http::HeaderMap;
use ringback_model::EventId;

use super::view::EventView;
use crate::{Api, auth::Caller, error::ApiError, etag, routes::path::Named};

/// Get an event
#[utoipa::path(
    get,
    path = "/v1/events/{evt}",
    tag = "events",
    operation_id = "get_event",
    params(("evt" = String, Path, description = "Its id.")),
    responses((status = 200, description = "Here it is.", body = EventView))
)]
pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<EventId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let event = api.store().event(id, caller.within()).await?;
    let event = event.ok_or(ApiError::not_found("event"))?;
    Ok(etag::answer_by_content(
        &headers,
        &EventView::of(&caller, event)?,
    ))
}
