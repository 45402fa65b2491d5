//! ETags: telling whether somebody else changed a thing meanwhile (RFC 9110, 13).

use std::fmt::Display;

use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ETAG, IF_MATCH, IF_NONE_MATCH},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{error::ApiError, json};

/// The version of one thing, as its `etag` header shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ETag(String);

impl ETag {
    /// Of a thing that counts its changes. `updated_at` is for those that it does not
    /// count; databases keep it to the microsecond at best, so milliseconds are used.
    pub(crate) fn of_version(version: impl Display, updated_at: DateTime<Utc>) -> Self {
        Self(format!("\"{version}-{}\"", updated_at.timestamp_millis()))
    }

    /// Of what is shown.
    fn of_content(content: &[u8]) -> Self {
        let hash: [u8; 32] = Sha256::digest(content).into();
        let hex: String = hash[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self(format!("\"{hex}\""))
    }

    /// Refuses a change of what is no longer as the caller knows it. `true` if the
    /// caller knows it at all.
    pub(crate) fn check_if_match(&self, headers: &HeaderMap) -> Result<bool, ApiError> {
        if !headers.contains_key(IF_MATCH) {
            return Ok(false);
        }
        if self.is_in(headers, &IF_MATCH) {
            Ok(true)
        } else {
            Err(ApiError::OutOfDate)
        }
    }

    /// Answers with `view`, or 304 if the caller has it already.
    pub(crate) fn answer(&self, headers: &HeaderMap, view: &impl Serialize) -> Response {
        self.answer_json(headers, json::bytes_of(view))
    }

    fn answer_json(&self, headers: &HeaderMap, json: Vec<u8>) -> Response {
        let response = if self.is_in(headers, &IF_NONE_MATCH) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            json::answer(json)
        };
        self.put_on(response)
    }

    /// Adds the header.
    pub(crate) fn put_on(&self, response: impl IntoResponse) -> Response {
        let mut response = response.into_response();
        // Hex, digits and quotes are a header value.
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            response.headers_mut().insert(ETAG, value);
        }
        response
    }

    fn is_in(&self, headers: &HeaderMap, name: &HeaderName) -> bool {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.0)
    }
}

/// Answers with something that counts no changes: its ETag is of what is shown.
pub(crate) fn answer_by_content(headers: &HeaderMap, view: &impl Serialize) -> Response {
    let json = json::bytes_of(view);
    ETag::of_content(&json).answer_json(headers, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_lets_through_who_knows_the_present_version() {
        let tag = ETag::of_version(3, DateTime::from_timestamp_millis(1_700).unwrap());
        assert_eq!(tag.0, "\"3-1700\"");
        let cases = [
            ("\"3-1700\"", Some(true)),
            ("W/\"3-1700\"", Some(true)),
            ("\"2-9\", \"3-1700\"", Some(true)),
            ("*", Some(true)),
            ("\"2-1700\"", None),
            ("3-1700", None),
        ];
        for (given, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, given.parse().unwrap());
            assert_eq!(tag.check_if_match(&headers).ok(), expected, "{given}");
        }
        assert_eq!(tag.check_if_match(&HeaderMap::new()).ok(), Some(false));
    }
}
