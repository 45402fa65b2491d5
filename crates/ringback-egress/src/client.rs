//! Makes requests, over connections that are kept for the next.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, Error, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};
use ringback_model::TargetPolicy;
use tokio::time::{Instant, timeout};

use crate::{
    Answer, EgressConfig, EgressError, Exchange, Failure, Post, Timings,
    answer::read_answer,
    connector::{ConnectError, Connector},
    failure::cause,
    link::{Link, millis},
};

/// The largest head of an answer. hyper takes no more than 100 headers besides.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Makes POST requests to targets; cheap to clone.
#[derive(Clone)]
pub struct Egress {
    client: Client<Connector, Full<Bytes>>,
    policy: Arc<TargetPolicy>,
}

impl Egress {
    /// Takes the trusted certificate authorities from the system, or from the file
    /// that `SSL_CERT_FILE` names. Touches no network.
    ///
    /// # Errors
    ///
    /// [`EgressError`] if TLS cannot be set up.
    pub fn new(config: EgressConfig) -> Result<Self, EgressError> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.max_idle_per_host)
            // Repeats only what was never written, because the receiver had closed
            // the connection in the meantime.
            .retry_canceled_requests(true)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(Connector::new(&config)?);
        let policy = Arc::new(config.targets);
        Ok(Self { client, policy })
    }

    /// The policy to parse targets with.
    pub fn policy(&self) -> &TargetPolicy {
        &self.policy
    }

    /// Makes one request and reads the answer, within the request's time.
    ///
    /// Sends the given headers, `host` and `content-length`, nothing else. Dropping
    /// the future closes the connection.
    pub async fn post(&self, post: Post) -> Exchange {
        let (started, limit) = (Instant::now(), post.timeout);
        let mut request = request(post);
        let captured = capture_connection(&mut request);

        let mut first_byte_ms = None;
        let exchange = self.exchange(request, || first_byte_ms = Some(millis(started)));
        let answer = timeout(limit, exchange).await;
        let link = Link::captured(&captured);
        let (result, link) = match answer {
            Ok(Ok(answer)) => (Ok(answer), link),
            Ok(Err(unanswered)) => (Err(unanswered.failure), unanswered.link.or(link)),
            Err(_) => (Err(Failure::timeout(limit, link.is_some())), link),
        };
        Exchange {
            timings: timings(link.as_ref(), started, first_byte_ms),
            remote_addr: link.and_then(|link| link.peer),
            result,
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        on_head: impl FnOnce(),
    ) -> Result<Answer, Unanswered> {
        let response = self.client.request(request).await?;
        on_head();
        Ok(read_answer(response).await?)
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Why there is no answer, and what is known of the connection if it failed early.
struct Unanswered {
    failure: Failure,
    link: Option<Link>,
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            link: None,
        }
    }
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        match cause::<ConnectError>(&error) {
            Some(error) => Self {
                failure: error.failure.clone(),
                link: Some(error.link),
            },
            None => Failure::of_exchange(&error).into(),
        }
    }
}

fn request(post: Post) -> Request<Full<Bytes>> {
    let is_empty = post.body.is_empty();
    let mut request = Request::new(Full::new(post.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = post.target.uri().clone();
    *request.headers_mut() = post.headers;
    if is_empty {
        // hyper leaves it out here, and some receivers insist on it.
        request
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    request
}

fn timings(link: Option<&Link>, started: Instant, first_byte_ms: Option<u32>) -> Timings {
    // A connection that was begun before was made for an earlier request.
    let fresh = link.filter(|link| link.begun >= started);
    Timings {
        dns_ms: fresh.and_then(|link| link.dns_ms),
        connect_ms: fresh.and_then(|link| link.connect_ms),
        tls_ms: fresh.and_then(|link| link.tls_ms),
        first_byte_ms,
        total_ms: millis(started),
    }
}
