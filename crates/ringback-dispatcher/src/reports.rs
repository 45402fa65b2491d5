//! Which dead letters are reported to their application, as `ringback.delivery.dead`.
//!
//! At most one a minute per subscription: a receiver that is down kills many at once, and
//! each of them is in the list of deliveries. Kept in memory by the owner of the lane, off
//! the way of settling. Pure: says what to write, and hears what came of it.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{DeadReason, SubscriptionId};
use ringback_store::{DeadLetter, Next, Settlement, Source};

/// Between two reports on one subscription.
const PAUSE: TimeDelta = TimeDelta::minutes(1);

/// Reports that are not written yet, and when the last ones were.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    last_at: HashMap<SubscriptionId, DateTime<Utc>>,
    waiting: Vec<DeadLetter>,
    is_writing: bool,
}

impl Reports {
    /// Takes in what was settled.
    pub(crate) fn take(&mut self, settled: &Settlement, now: DateTime<Utc>) {
        let Some(letter) = letter(settled, now) else {
            return;
        };
        let subscription = letter.subscription();
        let last_at = self.last_at.get(&subscription);
        if last_at.is_none_or(|last_at| *last_at + PAUSE <= now) {
            self.last_at.insert(subscription, now);
            self.waiting.push(letter);
        }
    }

    /// Whether [`Self::next`] gives something.
    pub(crate) fn has_next(&self) -> bool {
        !self.is_writing && !self.waiting.is_empty()
    }

    /// What to write now.
    pub(crate) fn next(&mut self) -> Option<Vec<DeadLetter>> {
        self.has_next().then(|| {
            self.is_writing = true;
            std::mem::take(&mut self.waiting)
        })
    }

    /// What was to be written is done with.
    pub(crate) fn written(&mut self) {
        self.is_writing = false;
    }

    /// It is to be written again.
    pub(crate) fn failed(&mut self, letters: Vec<DeadLetter>) {
        self.is_writing = false;
        self.waiting.extend(letters);
    }

    /// Whether nothing is left to be written.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_writing && self.waiting.is_empty()
    }

    /// Forgets what makes no difference any more.
    pub(crate) fn tidy(&mut self, now: DateTime<Utc>) {
        self.last_at.retain(|_, last_at| *last_at + PAUSE > now);
    }
}

/// A dead letter, if it is to be reported: not for Ringback's own events, which would go
/// round in circles, nor where the subscription was disabled, which is reported as such.
fn letter(settled: &Settlement, now: DateTime<Utc>) -> Option<DeadLetter> {
    let Next::Dead(dead_reason) = settled.next else {
        return None;
    };
    let attempt = settled.attempt.as_ref();
    let before = match settled.source {
        Source::Outbox => 0,
        Source::Retries { attempts_made, .. } => attempts_made,
    };
    if dead_reason == DeadReason::SubscriptionDisabled || settled.event_type.is_system() {
        return None;
    }
    Some(DeadLetter {
        app: settled.app,
        delivery: settled.delivery,
        event_type: settled.event_type.clone(),
        attempts: attempt.map_or(before, |attempt| attempt.number),
        error: attempt.and_then(|attempt| attempt.error),
        dead_reason,
        at: now,
    })
}

#[cfg(test)]
mod tests {
    use ringback_model::{AppId, AttemptError, DeliveryId, EventId, Lane};
    use ringback_store::{AttemptRecord, Source};

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_603_600 + seconds, 0).unwrap()
    }

    fn settled(event: i64, subscription: i64, event_type: &str, next: Next) -> Settlement {
        let subscription = SubscriptionId::new(subscription);
        Settlement {
            lane: Lane::of(subscription),
            delivery: DeliveryId {
                event: EventId::new(event),
                subscription,
            },
            app: AppId::new(1),
            event_type: event_type.parse().unwrap(),
            source: Source::Outbox,
            attempt: Some(AttemptRecord {
                number: 6,
                started_at: at(0),
                subscription_version: 1,
                error: Some(AttemptError::Timeout),
                remote_addr: None,
                dns_ms: None,
                connect_ms: None,
                tls_ms: None,
                first_byte_ms: None,
                total_ms: 15_000,
                answer: None,
            }),
            next,
        }
    }

    const DEAD: Next = Next::Dead(DeadReason::OutOfAttempts);

    fn events(letters: Option<Vec<DeadLetter>>) -> Vec<i64> {
        let letters = letters.into_iter().flatten();
        letters.map(|one| one.delivery.event.get()).collect()
    }

    #[test]
    fn dead_letters_are_reported_once_a_minute_per_subscription() {
        let mut reports = Reports::default();
        for (event, subscription, second) in [
            (1, 1, 0),
            (2, 1, 1),
            (3, 2, 1),
            (4, 1, 59),
            (5, 1, 60),
            (6, 1, 61),
        ] {
            reports.tidy(at(second));
            reports.take(
                &settled(event, subscription, "order.paid", DEAD),
                at(second),
            );
        }
        assert_eq!(events(reports.next()), [1, 3, 5]);
    }

    #[test]
    fn only_what_ran_out_of_attempts_is_reported_and_nothing_of_our_own_events() {
        let due_at = at(9);
        let disabled = Next::Dead(DeadReason::SubscriptionDisabled);
        let cases = [
            ("order.paid", DEAD, true),
            ("order.paid", disabled, false),
            ("order.paid", Next::Delivered, false),
            ("order.paid", Next::Cancelled, false),
            ("order.paid", Next::Retry { due_at }, false),
            ("ringback.delivery.dead", DEAD, false),
            ("ringback.subscription.disabled", DEAD, false),
        ];
        for (event_type, next, reported) in cases {
            let mut reports = Reports::default();
            reports.take(&settled(1, 1, event_type, next), at(0));
            assert_eq!(reports.has_next(), reported, "{event_type} {next:?}");
        }
    }

    #[test]
    fn a_report_that_could_not_be_written_is_written_again() {
        let mut reports = Reports::default();
        reports.take(&settled(1, 1, "order.paid", DEAD), at(0));
        let letters = reports.next().unwrap();
        reports.take(&settled(2, 2, "order.paid", DEAD), at(0));
        assert!(reports.next().is_none() && !reports.is_idle());
        reports.failed(letters);
        assert_eq!(events(reports.next()), [2, 1]);
        reports.written();
        assert!(reports.is_idle());
    }
}
