//! Problem documents: what every refusal looks like (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

/// The kinds of problem: one status, one page at `/problems/{slug}` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Timeout,
    Conflict,
    PreconditionFailed,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    QuotaExceeded,
    Internal,
    Unavailable,
}

/// A problem, before it is known whose request met it.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) errors: Vec<Fault>,
    /// When asking again may do better, in seconds, if that is known.
    pub(crate) retry_after_s: Option<u64>,
}

/// One field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// Where in the body, as a JSON pointer (RFC 6901).
    #[schema(example = "/url")]
    pub(crate) pointer: String,
    /// The fault in one word.
    #[schema(value_type = String, example = "blocked_address")]
    pub(crate) code: &'static str,
    /// What is wrong, and what would be right.
    pub(crate) detail: String,
}

/// A problem document.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument<'a> {
    /// A page about this kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "/problems/invalid")]
    kind: String,
    /// The kind of problem in words.
    title: &'a str,
    /// The status code, again.
    status: u16,
    /// What happened here.
    detail: &'a str,
    /// What happened here in one word, for programs.
    code: &'a str,
    /// The request's id, as in `x-request-id` and in our logs.
    request_id: &'a str,
    /// The fields at fault.
    errors: &'a [Fault],
}

impl Fault {
    pub(crate) fn new(
        pointer: impl Into<String>,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            pointer: pointer.into(),
            code,
            detail: detail.into(),
        }
    }
}

impl Problem {
    /// The answer to the request with this id.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let status = self.kind.status();
        let document = ProblemDocument {
            kind: format!("/problems/{}", self.kind.slug()),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id,
            errors: &self.errors,
        };
        // A struct of texts and numbers: serialising it cannot fail.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.kind == Kind::Unauthorized {
            let challenge = HeaderValue::from_static(r#"Bearer realm="ringback""#);
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 14] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::Conflict,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::QuotaExceeded,
        Self::Internal,
        Self::Unavailable,
    ];

    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) const fn slug(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "precondition-failed",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::Invalid => "invalid",
            Self::QuotaExceeded => "quota-exceeded",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request cannot be read",
            Self::Unauthorized => "No valid API key",
            Self::Forbidden => "The API key does not permit this",
            Self::NotFound => "There is no such thing",
            Self::MethodNotAllowed => "The path does not take this method",
            Self::Timeout => "The request took too long to arrive",
            Self::Conflict => "The present state does not permit this",
            Self::PreconditionFailed => "It has changed meanwhile",
            Self::TooLarge => "The request is too large",
            Self::UnsupportedMediaType => "The body has another content type",
            Self::Invalid => "A field is not as it should be",
            Self::QuotaExceeded => "The application is over its quota",
            Self::Internal => "Something failed on our side",
            Self::Unavailable => "The service cannot answer right now",
        }
    }

    /// What the page at `/problems/{slug}` says.
    pub(crate) const fn explanation(self) -> &'static str {
        match self {
            Self::BadRequest => {
                "The body is not JSON, or a query parameter, cursor or header cannot be read. \
                 `detail` says which. Sending the same again will fail again."
            }
            Self::Unauthorized => {
                "Send `Authorization: Bearer rbk_…` with a key that has not been revoked. \
                 A revoked key stops working within five seconds."
            }
            Self::Forbidden => {
                "The key is valid, but has not the scope that `detail` names, or is bound to one \
                 application. Make a key with that scope: `POST /v1/keys`."
            }
            Self::NotFound => {
                "It does not exist, was deleted, or belongs to an application that the key \
                 does not see. The three are told apart nowhere."
            }
            Self::MethodNotAllowed => "The header `allow` lists the methods that the path takes.",
            Self::Timeout => "The body has to arrive within 30 seconds.",
            Self::Conflict => {
                "What was asked for is well formed, but not possible now: a name is taken, a \
                 delivery is settled, a subscription is paused. `code` says which."
            }
            Self::PreconditionFailed => {
                "`If-Match` names another version than the present one: somebody changed it. \
                 Read it again, and decide anew."
            }
            Self::TooLarge => {
                "An event's `data` is at most 256 KiB, a request 1 MiB, a batch 8 MiB. \
                 Send a link to what is larger."
            }
            Self::UnsupportedMediaType => {
                "Bodies are JSON: send `content-type: application/json`, or \
                 `application/merge-patch+json` with PATCH."
            }
            Self::Invalid => {
                "The body is JSON, but fields are missing, unknown or not as they should be. \
                 `errors` lists them, each with a JSON pointer and what would be right."
            }
            Self::QuotaExceeded => {
                "The application brings in more than it may, or has too much pending or kept. \
                 `errors` names the quota, its limit and what there is. Nothing was accepted: send \
                 the same again after `retry-after` seconds. Quotas are the operator's to change: \
                 `PATCH /v1/apps/{app}`."
            }
            Self::Internal => {
                "This is a fault of the service, not of the request. It is in the service's log \
                 under `request_id`."
            }
            Self::Unavailable => {
                "The database does not answer, or more is coming in than can be stored. Nothing \
                 was acknowledged: send the same again after `retry-after` seconds, with the same \
                 `Idempotency-Key` or event id, and it will not count twice."
            }
        }
    }
}
