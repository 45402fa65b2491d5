//! `POST /v1/events`

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::Serialize;

use super::{
    draft::{Draft, PublishEvent},
    intake::{AcceptedEvent, Intake, traceparent},
};
use crate::{
    Api,
    auth::Caller,
    body::{self, MAX_BYTES},
    error::ApiError,
    idempotency::{self, REPLAYED},
    json::Json,
};

/// Emit an event
///
/// The answer means that the event and its deliveries are on disk.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    operation_id = "publish_event",
    request_body = PublishEvent,
    responses((status = 202, description = "It is accepted.", body = AcceptedEvent))
)]
pub(crate) async fn publish(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    body::check_content_type(&Method::POST, &headers)?;
    let body = body::read(body, MAX_BYTES).await?;
    let draft = Draft::check(body::parse(&body)?, "", api.now())?;
    let intake = Intake {
        drafts: vec![draft],
        idempotency: idempotency::key_of(&headers, &caller, uri.path(), &body)?,
        traceparent: traceparent(&headers),
        place: &|_| String::new(),
    };
    let done = intake.accept(&api, &caller).await?;
    // One event went in, so one answer came out.
    let event = done
        .accepted
        .first()
        .copied()
        .ok_or(ApiError::Internal(None))?;
    Ok(answer(done.replayed, AcceptedEvent::from(event)))
}

/// 202, and whether it was said before.
pub(super) fn answer(replayed: bool, view: impl Serialize) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(view)).into_response();
    if replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}
