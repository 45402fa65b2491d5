//! Why a request was refused, and the one place that says how it is answered.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use ringback_model::{Quota, Scope};
use ringback_store::{OpenError, StoreError};

use crate::{
    cache::Late,
    problem::{Fault, Kind, Problem},
    quotas::Refusal,
};

/// Why a request was refused; answered as a problem document (RFC 9457).
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("there is nothing at this path; `/docs` lists what there is")]
    NoRoute,
    #[error("this path does not take this method; `allow` lists those it takes")]
    MethodNotAllowed,
    /// Does not exist, or belongs to another application: the two must not differ,
    /// so the answer does not repeat what was asked for.
    #[error("there is no such {noun}")]
    NotFound {
        noun: &'static str,
        /// Where it was named, if that was in the body.
        pointer: Option<String>,
    },
    #[error("{detail}")]
    Malformed { code: &'static str, detail: String },
    #[error("{0}")]
    Unauthorized(&'static str),
    #[error("this needs a key with the scope `{0}`")]
    MissingScope(Scope),
    #[error("this needs a key that is not bound to an application")]
    BoundKey,
    #[error("{detail}")]
    Conflict {
        code: &'static str,
        detail: String,
        /// The field at fault, if there is one.
        pointer: Option<String>,
    },
    #[error("it has changed since you read it: read it again, and change that")]
    OutOfDate,
    #[error("{what} is at most {limit_bytes} bytes")]
    TooLarge {
        what: &'static str,
        limit_bytes: usize,
        pointer: Option<String>,
    },
    #[error("send `content-type: {expected}`")]
    UnsupportedMediaType { expected: &'static str },
    #[error("{}", summary(.0))]
    Invalid(Vec<Fault>),
    #[error("this `Idempotency-Key` was used with another request: make a new one")]
    KeyReused,
    #[error("the first request with this `Idempotency-Key` is still running")]
    StillRunning,
    #[error("the body did not arrive within {0} seconds")]
    BodyTimeout(u64),
    #[error("the application {}", .refusal.detail)]
    OverQuota {
        refusal: Refusal,
        /// Where the application is named.
        pointer: String,
    },
    #[error("too much is waiting to be stored: try again in a moment")]
    Overloaded,
    #[error("this node has lost its lease: try again in a moment")]
    LeaseLost,
    #[error("the database is not available: try again in a moment")]
    Unavailable(#[source] Option<StoreError>),
    /// Not the caller's doing: answered without detail.
    #[error("something failed on our side")]
    Internal(#[source] Option<InternalCause>),
}

/// What lies behind an [`ApiError::Internal`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum InternalCause {
    #[error(transparent)]
    Store(StoreError),
    #[error("a secret cannot be opened")]
    Vault(#[source] OpenError),
    #[error("the stored {0} is not understood")]
    Corrupt(&'static str),
    #[error("a task ended without an answer")]
    TaskDied,
}

impl ApiError {
    pub(crate) const fn not_found(noun: &'static str) -> Self {
        Self::NotFound {
            noun,
            pointer: None,
        }
    }

    pub(crate) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Conflict {
            code,
            detail: detail.into(),
            pointer: None,
        }
    }

    pub(crate) fn bad_parameter(name: &str, why: impl std::fmt::Display) -> Self {
        Self::Malformed {
            code: "bad_parameter",
            detail: format!("the parameter `{name}` {why}"),
        }
    }

    /// How it is answered. Every variant has to choose here.
    pub(crate) fn problem(&self) -> Problem {
        let (kind, code) = match self {
            Self::NoRoute => (Kind::NotFound, "no_route"),
            Self::MethodNotAllowed => (Kind::MethodNotAllowed, "method_not_allowed"),
            Self::NotFound { .. } => (Kind::NotFound, "not_found"),
            Self::Malformed { code, .. } => (Kind::BadRequest, *code),
            Self::Unauthorized(_) => (Kind::Unauthorized, "unauthorized"),
            Self::MissingScope(_) => (Kind::Forbidden, "missing_scope"),
            Self::BoundKey => (Kind::Forbidden, "bound_key"),
            Self::Conflict { code, .. } => (Kind::Conflict, *code),
            Self::OutOfDate => (Kind::PreconditionFailed, "out_of_date"),
            Self::TooLarge { .. } => (Kind::TooLarge, "too_large"),
            Self::UnsupportedMediaType { .. } => {
                (Kind::UnsupportedMediaType, "unsupported_media_type")
            }
            Self::Invalid(faults) => (Kind::Invalid, common_code(faults)),
            Self::KeyReused => (Kind::Invalid, "idempotency_key_reused"),
            Self::StillRunning => (Kind::Conflict, "still_running"),
            Self::BodyTimeout(_) => (Kind::Timeout, "body_timeout"),
            Self::OverQuota { refusal, .. } => (Kind::QuotaExceeded, over(refusal.quota)),
            Self::Overloaded => (Kind::Unavailable, "overloaded"),
            Self::LeaseLost => (Kind::Unavailable, "lease_lost"),
            Self::Unavailable(_) => (Kind::Unavailable, "unavailable"),
            Self::Internal(_) => (Kind::Internal, "internal"),
        };
        Problem {
            kind,
            code,
            detail: self.to_string(),
            errors: self.faults(code),
            retry_after_s: self.retry_after_s(),
        }
    }

    /// In how many seconds the same request may do better; never none.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::OverQuota { refusal, .. } => {
                let started = u64::from(refusal.retry_after.subsec_nanos() > 0);
                Some((refusal.retry_after.as_secs() + started).max(1))
            }
            Self::Overloaded | Self::LeaseLost | Self::Unavailable(_) | Self::StillRunning => {
                Some(1)
            }
            _ => None,
        }
    }

    /// The fields at fault.
    fn faults(&self, code: &'static str) -> Vec<Fault> {
        match self {
            Self::Invalid(faults) => faults.clone(),
            Self::NotFound {
                pointer: Some(pointer),
                ..
            }
            | Self::Conflict {
                pointer: Some(pointer),
                ..
            }
            | Self::TooLarge {
                pointer: Some(pointer),
                ..
            } => {
                vec![Fault::new(pointer.clone(), code, self.to_string())]
            }
            Self::OverQuota { refusal, pointer } => {
                vec![Fault::new(pointer, code, &refusal.detail)]
            }
            _ => Vec::new(),
        }
    }
}

impl IntoResponse for ApiError {
    /// Only carries it: `request::finish` knows the request's id, and renders it.
    fn into_response(self) -> Response {
        let mut response = self.problem().kind.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(Some(error)),
            StoreError::Refused(_) | StoreError::Corrupt { .. } => {
                Self::Internal(Some(InternalCause::Store(error)))
            }
        }
    }
}

impl From<Late> for ApiError {
    fn from(late: Late) -> Self {
        Self::Unavailable(Some(StoreError::unavailable(late)))
    }
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        Self::Internal(Some(InternalCause::Vault(error)))
    }
}

impl From<InternalCause> for ApiError {
    fn from(cause: InternalCause) -> Self {
        Self::Internal(Some(cause))
    }
}

/// Quotas by the names of their fields.
const fn over(quota: Quota) -> &'static str {
    match quota {
        Quota::EventsPerS => "quota_events_per_s",
        Quota::PendingDeliveries => "quota_pending_deliveries",
        Quota::StoredBytes => "quota_stored_bytes",
    }
}

fn common_code(faults: &[Fault]) -> &'static str {
    match faults {
        [only] => only.code,
        _ => "invalid",
    }
}

fn summary(faults: &[Fault]) -> String {
    match faults {
        [only] => format!("`{}` {}", only.pointer, only.detail),
        _ => format!("{} fields are not as they should be", faults.len()),
    }
}
