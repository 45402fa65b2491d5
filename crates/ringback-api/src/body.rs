//! Reads request bodies: bounded in size and time, JSON, every fault with its place.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use http::{HeaderMap, Method, header::CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::error::Category;

use crate::{Api, error::ApiError, problem::Fault, suggest};

/// The most that a body may be, but for batches.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// The most that a batch may be.
pub(crate) const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body of this shape. PATCH takes it as a merge patch too (RFC 7396).
pub(crate) struct JsonBody<T>(pub(crate) T);

/// A JSON body that may be left out.
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

/// For what takes no fields.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoFields {}

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Api) -> Result<Self, ApiError> {
        check_content_type(request.method(), request.headers())?;
        parse(&read(request.into_body(), MAX_BYTES).await?).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Api> for OptionalJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Api) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = read(body, MAX_BYTES).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        check_content_type(&parts.method, &parts.headers)?;
        parse(&body).map(Self)
    }
}

/// Reads a body of at most `limit_bytes`.
pub(crate) async fn read(body: Body, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::TooLarge {
        what: "the body",
        limit_bytes,
        pointer: None,
    };
    // What says beforehand that it is too large is not read at all.
    let announced = hyper::body::Body::size_hint(&body).lower();
    if usize::try_from(announced).is_ok_and(|bytes| bytes > limit_bytes) {
        return Err(too_large());
    }
    let reading = Limited::new(body, limit_bytes).collect();
    let Ok(read) = tokio::time::timeout(READ_TIMEOUT, reading).await else {
        return Err(ApiError::BodyTimeout(READ_TIMEOUT.as_secs()));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(malformed("the body ended early".to_owned())),
    }
}

pub(crate) fn check_content_type(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = given
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let is_patch = method == Method::PATCH;
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || is_patch && essence.eq_ignore_ascii_case("application/merge-patch+json");
    let expected = if is_patch {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    if is_json {
        Ok(())
    } else {
        Err(ApiError::UnsupportedMediaType { expected })
    }
}

/// Parses a body: 400 if it is no JSON, 422 if it is not of this shape.
pub(crate) fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).or_else(|_| parse_slowly(body))
}

/// Keeping track of the place costs time, so that is done once it is needed.
fn parse_slowly<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| explain(&error))?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn malformed(detail: String) -> ApiError {
    ApiError::Malformed {
        code: "malformed_body",
        detail,
    }
}

fn not_json(error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    malformed(format!(
        "the body is not JSON: look at line {line}, column {column}"
    ))
}

fn explain(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    match error.inner().classify() {
        Category::Data => ApiError::Invalid(vec![fault(error)]),
        Category::Io | Category::Syntax | Category::Eof => not_json(error.inner()),
    }
}

/// Puts what serde says into our words. Its own quote the value, which may be secret.
fn fault(error: &serde_path_to_error::Error<serde_json::Error>) -> Fault {
    let message = error.inner().to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(&*message, |(message, _)| message);
    let pointer = pointer(error.path());
    if let Some(field) = quoted_after(message, "missing field ") {
        return Fault::new(format!("{pointer}/{field}"), "missing", "is missing");
    }
    if let Some(field) = quoted_after(message, "unknown field ") {
        let detail = match suggest::among(field, message.split('`').skip(3).step_by(2)) {
            Some(near) => format!("is not a field here; did you mean `{near}`?"),
            None => "is not a field here".to_owned(),
        };
        return Fault::new(under(pointer, field), "unknown_field", detail);
    }
    if let Some(field) = quoted_after(message, "duplicate field ") {
        return Fault::new(under(pointer, field), "duplicate_field", "is there twice");
    }
    match message.rsplit_once("expected ") {
        Some((_, expected)) => Fault::new(
            pointer,
            "wrong_type",
            format!("must be {}", in_json_words(expected)),
        ),
        // Ours, from a `try_from`.
        None => Fault::new(pointer, "invalid", message),
    }
}

/// The field's pointer, whether or not the path ends in the field already.
fn under(path: String, field: &str) -> String {
    let field = escape(field);
    if path.rsplit('/').next() == Some(&field) {
        path
    } else {
        format!("{path}/{field}")
    }
}

fn quoted_after<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split('`').nth(1)
}

fn in_json_words(expected: &str) -> String {
    match expected.split(' ').next() {
        Some("struct" | "map") => "an object".to_owned(),
        _ => match expected {
            "a map" => "an object".to_owned(),
            "a sequence" => "an array".to_owned(),
            "unit" => "null".to_owned(),
            "i64" | "u64" | "u16" | "u32" => "a whole number".to_owned(),
            "f64" => "a number".to_owned(),
            "any valid JSON value" => "JSON".to_owned(),
            other => other.to_owned(),
        },
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", escape(key)),
        Segment::Enum { variant } => format!("/{}", escape(variant)),
        Segment::Unknown => String::new(),
    };
    path.iter().map(segment).collect()
}

/// A name as part of a JSON pointer.
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ringback_model::RetrySpec;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only their parsing is looked at")]
    struct Sample {
        url: String,
        event_types: Option<Vec<String>>,
        retry: Option<RetrySpec>,
        labels: Option<BTreeMap<String, String>>,
    }

    #[test]
    fn every_fault_has_its_place_and_what_would_be_right() {
        let cases = [
            (r#"{}"#, "/url", "missing", "is missing"),
            (r#"{"url":7}"#, "/url", "wrong_type", "must be a string"),
            (r#"[]"#, "", "wrong_type", "must be an object"),
            (r#""x""#, "", "wrong_type", "must be an object"),
            (
                r#"{"url":"","event_type":[]}"#,
                "/event_type",
                "unknown_field",
                "is not a field here; did you mean `event_types`?",
            ),
            (
                r#"{"url":"","zzz/~":1}"#,
                "/zzz~1~0",
                "unknown_field",
                "is not a field here",
            ),
            (
                r#"{"url":"","url":""}"#,
                "/url",
                "duplicate_field",
                "is there twice",
            ),
            (
                r#"{"url":"","event_types":["a",1]}"#,
                "/event_types/1",
                "wrong_type",
                "must be a string",
            ),
            (
                r#"{"url":"","labels":{"a/b":1}}"#,
                "/labels/a~1b",
                "wrong_type",
                "must be a string",
            ),
            (
                r#"{"url":"","retry":{"exponential":{"initial_s":"5"}}}"#,
                "/retry/exponential/initial_s",
                "wrong_type",
                "must be a number",
            ),
        ];
        for (body, pointer, code, detail) in cases {
            let Err(ApiError::Invalid(faults)) = parse::<Sample>(body.as_bytes()) else {
                panic!("{body} was not refused as invalid");
            };
            assert_eq!(faults, [Fault::new(pointer, code, detail)], "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in [
            &b""[..],
            b"{",
            b"{'a':1}",
            b"{} x",
            b"\xff",
            b"{\"url\":\"\xff\"}",
            b"nul",
        ] {
            let refused = parse::<BTreeMap<String, String>>(body);
            assert!(
                matches!(
                    refused,
                    Err(ApiError::Malformed {
                        code: "malformed_body",
                        ..
                    })
                ),
                "{body:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn no_refusal_repeats_a_value() {
        for body in [
            r#"{"url":{"canary":1}}"#,
            r#"{"url":["canary"]}"#,
            r#"{"retry":"canary"}"#,
        ] {
            let refused = parse::<Sample>(body.as_bytes()).unwrap_err();
            assert!(!refused.to_string().contains("canary"), "{refused}");
        }
    }

    #[test]
    fn a_patch_may_also_be_a_merge_patch() {
        let cases = [
            (Method::POST, "application/json", true),
            (Method::POST, "Application/JSON; charset=utf-8", true),
            (Method::POST, "application/merge-patch+json", false),
            (Method::POST, "text/plain", false),
            (Method::POST, "", false),
            (Method::PATCH, "application/merge-patch+json", true),
            (Method::PATCH, "application/json", true),
            (Method::PATCH, "application/json-patch+json", false),
        ];
        for (method, given, taken) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, given.parse().unwrap());
            assert_eq!(
                check_content_type(&method, &headers).is_ok(),
                taken,
                "{method} {given}"
            );
        }
    }
}
