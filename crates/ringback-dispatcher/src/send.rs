//! One attempt: sign, POST, judge.

use std::{future::Future, sync::Arc};

use chrono::{DateTime, Utc};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_TYPE, USER_AGENT},
};
use ringback_egress::{Answer, Egress, Exchange, Failure, Post};
use ringback_model::{AttemptError, Outcome, TargetPolicy};
use ringback_signature::{ID_HEADER, NoActiveSecret, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
use ringback_store::{AttemptAnswer, AttemptRecord, Clock};

use crate::{
    message::{Message, text},
    sending::{Endpoint, Sending},
};

/// Makes requests to addresses that somebody else chose.
pub trait Transport: Clone + Send + Sync + 'static {
    /// The policy to parse targets with.
    fn policy(&self) -> &TargetPolicy;

    /// Makes one request and reads the answer, within the request's time.
    fn post(&self, post: Post) -> impl Future<Output = Exchange> + Send;
}

impl Transport for Egress {
    fn policy(&self) -> &TargetPolicy {
        self.policy()
    }

    fn post(&self, post: Post) -> impl Future<Output = Exchange> + Send {
        self.post(post)
    }
}

/// One attempt, about to be made.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) message: Arc<Message>,
    pub(crate) sending: Arc<Sending>,
    /// Counted from 1 over all rounds.
    pub(crate) number: u16,
    pub(crate) user_agent: HeaderValue,
}

/// One attempt, made.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) record: AttemptRecord,
    pub(crate) outcome: Outcome,
    /// Why there is no answer, in words that hold no secret and no URL; for the log.
    pub(crate) detail: Option<String>,
    /// Waits run from here.
    pub(crate) ended_at: DateTime<Utc>,
}

impl Attempt {
    /// Makes it.
    pub(crate) async fn make(self, transport: impl Transport, clock: Clock) -> Attempted {
        let started_at = clock.now();
        let post = match &self.sending.endpoint {
            Ok(endpoint) => self.post(endpoint, started_at, clock.unix_seconds()),
            Err(fault) => Err(Failure {
                error: fault.error(),
                detail: fault.to_string(),
            }),
        };
        let made = match post {
            Ok(post) => transport.post(post).await,
            Err(failure) => unsent(failure),
        };
        self.judge(made, started_at, clock.now())
    }

    /// Records an attempt that was cut off by a fault of ours.
    pub(crate) fn broken(&self, started_at: DateTime<Utc>, ended_at: DateTime<Utc>) -> Attempted {
        let failure = Failure {
            error: AttemptError::Protocol,
            detail: "a fault of ours broke it off".to_owned(),
        };
        self.judge(unsent(failure), started_at, ended_at)
    }

    /// The request, signed.
    fn post(&self, endpoint: &Endpoint, now: DateTime<Utc>, sent_at: i64) -> Result<Post, Failure> {
        let id = self.message.id.to_str().unwrap_or_default();
        let sign = |secrets: &[_]| sign(id, sent_at, &self.message.body, secrets);
        let signature = endpoint.with_secrets(now, sign).map_err(|NoActiveSecret| {
            tracing::error!(subscription.id = %self.sending.id, "there is no live signing secret");
            Failure {
                error: AttemptError::Protocol,
                detail: "there is no live signing secret".to_owned(),
            }
        })?;
        Ok(Post {
            target: Arc::clone(&endpoint.target),
            headers: self.headers(endpoint, sent_at, signature),
            body: self.message.body.clone(),
            timeout: self.sending.timeout,
        })
    }

    fn headers(&self, endpoint: &Endpoint, sent_at: i64, signature: String) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8 + endpoint.headers.len());
        let trace = || trace_of(rand::random(), rand::random());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, self.user_agent.clone());
        headers.insert(WEBHOOK_ID, self.message.id.clone());
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(sent_at));
        headers.insert(WEBHOOK_SIGNATURE, text(signature));
        headers.insert(ATTEMPT, HeaderValue::from(self.number));
        headers.insert(
            TRACEPARENT,
            self.message.traceparent.clone().unwrap_or_else(trace),
        );
        headers.extend(endpoint.headers.iter().cloned());
        headers
    }

    fn judge(
        &self,
        made: Exchange,
        started_at: DateTime<Utc>,
        ended_at: DateTime<Utc>,
    ) -> Attempted {
        let (outcome, answer, detail) = match made.result {
            Ok(answer) => (
                Outcome::from_status(answer.status),
                Some(kept(answer)),
                None,
            ),
            Err(Failure { error, detail }) => (Outcome::Failed(error), None, Some(detail)),
        };
        let record = AttemptRecord {
            number: self.number,
            started_at,
            subscription_version: self.sending.version,
            error: match outcome {
                Outcome::Delivered => None,
                Outcome::Failed(error) => Some(error),
                Outcome::SubscriptionGone => Some(AttemptError::HttpStatus),
            },
            remote_addr: made.remote_addr,
            dns_ms: made.timings.dns_ms,
            connect_ms: made.timings.connect_ms,
            tls_ms: made.timings.tls_ms,
            first_byte_ms: made.timings.first_byte_ms,
            total_ms: made.timings.total_ms,
            answer,
        };
        Attempted {
            record,
            outcome,
            detail,
            ended_at,
        }
    }
}

const WEBHOOK_ID: HeaderName = HeaderName::from_static(ID_HEADER);
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static(TIMESTAMP_HEADER);
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static(SIGNATURE_HEADER);
const ATTEMPT: HeaderName = HeaderName::from_static("ringback-attempt");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A trace of our own, not sampled, for an event that came without one: W3C Trace
/// Context level 1. Zeros are not valid.
fn trace_of(trace: u128, parent: u64) -> HeaderValue {
    text(format!(
        "00-{:032x}-{:016x}-00",
        trace.max(1),
        parent.max(1)
    ))
}

fn kept(answer: Answer) -> AttemptAnswer {
    AttemptAnswer {
        status_code: answer.status,
        headers: answer.headers,
        body: answer.body,
        truncated: answer.truncated,
    }
}

/// What never was on the wire.
fn unsent(failure: Failure) -> Exchange {
    Exchange {
        timings: Default::default(),
        remote_addr: None,
        result: Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use ringback_model::{AppId, EventId};
    use ringback_signature::{WebhookHeaders, verify};
    use ringback_store::Payload;

    use super::*;
    use crate::sending::tests::{SECRET, state, vault};

    fn now() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    fn attempt(change: impl FnOnce(&mut ringback_store::SendingState)) -> Attempt {
        let vault = vault();
        let mut state = state(&vault);
        change(&mut state);
        let payload = Payload {
            event: EventId::floor(now()),
            app: AppId::new(1),
            event_type: "order.paid".parse().unwrap(),
            data: br#"{"total": 1.10}"#.as_slice().into(),
            traceparent: None,
        };
        Attempt {
            message: Arc::new(Message::from(payload)),
            sending: Arc::new(Sending::open(state, &vault, &TargetPolicy::default())),
            number: 3,
            user_agent: HeaderValue::from_static("Ringback/1"),
        }
    }

    fn post(attempt: &Attempt) -> Result<Post, Failure> {
        attempt.post(
            attempt.sending.endpoint.as_ref().unwrap(),
            now(),
            now().timestamp(),
        )
    }

    #[test]
    fn a_request_carries_what_receivers_are_promised() {
        let post = post(&attempt(|_| ())).unwrap();
        let header = |name: &str| post.headers[name].to_str().unwrap();
        assert_eq!(
            post.body,
            r#"{"type":"order.paid","timestamp":"2026-01-05T09:00:00.000Z","data":{"total": 1.10}}"#
        );
        let plain = [
            ("content-type", "application/json"),
            ("user-agent", "Ringback/1"),
            ("webhook-timestamp", "1767603600"),
            ("ringback-attempt", "3"),
            ("x-env", "prod"),
        ];
        plain
            .iter()
            .for_each(|(name, value)| assert_eq!(header(name), *value));
        assert_eq!(post.headers.len(), plain.len() + 3);
        assert_eq!(header("webhook-id").parse(), Ok(EventId::floor(now())));
        let trace = header("traceparent");
        assert!(
            trace.len() == 55 && trace.starts_with("00-") && trace.ends_with("-00"),
            "{trace}"
        );
        let received = WebhookHeaders {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        let secret = [SECRET.parse().unwrap()];
        assert!(verify(&received, &post.body, &secret, now().timestamp()).is_ok());
    }

    #[test]
    fn nothing_is_sent_unsigned() {
        let expired = attempt(|state| state.secrets[0].1 = Some(now()));
        assert_eq!(post(&expired).unwrap_err().error, AttemptError::Protocol);
        let none = attempt(|state| state.secrets.clear());
        assert_eq!(post(&none).unwrap_err().error, AttemptError::Protocol);
    }

    #[test]
    fn an_answer_is_judged_and_recorded() {
        let attempt = attempt(|_| ());
        let cases = [
            (204, Outcome::Delivered, None),
            (
                503,
                Outcome::Failed(AttemptError::HttpStatus),
                Some(AttemptError::HttpStatus),
            ),
            (
                302,
                Outcome::Failed(AttemptError::Redirect),
                Some(AttemptError::Redirect),
            ),
            (
                410,
                Outcome::SubscriptionGone,
                Some(AttemptError::HttpStatus),
            ),
        ];
        for (status, outcome, error) in cases {
            let answer = Answer {
                status,
                headers: vec![],
                body: Default::default(),
                truncated: true,
            };
            let made = Exchange {
                timings: Default::default(),
                remote_addr: None,
                result: Ok(answer),
            };
            let attempted = attempt.judge(made, now(), now());
            assert_eq!(
                (attempted.outcome, attempted.record.error),
                (outcome, error),
                "{status}"
            );
            assert!(attempted.record.answer.unwrap().truncated);
            assert_eq!(attempted.record.subscription_version, 3);
        }
    }

    #[test]
    fn a_trace_of_our_own_is_valid() {
        assert_eq!(
            trace_of(0, 0).to_str().unwrap(),
            "00-00000000000000000000000000000001-0000000000000001-00"
        );
    }
}
