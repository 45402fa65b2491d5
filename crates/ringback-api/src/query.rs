//! Reads the query of lists: their filters, their page.

use std::{error::Error, fmt::Display};

use axum::extract::{FromRequestParts, Query};
use chrono::{DateTime, TimeDelta, Utc};
use http::request::Parts;
use ringback_model::EventTypePattern;
use serde::de::DeserializeOwned;

use crate::{Api, error::ApiError, suggest};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// A query of this shape; its fields are texts, parsed by the functions below.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(explain(&innermost(&rejection))),
        }
    }
}

/// How many items a page has.
pub(crate) fn limit(text: Option<&str>) -> Result<u32, ApiError> {
    let Some(text) = text else {
        return Ok(DEFAULT_LIMIT);
    };
    let limit = text
        .parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| ApiError::bad_parameter("limit", "is a number from 1 to 200"))
}

/// An id or a pattern.
///
/// - `expected`: like `is an id`.
pub(crate) fn value<T: std::str::FromStr>(
    name: &str,
    text: Option<&str>,
    expected: &str,
) -> Result<Option<T>, ApiError> {
    let parse = |text: &str| {
        text.parse()
            .map_err(|_| ApiError::bad_parameter(name, expected))
    };
    text.map(parse).transpose()
}

/// A word of a closed set.
pub(crate) fn word<T: Copy + Display>(
    name: &str,
    text: Option<&str>,
    words: &[T],
) -> Result<Option<T>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    if let Some(word) = words.iter().find(|word| word.to_string() == text) {
        return Ok(Some(*word));
    }
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    Err(ApiError::bad_parameter(
        name,
        format!("is one of {}", words.join(", ")),
    ))
}

/// `order.paid`, `order.*` or `*`.
pub(crate) fn pattern(
    name: &str,
    text: Option<&str>,
) -> Result<Option<EventTypePattern>, ApiError> {
    value(
        name,
        text,
        "is an event type like `order.paid`, a prefix like `order.*`, or `*`",
    )
}

/// `name:value`.
pub(crate) fn label(text: Option<&str>) -> Result<Option<(String, String)>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let parts = text.split_once(':').filter(|(name, _)| !name.is_empty());
    match parts {
        Some((name, value)) if !text.contains('\0') => {
            Ok(Some((name.to_owned(), value.to_owned())))
        }
        _ => Err(ApiError::bad_parameter(
            "label",
            "is `name:value`, like `order:1042`",
        )),
    }
}

/// `503`, or `5xx` for all of a class: the lowest and the highest code.
pub(crate) fn status_code(text: Option<&str>) -> Result<Option<(u16, u16)>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let bad = || ApiError::bad_parameter("code", "is a status code like `503`, or `5xx`");
    let is_code = |code: &u16| (100..=599).contains(code);
    match text.strip_suffix("xx") {
        Some(class) => {
            let lowest = class
                .parse::<u16>()
                .ok()
                .and_then(|class| class.checked_mul(100));
            let lowest = lowest.filter(is_code).ok_or_else(bad)?;
            Ok(Some((lowest, lowest + 99)))
        }
        None => {
            let code = text.parse().ok().filter(is_code).ok_or_else(bad)?;
            Ok(Some((code, code)))
        }
    }
}

/// A time like `2026-01-05T09:00:00Z`, or how long ago, like `90s`, `15m`, `2h` or `7d`.
pub(crate) fn time(
    name: &str,
    text: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let ago = |text| now.checked_sub_signed(duration(text)?);
    let time = text.parse().ok().or_else(|| ago(text));
    time.map(Some).ok_or_else(|| {
        ApiError::bad_parameter(
            name,
            "is a time like `2026-01-05T09:00:00Z`, or `2h` for so long ago",
        )
    })
}

fn duration(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().next_back().filter(char::is_ascii)?;
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        's' => TimeDelta::try_seconds(number),
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        _ => None,
    }
}

/// What serde says, without what others say around it.
fn innermost(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn explain(message: &str) -> ApiError {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (code, detail) = match quoted.split_first() {
        Some((name, known)) if message.contains("unknown field") => {
            let near = suggest::among(name, known.iter().copied());
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            (
                "unknown_parameter",
                format!("`{name}` is not a parameter here{near}"),
            )
        }
        Some((name, _)) if message.contains("duplicate field") => (
            "bad_parameter",
            format!("the parameter `{name}` is there twice"),
        ),
        _ => ("bad_parameter", "the query cannot be read".to_owned()),
    };
    ApiError::Malformed { code, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_one_or_a_class() {
        let cases = [
            ("503", Some((503, 503))),
            ("5xx", Some((500, 599))),
            ("1xx", Some((100, 199))),
            ("6xx", None),
            ("0xx", None),
            ("xx", None),
            ("50x", None),
            ("99", None),
            ("600", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(status_code(Some(text)).ok().flatten(), expected, "{text}");
        }
        assert_eq!(status_code(None).unwrap(), None);
    }

    #[test]
    fn times_are_absolute_or_so_long_ago() {
        let now: DateTime<Utc> = "2026-01-05T09:00:00Z".parse().unwrap();
        let cases = [
            ("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z")),
            (
                "2026-01-01T00:00:00.5+01:00",
                Some("2025-12-31T23:00:00.5Z"),
            ),
            ("90s", Some("2026-01-05T08:58:30Z")),
            ("15m", Some("2026-01-05T08:45:00Z")),
            ("2h", Some("2026-01-05T07:00:00Z")),
            ("7d", Some("2025-12-29T09:00:00Z")),
            ("2", None),
            ("h", None),
            ("-2h", None),
            ("2w", None),
            ("99999999999999999999d", None),
            ("9999999999d", None),
            ("2é", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let expected: Option<DateTime<Utc>> = expected.map(|time| time.parse().unwrap());
            assert_eq!(
                time("since", Some(text), now).ok().flatten(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn limits_run_from_1_to_200() {
        let cases = [
            ("1", Some(1)),
            ("200", Some(200)),
            ("0", None),
            ("201", None),
            ("x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(limit(Some(text)).ok(), expected, "{text}");
        }
        assert_eq!(limit(None).unwrap(), DEFAULT_LIMIT);
    }

    #[test]
    fn labels_part_at_the_first_colon() {
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        let cases = [
            ("order:1042", pair("order", "1042")),
            ("at:09:00", pair("at", "09:00")),
            ("empty:", pair("empty", "")),
            (":1042", None),
            ("order", None),
            ("a:\0", None),
        ];
        for (text, expected) in cases {
            assert_eq!(label(Some(text)).ok().flatten(), expected, "{text}");
        }
    }

    #[test]
    fn unknown_parameters_are_named_with_what_was_meant() {
        let cases = [
            (
                "unknown field `statu`, expected one of `status`, `since`",
                "unknown_parameter",
                "`statu` is not a parameter here; did you mean `status`?",
            ),
            (
                "duplicate field `app`",
                "bad_parameter",
                "the parameter `app` is there twice",
            ),
        ];
        for (message, code, detail) in cases {
            let refused = explain(message);
            assert_eq!(refused.problem().code, code);
            assert_eq!(refused.to_string(), detail);
        }
    }
}
