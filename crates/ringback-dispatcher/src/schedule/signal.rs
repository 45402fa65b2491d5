//! What an attempt tells about its receiver.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ringback_model::{AttemptError, Outcome, retry_after};
use ringback_store::{AttemptAnswer, AttemptRecord};

/// Statuses by which receivers, and what stands before them, say that they are
/// overloaded.
const OVERLOADED: [u16; 4] = [429, 502, 503, 504];

/// How an attempt ended, as far as the next ones are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(super) started_at: DateTime<Utc>,
    pub(super) ended_at: DateTime<Utc>,
    pub(super) total_ms: u32,
    /// It got no answer in time.
    pub(super) timed_out: bool,
    /// `None` if it succeeded.
    pub(super) failure: Option<Complaint>,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Complaint {
    /// There was no answer at all.
    pub(super) unreachable: bool,
    /// The receiver said that it is overloaded.
    pub(super) overloaded: bool,
    /// The receiver said when to come again.
    pub(super) retry_after: Option<Duration>,
}

impl Signal {
    pub(crate) fn of(record: &AttemptRecord, outcome: Outcome, ended_at: DateTime<Utc>) -> Self {
        let timed_out = matches!(
            record.error,
            Some(AttemptError::Timeout | AttemptError::ConnectTimeout)
        );
        let complaint = || Complaint {
            unreachable: record.error.is_some_and(is_unreachable),
            overloaded: record
                .answer
                .as_ref()
                .is_some_and(|answer| OVERLOADED.contains(&answer.status_code)),
            retry_after: record
                .answer
                .as_ref()
                .and_then(|answer| asked_wait(answer, ended_at)),
        };
        Self {
            started_at: record.started_at,
            ended_at,
            total_ms: record.total_ms,
            timed_out,
            failure: (outcome != Outcome::Delivered).then(complaint),
        }
    }
}

fn is_unreachable(error: AttemptError) -> bool {
    match error {
        AttemptError::Dns
        | AttemptError::ConnectRefused
        | AttemptError::ConnectTimeout
        | AttemptError::Tls
        | AttemptError::Timeout
        | AttemptError::Reset => true,
        AttemptError::HttpStatus
        | AttemptError::TooLarge
        | AttemptError::Redirect
        | AttemptError::BlockedAddress
        | AttemptError::Protocol => false,
    }
}

/// The longest wait that an answer asks for.
fn asked_wait(answer: &AttemptAnswer, now: DateTime<Utc>) -> Option<Duration> {
    answer
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
        .filter_map(|(_, value)| retry_after(value, now))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    fn record(error: Option<AttemptError>, answer: Option<AttemptAnswer>) -> AttemptRecord {
        AttemptRecord {
            number: 1,
            started_at: now(),
            subscription_version: 1,
            error,
            remote_addr: None,
            dns_ms: None,
            connect_ms: None,
            tls_ms: None,
            first_byte_ms: None,
            total_ms: 70,
            answer,
        }
    }

    fn answered(status_code: u16, waits: &[&str]) -> Option<Complaint> {
        let headers = waits
            .iter()
            .map(|wait| ("retry-after".to_owned(), wait.as_bytes().to_vec()));
        let answer = AttemptAnswer {
            status_code,
            headers: headers.collect(),
            body: Default::default(),
            truncated: false,
        };
        let record = record(Some(AttemptError::HttpStatus), Some(answer));
        Signal::of(&record, Outcome::from_status(status_code), now()).failure
    }

    #[test]
    fn an_answer_may_complain_and_say_when_to_come_again() {
        let cases: [(u16, &[&str], bool, Option<u64>); 8] = [
            (429, &["3"], true, Some(3)),
            (503, &["Mon, 05 Jan 2026 09:01:00 GMT"], true, Some(60)),
            (502, &[], true, None),
            (504, &["soon"], true, None),
            (500, &[], false, None),
            (500, &["7"], false, Some(7)),
            (301, &["7"], false, Some(7)),
            (429, &["x", "5", "60", "7"], true, Some(60)),
        ];
        for (status, waits, overloaded, wait_s) in cases {
            let expected = Complaint {
                unreachable: false,
                overloaded,
                retry_after: wait_s.map(Duration::from_secs),
            };
            assert_eq!(
                answered(status, waits),
                Some(expected),
                "{status} {waits:?}"
            );
        }
        assert_eq!(answered(200, &["3"]), None);
    }

    #[test]
    fn who_gives_no_answer_is_told_apart_from_who_answers_badly() {
        let cases = [
            (AttemptError::Timeout, true, true),
            (AttemptError::ConnectTimeout, true, true),
            (AttemptError::ConnectRefused, true, false),
            (AttemptError::Dns, true, false),
            (AttemptError::BlockedAddress, false, false),
        ];
        for (error, unreachable, timed_out) in cases {
            let signal = Signal::of(&record(Some(error), None), Outcome::Failed(error), now());
            let failure = signal.failure.unwrap();
            assert_eq!(
                (failure.unreachable, signal.timed_out),
                (unreachable, timed_out),
                "{error}"
            );
        }
    }
}
