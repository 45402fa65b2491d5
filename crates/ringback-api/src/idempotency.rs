//! `Idempotency-Key`: a POST that is sent again does nothing, and is answered the
//! same.
//!
//! Events have it in the commit that accepts them, see `routes::events`. For all
//! other routes, this layer remembers the answer. What was begun is run to its end
//! also when the caller goes away, so that its answer is there for the next try.

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION},
};
use http_body_util::BodyExt;
use ringback_store::{BegunRequest, IdempotencyKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Api,
    auth::Caller,
    body,
    error::{ApiError, InternalCause},
    request::{self, RequestId},
};

/// Says that an answer was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY_BYTES: usize = 255;
/// What is remembered of an answer beside its status and body.
const KEPT_HEADERS: [HeaderName; 4] = [CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION];

/// The request's key, if it has one.
///
/// - `path`: without the query, which no POST takes.
pub(crate) fn key_of(
    headers: &HeaderMap,
    caller: &Caller,
    path: &str,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut given = headers.get_all(KEY).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let is_fit = (1..=MAX_KEY_BYTES).contains(&value.len())
        && value.as_bytes().iter().all(u8::is_ascii_graphic)
        && given.next().is_none();
    if !is_fit {
        let detail = "`Idempotency-Key` is 1 to 255 visible ASCII characters, given once";
        return Err(ApiError::Malformed {
            code: "bad_idempotency_key",
            detail: detail.to_owned(),
        });
    }
    let body_hash = Sha256::new()
        .chain_update(b"POST\0")
        .chain_update(path)
        .chain_update(b"\0")
        .chain_update(body)
        .finalize();
    Ok(Some(IdempotencyKey {
        api_key: caller.key(),
        key_hash: Sha256::digest(value).into(),
        body_hash: body_hash.into(),
    }))
}

/// Wraps the POST routes other than events.
pub(crate) async fn remember(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !request.headers().contains_key(KEY) {
        return Ok(next.run(request).await);
    }
    let (parts, body) = request.into_parts();
    let body = body::read(body, body::MAX_BYTES).await?;
    let Some(key) = key_of(&parts.headers, &caller, parts.uri.path(), &body)? else {
        return Ok(next.run(Request::from_parts(parts, Body::from(body))).await);
    };
    match api.store().begin_request(key, api.now()).await? {
        BegunRequest::New => {}
        BegunRequest::Running => return Err(ApiError::StillRunning),
        BegunRequest::Reused => return Err(ApiError::KeyReused),
        BegunRequest::Finished(sealed) => {
            let opened = api.vault().open(&context(key), &sealed)?;
            return Answer::read(&opened).map(Answer::replay);
        }
    }
    let request = Request::from_parts(parts, Body::from(body));
    let running = tokio::spawn(run(api, key, request, next));
    running.await.map_err(|_| InternalCause::TaskDied.into())
}

async fn run(api: Api, key: IdempotencyKey, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let mut response = next.run(request).await;
    if let Some(id) = id {
        // A refusal is remembered as it is shown.
        response = request::render(response, &id);
    }
    let (parts, body) = response.into_parts();
    // The bodies of our answers are in memory already.
    let body = body
        .collect()
        .await
        .map_or_else(|_| Bytes::new(), |body| body.to_bytes());
    let seal = || {
        api.vault()
            .seal(&context(key), &Answer::of(&parts, &body).write())
    };
    let answer = is_lasting(parts.status).then(seal);
    if let Err(error) = api.store().finish_request(key, answer, api.now()).await {
        // What was done is done: the caller learns of it now, if not a second time.
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "an answer could not be remembered");
    }
    Response::from_parts(parts, Body::from(body))
}

/// Whether the same request would be answered the same for ever. Where that hangs on
/// the state of things, trying again may do better, and nothing was done.
fn is_lasting(status: StatusCode) -> bool {
    status.is_success()
        || matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::UNPROCESSABLE_ENTITY
        )
}

/// What an answer is sealed for: one API key's answers cannot pass for another's.
fn context(key: IdempotencyKey) -> String {
    format!("answer:{}", key.api_key)
}

/// An answer as it is remembered.
#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn of(parts: &http::response::Parts, body: &[u8]) -> Self {
        let kept = KEPT_HEADERS.iter().filter_map(|name| {
            let value = parts.headers.get(name)?.to_str().ok()?;
            Some((name.to_string(), value.to_owned()))
        });
        Self {
            status: parts.status.as_u16(),
            headers: kept.collect(),
            // All our bodies are JSON.
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }

    fn write(&self) -> Vec<u8> {
        // Texts and numbers: serialising them cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(bytes).map_err(|_| InternalCause::Corrupt("answer").into())
    }

    fn replay(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_would_stay_the_same_are_remembered() {
        let cases = [
            (200, true),
            (201, true),
            (204, true),
            (400, true),
            (415, true),
            (422, true),
            (401, false),
            (403, false),
            (404, false), // it may come to exist
            (409, false), // what is in the way may go
            (412, false),
            (429, false),
            (500, false),
            (503, false),
        ];
        for (status, lasting) in cases {
            assert_eq!(
                is_lasting(StatusCode::from_u16(status).unwrap()),
                lasting,
                "{status}"
            );
        }
    }

    #[test]
    fn an_answer_survives_being_remembered() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::CREATED;
        response
            .headers_mut()
            .insert(LOCATION, HeaderValue::from_static("/v1/apps/app_1"));
        response
            .headers_mut()
            .insert("x-other", HeaderValue::from_static("x"));
        let (parts, _) = response.into_parts();
        let answer = Answer::read(&Answer::of(&parts, b"{\"id\":1}").write()).unwrap();
        let replayed = answer.replay();
        assert_eq!(replayed.status(), StatusCode::CREATED);
        assert_eq!(replayed.headers()[LOCATION], "/v1/apps/app_1");
        assert_eq!(replayed.headers()[REPLAYED], "true");
        assert!(!replayed.headers().contains_key("x-other"));
    }
}
