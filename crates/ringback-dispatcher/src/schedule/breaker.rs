//! Sends hardly anything to a receiver that answers nothing well.
//!
//! Open, it lets one attempt at a time through and holds first attempts back. A retry
//! that is due is the probe. If none is due within a cool-down, one first attempt is let
//! through. A success closes it.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// So many failed attempts without a success between open it …
const FAILURES: u16 = 10;
/// … or so many that got no answer at all.
const UNREACHABLE: u16 = 5;
/// Without a due retry, a first attempt is let through after so long …
const SHORTEST_COOL_DOWN: Duration = Duration::from_secs(30);
/// … and at most, doubling with each.
const LONGEST_COOL_DOWN: Duration = Duration::from_secs(600);

/// Of one subscription.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    failures: u16,
    unreachable: u16,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: DateTime<Utc>,
    cool_down: Duration,
    probe_at: DateTime<Utc>,
    /// Added to each cool-down, as a part of it, so that not all probe together.
    jitter: f64,
}

impl Breaker {
    /// Since when it is open.
    pub(super) fn open_since(&self) -> Option<DateTime<Utc>> {
        self.open.map(|open| open.since)
    }

    /// When a first attempt may be let through, if it is open.
    pub(super) fn probe_at(&self) -> Option<DateTime<Utc>> {
        self.open.map(|open| open.probe_at)
    }

    /// Whether no attempt has failed since the last success.
    pub(super) fn is_calm(&self) -> bool {
        self.failures == 0
    }

    /// An attempt has failed. Whether that opened it.
    ///
    /// - `unreachable`: it got no answer at all.
    /// - `random`: evenly spread over 0 to 1.
    pub(super) fn failed(&mut self, unreachable: bool, at: DateTime<Utc>, random: f64) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.unreachable = self.unreachable.saturating_add(unreachable.into());
        if let Some(open) = &mut self.open {
            open.cool_down_from(at);
            return false;
        }
        let opens = self.failures >= FAILURES || self.unreachable >= UNREACHABLE;
        if opens {
            let mut open = Open {
                since: at,
                cool_down: SHORTEST_COOL_DOWN,
                probe_at: at,
                jitter: 0.1 * random.clamp(0.0, 1.0),
            };
            open.cool_down_from(at);
            self.open = Some(open);
        }
        opens
    }

    /// An attempt has succeeded. Whether that closed it.
    pub(super) fn succeeded(&mut self) -> bool {
        let was_open = self.open.is_some();
        *self = Self::default();
        was_open
    }

    /// A first attempt is let through; the next only after a longer cool-down.
    pub(super) fn let_through(&mut self, now: DateTime<Utc>) {
        if let Some(open) = &mut self.open {
            open.cool_down = (open.cool_down * 2).min(LONGEST_COOL_DOWN);
            open.cool_down_from(now);
        }
    }

    /// It was not sent after all: another may be.
    pub(super) fn give_back(&mut self, now: DateTime<Utc>) {
        if let Some(open) = &mut self.open {
            open.cool_down = (open.cool_down / 2).max(SHORTEST_COOL_DOWN);
            open.probe_at = now;
        }
    }
}

impl Open {
    fn cool_down_from(&mut self, at: DateTime<Utc>) {
        self.probe_at = at + self.cool_down + self.cool_down.mul_f64(self.jitter);
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(s: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(s)
    }

    fn opened(random: f64) -> Breaker {
        let mut breaker = Breaker::default();
        let opened = (0..UNREACHABLE).filter(|_| breaker.failed(true, at(0), random));
        assert_eq!(opened.count(), 1);
        breaker
    }

    #[test]
    fn a_run_of_failures_opens_it_and_any_success_ends_the_run() {
        // `x` fails with an answer, `-` gets none, `o` succeeds.
        let cases = [
            ("xxxxxxxxx", false),
            ("xxxxxxxxxx", true),
            ("----", false),
            ("-----", true),
            ("x-x-x-x-x", false),
            ("x-x-x-x--", true),
            ("xxxxxxxxxox", false),
            ("----o----", false),
            ("xxxxxxxxxxo", false),
        ];
        for (ends, open) in cases {
            let mut breaker = Breaker::default();
            for end in ends.chars() {
                let _ = match end {
                    'o' => breaker.succeeded(),
                    _ => breaker.failed(end == '-', at(0), 0.0),
                };
            }
            assert_eq!(breaker.open_since().is_some(), open, "{ends}");
        }
    }

    #[test]
    fn it_says_once_that_it_opened_and_once_that_it_closed() {
        let mut breaker = Breaker::default();
        let opened = (0..30)
            .filter(|_| breaker.failed(false, at(0), 0.0))
            .count();
        assert_eq!(opened, 1);
        assert!(breaker.succeeded() && !breaker.succeeded());
    }

    #[test]
    fn cool_downs_double_up_to_ten_minutes_and_jitter_adds_a_tenth_at_most() {
        for (random, tenths) in [(0.0, 10), (1.0, 11)] {
            let mut breaker = opened(random);
            let mut waits = Vec::new();
            let mut now = at(0);
            for _ in 0..7 {
                let probe_at = breaker.probe_at().unwrap();
                waits.push((probe_at - now).num_milliseconds() / 100 / tenths);
                now = probe_at;
                breaker.let_through(now);
                breaker.failed(true, now, random);
            }
            assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
        }
    }

    #[test]
    fn a_retry_that_fails_puts_the_probe_off_but_makes_no_cool_down_longer() {
        let mut breaker = opened(0.0);
        breaker.failed(false, at(20), 0.0);
        assert_eq!(breaker.probe_at(), Some(at(50)));
    }

    #[test]
    fn a_probe_that_was_not_sent_may_be_tried_at_once() {
        let mut breaker = opened(0.0);
        breaker.let_through(at(30));
        breaker.give_back(at(31));
        assert_eq!(breaker.probe_at(), Some(at(31)));
        breaker.let_through(at(31));
        assert_eq!(breaker.probe_at(), Some(at(91)));
    }
}
