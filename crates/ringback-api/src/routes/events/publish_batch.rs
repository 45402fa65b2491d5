//! `POST /v1/events/batch`

use axum::{body::Body, extract::State, response::Response};
use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    draft::{Draft, PublishEvent},
    intake::{AcceptedEvent, Intake, traceparent},
    publish::answer,
};
use crate::{
    Api,
    auth::Caller,
    body::{self, MAX_BATCH_BYTES},
    error::ApiError,
    idempotency,
    problem::Fault,
};

const MAX_EVENTS: usize = 500;

/// Events to be accepted all together, or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishEvents<'a> {
    /// 1 to 500, of one application or several.
    #[serde(borrow)]
    events: Vec<PublishEvent<'a>>,
}

/// Events that are on disk.
#[derive(Serialize, ToSchema)]
pub(crate) struct AcceptedEvents {
    /// One per event, in order.
    data: Vec<AcceptedEvent>,
}

/// Emit events: all of them, or none
#[utoipa::path(
    post,
    path = "/v1/events/batch",
    tag = "events",
    operation_id = "publish_events",
    request_body = PublishEvents,
    responses((status = 202, description = "They are accepted.", body = AcceptedEvents))
)]
pub(crate) async fn publish_batch(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    body::check_content_type(&Method::POST, &headers)?;
    let body = body::read(body, MAX_BATCH_BYTES).await?;
    let intake = Intake {
        drafts: check(body::parse(&body)?, api.now())?,
        idempotency: idempotency::key_of(&headers, &caller, uri.path(), &body)?,
        traceparent: traceparent(&headers),
        place: &place,
    };
    let done = intake.accept(&api, &caller).await?;
    let data = done.accepted.into_iter().map(AcceptedEvent::from).collect();
    Ok(answer(done.replayed, AcceptedEvents { data }))
}

fn place(index: usize) -> String {
    format!("/events/{index}")
}

/// The faults of all events are told in one answer.
fn check(body: PublishEvents<'_>, now: DateTime<Utc>) -> Result<Vec<Draft>, ApiError> {
    if !(1..=MAX_EVENTS).contains(&body.events.len()) {
        let detail = format!("must have 1 to {MAX_EVENTS} events");
        return Err(ApiError::Invalid(vec![Fault::new(
            "/events",
            "bad_count",
            detail,
        )]));
    }
    let (mut drafts, mut faults) = (Vec::with_capacity(body.events.len()), Vec::new());
    for (index, event) in body.events.into_iter().enumerate() {
        match Draft::check(event, &place(index), now) {
            Ok(draft) => drafts.push(draft),
            Err(ApiError::Invalid(found)) => faults.extend(found),
            Err(other) => return Err(other),
        }
    }
    if faults.is_empty() {
        Ok(drafts)
    } else {
        Err(ApiError::Invalid(faults))
    }
}
