//! What became of deliveries, on its way to the store.
//!
//! Results wait for at most five milliseconds, or until there are 512: one statement
//! settles them all. A batch that could not be written is written again, unchanged:
//! settling twice changes nothing. Pure: says what to write, and hears what came of it.

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{DeadReason, Outcome};
use ringback_model::{RetryPolicy, with_jitter};
use ringback_store::{Next, Settlement};

use crate::{row::Stage, sending::Service};

/// The most to settle in one statement.
const BATCH: usize = 512;
/// The least time between two statements, unless there is a full batch.
const PAUSE: TimeDelta = TimeDelta::milliseconds(5);
/// Statements under way at once.
const AT_ONCE: usize = 2;

/// Where a delivery goes after an attempt.
///
/// - `stage`: the row that it came from.
/// - `not_before`: what the receiver asked for; it never makes a wait shorter.
/// - `random`: evenly spread over 0 to 1.
pub(crate) fn next(
    outcome: Outcome,
    service: Service,
    policy: &RetryPolicy,
    stage: Stage,
    ended_at: DateTime<Utc>,
    not_before: Option<DateTime<Utc>>,
    random: f64,
) -> Next {
    match (outcome, service) {
        (Outcome::Delivered, _) => return Next::Delivered,
        (_, Service::Deleted) => return Next::Cancelled,
        (Outcome::SubscriptionGone, _) | (_, Service::Disabled) => {
            return Next::Dead(DeadReason::SubscriptionDisabled);
        }
        (Outcome::Failed(_), Service::Send | Service::Hold) => {}
    }
    let made_in_round = (stage.attempts_made() + 1).saturating_sub(stage.round_start());
    match policy.next_delay(made_in_round) {
        Some(delay) => {
            let due_at = ended_at + with_jitter(delay, random);
            Next::Retry {
                due_at: whole_ms(not_before.map_or(due_at, |time| time.max(due_at))),
            }
        }
        None => Next::Dead(DeadReason::OutOfAttempts),
    }
}

/// The next whole millisecond: a database that keeps no more must not make it earlier.
fn whole_ms(time: DateTime<Utc>) -> DateTime<Utc> {
    let beyond = time.timestamp_subsec_nanos() % 1_000_000;
    if beyond == 0 {
        time
    } else {
        time + Duration::from_nanos((1_000_000 - beyond).into())
    }
}

/// Results that are not committed yet.
#[derive(Debug, Default)]
pub(crate) struct Settler {
    fresh: Vec<Settlement>,
    /// Those that have to be written again.
    again: VecDeque<Vec<Settlement>>,
    under_way: usize,
    unsettled: usize,
    last_at: Option<DateTime<Utc>>,
}

impl Settler {
    /// Above this many, sending stops: so few are repeated if this process dies.
    pub(crate) const MOST: usize = 2 * BATCH;

    pub(crate) fn push(&mut self, settlement: Settlement) {
        self.fresh.push(settlement);
        self.unsettled += 1;
    }

    /// What to write now, if anything.
    pub(crate) fn next(&mut self, now: DateTime<Utc>) -> Option<Vec<Settlement>> {
        if self.next_at()? > now {
            return None;
        }
        self.under_way += 1;
        let batch = match self.again.pop_front() {
            Some(batch) => batch,
            None if self.fresh.len() <= BATCH => std::mem::take(&mut self.fresh),
            None => self.fresh.drain(..BATCH).collect(),
        };
        Some(batch)
    }

    /// When to ask [`Self::next`] again.
    pub(crate) fn next_at(&self) -> Option<DateTime<Utc>> {
        let full = !self.again.is_empty() || self.fresh.len() >= BATCH;
        let may_write = if full { AT_ONCE } else { 1 };
        if self.under_way >= may_write || (!full && self.fresh.is_empty()) {
            return None;
        }
        let pause = self
            .last_at
            .filter(|_| !full)
            .map(|last_at| last_at + PAUSE);
        Some(pause.unwrap_or(DateTime::<Utc>::MIN_UTC))
    }

    /// A batch of so many is committed.
    pub(crate) fn settled(&mut self, count: usize, now: DateTime<Utc>) {
        self.under_way -= 1;
        self.unsettled -= count;
        self.last_at = Some(now);
    }

    /// A batch is to be written again.
    pub(crate) fn failed(&mut self, batch: Vec<Settlement>) {
        self.under_way -= 1;
        self.again.push_back(batch);
    }

    /// The store refused a batch. Finds the guilty one by halves, and tries that without
    /// the answer it got, which is all that others chose. Answers what is given up.
    pub(crate) fn refused(&mut self, mut batch: Vec<Settlement>) -> Option<Settlement> {
        self.under_way -= 1;
        if batch.len() > 1 {
            let second = batch.split_off(batch.len() / 2);
            self.again.extend([batch, second]);
            return None;
        }
        let mut only = batch.pop()?;
        let answer = only
            .attempt
            .as_mut()
            .and_then(|attempt| attempt.answer.as_mut());
        if let Some(answer) =
            answer.filter(|answer| !answer.headers.is_empty() || !answer.body.is_empty())
        {
            (answer.headers, answer.body) = (Vec::new(), Default::default());
            self.again.push_back(vec![only]);
            return None;
        }
        self.unsettled -= 1;
        Some(only)
    }

    /// How many results are not committed.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ringback_model::{
        AppId, AttemptError, DeliveryId, EventId, Lane, RetryPreset, RetrySpec, SubscriptionId,
    };
    use ringback_store::{AttemptAnswer, AttemptRecord, Source};

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    fn settlement(number: i64) -> Settlement {
        let answer = AttemptAnswer {
            status_code: 200,
            headers: Vec::new(),
            body: Bytes::from_static(b"ok"),
            truncated: false,
        };
        let attempt = AttemptRecord {
            number: 1,
            started_at: now(),
            subscription_version: 1,
            error: None,
            remote_addr: None,
            dns_ms: None,
            connect_ms: None,
            tls_ms: None,
            first_byte_ms: None,
            total_ms: 1,
            answer: Some(answer),
        };
        Settlement {
            lane: Lane::new(0),
            delivery: DeliveryId {
                event: EventId::new(number),
                subscription: SubscriptionId::new(1),
            },
            app: AppId::new(1),
            event_type: "order.paid".parse().unwrap(),
            source: Source::Outbox,
            attempt: Some(attempt),
            next: Next::Delivered,
        }
    }

    fn settler(fresh: i64) -> Settler {
        let mut settler = Settler::default();
        (0..fresh).for_each(|number| settler.push(settlement(number)));
        settler
    }

    #[test]
    fn where_a_delivery_goes_follows_from_the_outcome() {
        let fast = RetryPolicy::try_from(&RetrySpec::Preset(RetryPreset::Fast)).unwrap();
        let failed = Outcome::Failed(AttemptError::Timeout);
        let retry = |s| Next::Retry {
            due_at: now() + Duration::from_secs(s),
        };
        let disabled = Next::Dead(DeadReason::SubscriptionDisabled);
        let spent = Next::Dead(DeadReason::OutOfAttempts);
        let first = Stage::OUTBOX;
        let cases = [
            (Outcome::Delivered, Service::Send, first, Next::Delivered),
            (
                Outcome::Delivered,
                Service::Disabled,
                first,
                Next::Delivered,
            ),
            (Outcome::Delivered, Service::Deleted, first, Next::Delivered),
            (Outcome::SubscriptionGone, Service::Send, first, disabled),
            (failed, Service::Disabled, first, disabled),
            (failed, Service::Deleted, first, Next::Cancelled),
            (failed, Service::Send, first, retry(1)),
            (failed, Service::Hold, first, retry(1)), // and waits there
            (failed, Service::Send, Stage::retries(0, 0), retry(1)),
            (failed, Service::Send, Stage::retries(1, 0), retry(5)),
            (failed, Service::Send, Stage::retries(4, 0), retry(600)),
            (failed, Service::Send, Stage::retries(5, 0), spent),
            (failed, Service::Send, Stage::retries(6, 6), retry(1)), // replayed
            (failed, Service::Send, Stage::retries(11, 6), spent),
        ];
        for (outcome, service, stage, expected) in cases {
            let next = next(outcome, service, &fast, stage, now(), None, 0.0);
            assert_eq!(next, expected, "{outcome:?} {service:?} {stage:?}");
        }
    }

    #[test]
    fn a_retry_is_never_early_and_at_most_a_tenth_late() {
        let policy = RetryPolicy::default();
        let failed = Outcome::Failed(AttemptError::Reset);
        let ended_at = now() + Duration::from_nanos(1);
        for (random, late_ms) in [(0.0, 1), (0.5, 251), (1.0, 501)] {
            let next = next(
                failed,
                Service::Send,
                &policy,
                Stage::OUTBOX,
                ended_at,
                None,
                random,
            );
            let due_at = now() + Duration::from_millis(5000 + late_ms);
            assert_eq!(next, Next::Retry { due_at });
        }
    }

    #[test]
    fn a_receiver_can_ask_for_a_longer_wait_but_not_for_a_shorter_one() {
        let policy = RetryPolicy::default();
        let failed = Outcome::Failed(AttemptError::HttpStatus);
        let stage = Stage::OUTBOX;
        for (asked_s, due_s) in [(-60, 5), (3, 5), (5, 5), (7, 7), (86_400, 86_400)] {
            let asked = Some(now() + TimeDelta::seconds(asked_s));
            let next = next(failed, Service::Send, &policy, stage, now(), asked, 0.0);
            let due_at = now() + TimeDelta::seconds(due_s);
            assert_eq!(next, Next::Retry { due_at }, "{asked_s}");
        }
        let spent = Stage::retries(9, 0);
        let asked = Some(now() + TimeDelta::seconds(60));
        let next = next(failed, Service::Send, &policy, spent, now(), asked, 0.0);
        assert_eq!(next, Next::Dead(DeadReason::OutOfAttempts));
    }

    #[test]
    fn when_idle_a_result_is_written_at_once_and_the_next_after_a_pause() {
        let mut settler = settler(1);
        assert_eq!(settler.next(now()).unwrap().len(), 1);
        (0..9).for_each(|number| settler.push(settlement(number)));
        assert_eq!((settler.next(now()), settler.next_at()), (None, None));
        settler.settled(1, now());
        assert_eq!(
            (settler.next(now()), settler.next_at()),
            (None, Some(now() + PAUSE))
        );
        assert_eq!(settler.next(now() + PAUSE).unwrap().len(), 9);
        settler.settled(9, now());
        assert_eq!(settler.unsettled(), 0);
    }

    #[test]
    fn full_batches_are_written_two_at_a_time() {
        let mut settler = settler(2000);
        let written: Vec<_> = std::iter::from_fn(|| settler.next(now())).collect();
        assert_eq!(
            written.iter().map(Vec::len).collect::<Vec<_>>(),
            [BATCH, BATCH]
        );
        assert_eq!(settler.unsettled(), 2000);
    }

    #[test]
    fn a_batch_that_could_not_be_written_is_written_again_unchanged() {
        let mut settler = settler(3);
        let batch = settler.next(now()).unwrap();
        settler.failed(batch.clone());
        assert_eq!(settler.unsettled(), 3);
        assert_eq!(settler.next(now()), Some(batch));
    }

    #[test]
    fn a_refused_batch_loses_only_the_guilty_one() {
        let mut settler = settler(5);
        let (mut settled, mut given_up) = (Vec::new(), Vec::new());
        while let Some(batch) = settler.next(now()) {
            if batch
                .iter()
                .any(|one| one.delivery.event == EventId::new(3))
            {
                given_up.extend(settler.refused(batch).map(|one| one.delivery.event.get()));
            } else {
                settled.extend(batch.iter().map(|one| one.delivery.event.get()));
                settler.settled(batch.len(), now());
            }
        }
        settled.sort();
        assert_eq!((settled, given_up), (vec![0, 1, 2, 4], vec![3]));
        assert_eq!(settler.unsettled(), 0);
    }

    #[test]
    fn a_refused_result_is_tried_again_without_what_the_receiver_answered() {
        let mut settler = settler(1);
        let batch = settler.next(now()).unwrap();
        assert_eq!(settler.refused(batch), None);
        let batch = settler.next(now()).unwrap();
        let answer = batch[0].attempt.as_ref().unwrap().answer.as_ref().unwrap();
        assert!(answer.status_code == 200 && answer.body.is_empty());
        assert!(settler.refused(batch).is_some());
    }
}
