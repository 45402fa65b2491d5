//! JSON answers.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::Number;

/// Answers with a view of something.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        answer(bytes_of(&self.0))
    }
}

/// A view as JSON. Views hold texts, numbers and checked JSON: this cannot fail.
pub(crate) fn bytes_of(view: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(view).unwrap_or_default()
}

/// Answers with what is JSON already.
pub(crate) fn answer(json: impl IntoResponse) -> Response {
    (
        [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        json,
    )
        .into_response()
}

/// A positive number, without a fraction if it has none.
pub(crate) fn number(value: f64) -> Number {
    // What does not fit is not whole either.
    let whole = Number::from(value as u64);
    if value.fract() == 0.0 {
        return whole;
    }
    Number::from_f64(value).unwrap_or(whole)
}
