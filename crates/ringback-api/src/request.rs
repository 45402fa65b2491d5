//! What is done for every request alike: its id, its log line, its headers.

use std::{error::Error, sync::Arc};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};

use crate::error::ApiError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Names a request in answers and logs: the caller's choice, or made here.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let is_fit = |value: &&HeaderValue| {
            (1..=MAX_REQUEST_ID_BYTES).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let given = headers.get(REQUEST_ID).filter(is_fit).cloned();
        Self(given.unwrap_or_else(|| {
            let made = format!("req_{:032x}", rand::random::<u128>());
            // Letters and digits are a header value.
            HeaderValue::try_from(made).unwrap_or(HeaderValue::from_static("req_0"))
        }))
    }

    pub(crate) fn as_str(&self) -> &str {
        // Visible ASCII, as checked above.
        self.0.to_str().unwrap_or_default()
    }
}

/// Wraps every request.
pub(crate) async fn around(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let line = tracing::enabled!(tracing::Level::DEBUG)
        .then(|| (request.method().clone(), path(&request)));
    request.extensions_mut().insert(id.clone());
    let response = finish(next.run(request).await, &id);
    if let Some((method, path)) = line {
        let status = response.status().as_u16();
        tracing::debug!(request.id = id.as_str(), %method, path, status, "answered");
    }
    response
}

/// Renders a refusal for the request with this id, and logs what was not the
/// caller's doing; leaves other answers as they are.
pub(crate) fn render(mut response: Response, id: &RequestId) -> Response {
    let Some(error) = response.extensions_mut().remove::<Arc<ApiError>>() else {
        return response;
    };
    if let ApiError::Internal(Some(_)) | ApiError::Unavailable(Some(_)) = &*error {
        let error = &*error as &dyn Error;
        tracing::error!(request.id = id.as_str(), error, "a request failed");
    }
    let mut problem = error.problem().render(id.as_str());
    if let Some(allow) = response.headers_mut().remove(ALLOW) {
        problem.headers_mut().insert(ALLOW, allow);
    }
    problem
}

fn finish(response: Response, id: &RequestId) -> Response {
    let mut response = render(response, id);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.0.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(CONTENT_SECURITY_POLICY, nothing);
    }
    if !headers.contains_key(CACHE_CONTROL) {
        // What has an ETag may be kept, but must be asked about again.
        let keep = if headers.contains_key(ETAG) {
            "private, no-cache"
        } else {
            "no-store"
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    }
    response
}

/// For the log. A path that leads nowhere may hold anything, so it is left out.
fn path(request: &Request) -> String {
    match request.extensions().get::<MatchedPath>() {
        Some(_) => request.uri().path().to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_taken_over_only_if_it_is_short_and_visible() {
        let long = "x".repeat(129);
        let cases = [
            ("abc-123", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            ("two words", false),
            ("tab\there", false),
        ];
        for (given, kept) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, given.parse().unwrap());
            let id = RequestId::of(&headers);
            assert_eq!(id.as_str() == given, kept, "{given}");
            assert!(!id.as_str().is_empty());
        }
    }
}
