//! The demo receiver of `ringback dev`: answers well or badly, as its path says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{HeaderValue, RETRY_AFTER},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rand::RngExt;
use ringback_signature::{SigningSecret, VerifyError, WebhookHeaders, verify};
use ringback_store::Clock;
use tokio::net::TcpListener;

/// What the banner says of it.
pub const PATHS: &str = "/ok /fail/503 /flaky/30 /slow/5 /gone /rate/5";

const FAILURE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

const HELP: &str = "\
/ok         204
/fail/503   that status
/flaky/30   503 in 30 of 100 cases
/slow/5     204 after 5 seconds
/gone       410: wants nothing more, ever
/rate/5     429 above 5 requests a second
";

/// How a path answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Ok,
    Fail(StatusCode),
    Flaky { percent: u16 },
    Slow { seconds: u64 },
    Gone,
    Rate { per_second: usize },
    Unknown,
}

/// A receiver to try things out with.
pub struct DemoReceiver {
    clock: Clock,
    secret: Mutex<Option<SigningSecret>>,
    /// When the requests of the last second came, for `/rate`.
    recent: Mutex<VecDeque<DateTime<Utc>>>,
}

impl DemoReceiver {
    /// A receiver that tells time by `clock`.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            secret: Mutex::default(),
            recent: Mutex::default(),
        })
    }

    /// Checks signatures against the demo subscription's secret from now on.
    pub fn check_with(&self, secret: SigningSecret) {
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret);
    }

    /// Answers on `listener` until dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let connection = match listener.accept().await {
                Ok((connection, _)) => connection,
                Err(error) => {
                    tracing::warn!(%error, "the demo receiver could not accept");
                    self.clock.sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let receiver = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let receiver = Arc::clone(&receiver);
                    async move { receiver.answer(request).await }
                });
                // A sender that goes away is no matter here.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(connection), service)
                    .await;
            });
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let behaviour = behaviour(head.uri.path());
        let (status, retry_after) = self.status(behaviour).await;
        self.log(&head, &body, status);
        let text = if behaviour == Behaviour::Unknown {
            HELP
        } else {
            ""
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        Ok(response)
    }

    async fn status(&self, behaviour: Behaviour) -> (StatusCode, Option<u16>) {
        let status = match behaviour {
            Behaviour::Ok => StatusCode::NO_CONTENT,
            Behaviour::Fail(status) => status,
            Behaviour::Flaky { percent } if rand::rng().random_range(0..100) < percent => FAILURE,
            Behaviour::Flaky { .. } => StatusCode::NO_CONTENT,
            Behaviour::Slow { seconds } => {
                self.clock.sleep(Duration::from_secs(seconds)).await;
                StatusCode::NO_CONTENT
            }
            Behaviour::Gone => StatusCode::GONE,
            Behaviour::Rate { per_second } if self.is_too_many(per_second) => {
                return (StatusCode::TOO_MANY_REQUESTS, Some(1));
            }
            Behaviour::Rate { .. } => StatusCode::NO_CONTENT,
            Behaviour::Unknown => StatusCode::NOT_FOUND,
        };
        (status, None)
    }

    fn is_too_many(&self, per_second: usize) -> bool {
        let now = self.clock.now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        while recent
            .front()
            .is_some_and(|&then| now - then > TimeDelta::seconds(1))
        {
            recent.pop_front();
        }
        let too_many = recent.len() >= per_second;
        if !too_many {
            recent.push_back(now);
        }
        too_many
    }

    fn log(&self, head: &Parts, body: &[u8], status: StatusCode) {
        let event: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        tracing::info!(
            "receiver: {} {} {} attempt {}, {} → {}",
            head.uri.path(),
            event["type"].as_str().unwrap_or("-"),
            header(head, "webhook-id").unwrap_or("-"),
            header(head, "ringback-attempt").unwrap_or("-"),
            self.verdict(head, body),
            status.as_u16(),
        );
    }

    fn verdict(&self, head: &Parts, body: &[u8]) -> &'static str {
        let secret = self
            .secret
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(secret) = secret else {
            return "signature not checked";
        };
        let verified = WebhookHeaders::find(|name| header(head, name))
            .and_then(|headers| verify(&headers, body, &[secret], self.clock.unix_seconds()));
        match verified {
            Ok(_) => "signature verified",
            Err(VerifyError::NoMatch) => "signed with another subscription's secret",
            Err(_) => "not signed",
        }
    }
}

fn header<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    head.headers.get(name).and_then(|value| value.to_str().ok())
}

fn behaviour(path: &str) -> Behaviour {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (name, argument) = (parts.next().unwrap_or_default(), parts.next());
    let number = argument.and_then(|text| text.trim_end_matches('s').parse::<u16>().ok());
    match (name, number) {
        ("ok", _) => Behaviour::Ok,
        ("fail", status) => Behaviour::Fail(
            status
                .and_then(|status| StatusCode::from_u16(status).ok())
                .unwrap_or(FAILURE),
        ),
        ("flaky", percent) => Behaviour::Flaky {
            percent: percent.unwrap_or(30).min(100),
        },
        ("slow", seconds) => Behaviour::Slow {
            seconds: seconds.unwrap_or(5).into(),
        },
        ("gone", _) => Behaviour::Gone,
        ("rate", per_second) => Behaviour::Rate {
            per_second: per_second.unwrap_or(5).into(),
        },
        _ => Behaviour::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_how_to_behave() {
        let cases = [
            ("/ok", Behaviour::Ok),
            (
                "/fail/503",
                Behaviour::Fail(StatusCode::SERVICE_UNAVAILABLE),
            ),
            ("/fail/404", Behaviour::Fail(StatusCode::NOT_FOUND)),
            ("/fail/9", Behaviour::Fail(FAILURE)), // no status
            ("/flaky/30", Behaviour::Flaky { percent: 30 }),
            ("/slow/5", Behaviour::Slow { seconds: 5 }),
            ("/slow/5s", Behaviour::Slow { seconds: 5 }),
            ("/gone", Behaviour::Gone),
            ("/rate/5", Behaviour::Rate { per_second: 5 }),
            ("/", Behaviour::Unknown),
        ];
        for (path, expected) in cases {
            assert_eq!(behaviour(path), expected, "{path}");
        }
    }

    #[test]
    fn only_so_many_a_second_are_taken() {
        let clock = Clock::manual("2026-01-05T09:00:00Z".parse().unwrap());
        let receiver = DemoReceiver::new(clock.clone());
        assert_eq!(
            [(); 3].map(|()| receiver.is_too_many(2)),
            [false, false, true]
        );
        clock.advance(Duration::from_millis(1001));
        assert!(!receiver.is_too_many(2));
    }
}
