//! What goes out, and what comes back.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use ringback_model::{AttemptError, Target};

/// One request to be made.
pub struct Post {
    /// Where to.
    pub target: Arc<Target>,
    /// All headers but `host` and `content-length`, which follow from the rest.
    pub headers: HeaderMap,
    /// Sent as it is.
    pub body: Bytes,
    /// From asking DNS to the last byte of the answer.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Exchange {
    /// How long it took.
    pub timings: Timings,
    /// Who was connected to, or was to be; `None` if it did not come to that.
    pub remote_addr: Option<SocketAddr>,
    /// The answer, whatever its status, or why there is none.
    pub result: Result<Answer, Failure>,
}

/// An answer, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code. Judging by it is up to [`ringback_model::Outcome`].
    pub status: u16,
    /// Names in lower case, with values that need not be text: at most 50, of 1 KiB
    /// each and 16 KiB in all. What is beyond that is cut off or left out.
    pub headers: Vec<(String, Vec<u8>)>,
    /// At most the first 16 KiB.
    pub body: Bytes,
    /// Whether the body was longer.
    pub truncated: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub error: AttemptError,
    /// A sentence that customers may read.
    pub detail: String,
}

/// How long the steps of an exchange took, in milliseconds.
///
/// The first three are `None` when an open connection was used again, and when the
/// step was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Asking for the name's addresses; `None` also if the URL has an address.
    pub dns_ms: Option<u32>,
    /// Connecting.
    pub connect_ms: Option<u32>,
    /// Shaking hands; `None` also for plain http.
    pub tls_ms: Option<u32>,
    /// From the beginning to the head of the answer.
    pub first_byte_ms: Option<u32>,
    /// From the beginning to the end.
    pub total_ms: u32,
}

/// Leaves out what may be secret: header values, the body, the query.
impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("target", &self.target)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .field("timeout", &self.timeout)
            .finish()
    }
}
