//! Why there is no answer, in words that customers may read.
//!
//! The texts are a closed set. None shows an address that a name led to, and all
//! forbidden targets look the same: otherwise they would map our network.

use std::{error::Error, io, time::Duration};

use ringback_model::AttemptError;

use crate::{Failure, tls};

impl Failure {
    fn new(error: AttemptError, detail: impl Into<String>) -> Self {
        Self {
            error,
            detail: detail.into(),
        }
    }

    pub(crate) fn blocked() -> Self {
        Self::new(
            AttemptError::BlockedAddress,
            "the target's address is one that is not called",
        )
    }

    /// - `connected`: whether there was a connection to wait on.
    pub(crate) fn timeout(limit: Duration, connected: bool) -> Self {
        let missing = if connected {
            "complete answer"
        } else {
            "connection"
        };
        let seconds = limit.as_secs_f64();
        Self::new(
            AttemptError::Timeout,
            format!("no {missing} within {seconds} s"),
        )
    }

    pub(crate) fn no_such_name() -> Self {
        Self::new(AttemptError::Dns, "the name has no address")
    }

    pub(crate) fn dns_unanswered() -> Self {
        Self::new(AttemptError::Dns, "the name servers gave no answer")
    }

    pub(crate) fn no_name_servers() -> Self {
        Self::new(AttemptError::Dns, "no name server is configured")
    }

    pub(crate) fn tls(detail: String) -> Self {
        Self::new(AttemptError::Tls, detail)
    }

    pub(crate) fn uncertifiable() -> Self {
        Self::new(AttemptError::Tls, "no certificate can be for this name")
    }

    pub(crate) fn of_dialling(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::new(
                AttemptError::ConnectTimeout,
                "nobody took the connection in time",
            ),
            io::ErrorKind::ConnectionRefused => {
                Self::new(AttemptError::ConnectRefused, "the connection was refused")
            }
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::new(
                AttemptError::ConnectRefused,
                "there is no way to the address",
            ),
            _ => {
                // Out of sockets or ports, perhaps: an operator should know.
                tracing::warn!(%error, "cannot open a connection");
                Self::new(
                    AttemptError::ConnectRefused,
                    "the connection could not be opened",
                )
            }
        }
    }

    /// - `error`: from sending a request, or from reading its answer.
    pub(crate) fn of_exchange(error: &(dyn Error + 'static)) -> Self {
        let (http, io) = (cause::<hyper::Error>(error), cause::<io::Error>(error));
        if let Some(error) = io.and_then(tls::inside) {
            return Self::tls(tls::detail(error));
        }
        if http.is_some_and(hyper::Error::is_parse_too_large) {
            let detail = "the answer's head is over 64 KiB or over 100 headers";
            return Self::new(AttemptError::TooLarge, detail);
        }
        let is_cut = |error: &hyper::Error| error.is_incomplete_message() || error.is_canceled();
        if http.is_some_and(is_cut) || io.is_some_and(|error| !is_nonsense(error)) {
            let detail = "the connection broke before a complete answer";
            return Self::new(AttemptError::Reset, detail);
        }
        Self::new(AttemptError::Protocol, "the answer is not HTTP/1.1")
    }
}

/// A bad chunk is an I/O error to hyper, but no fault of the connection.
fn is_nonsense(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}

/// The first error of a kind in a chain of causes.
pub(crate) fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
