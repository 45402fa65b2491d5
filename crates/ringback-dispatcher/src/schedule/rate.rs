//! How often a subscription is sent to: the generic cell rate algorithm, in 16 bytes.

use chrono::{DateTime, Utc};

const SECOND_NS: i64 = 1_000_000_000;
/// Slower than once a year is once a year.
const YEAR_NS: i64 = 365 * 86_400 * SECOND_NS;

/// Spaces attempts evenly. After a rest, as many as fit in one second may begin at once,
/// and at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Between two attempts.
    interval_ns: i64,
    /// When the next would begin if all were evenly spaced, since 1970.
    even_ns: i64,
}

impl Rate {
    /// - `per_s`: attempts per second, above 0.
    pub(super) fn new(per_s: f64) -> Self {
        // Rounded up, so that it is never exceeded; casts of floats stop at the bounds.
        let interval_ns = (SECOND_NS as f64 / per_s).ceil() as i64;
        Self {
            interval_ns: interval_ns.clamp(1, YEAR_NS),
            even_ns: 0,
        }
    }

    /// Goes on at another rate.
    pub(super) fn change(&mut self, per_s: f64) {
        self.interval_ns = Self::new(per_s).interval_ns;
    }

    /// When the next attempt may begin.
    pub(super) fn next_at(&self) -> DateTime<Utc> {
        let ahead_ns = self.interval_ns * (self.burst() - 1);
        DateTime::from_timestamp_nanos(self.even_ns - ahead_ns)
    }

    /// An attempt begins.
    pub(super) fn take(&mut self, now: DateTime<Utc>) {
        let now_ns = now.timestamp_nanos_opt().unwrap_or(i64::MAX - YEAR_NS);
        self.even_ns = self.even_ns.max(now_ns).saturating_add(self.interval_ns);
    }

    /// It did not begin after all.
    pub(super) fn give_back(&mut self) {
        self.even_ns -= self.interval_ns;
    }

    /// How many can be sent within a minute.
    pub(super) fn per_minute(&self) -> usize {
        usize::try_from(60 * SECOND_NS / self.interval_ns).unwrap_or(usize::MAX)
    }

    fn burst(&self) -> i64 {
        (SECOND_NS / self.interval_ns).max(1)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    /// When attempts begin, in milliseconds, if each begins as soon as it may.
    fn begin(rate: &mut Rate, count: usize) -> Vec<i64> {
        let mut at = now();
        let mut one = || {
            at = at.max(rate.next_at());
            rate.take(at);
            (at - now()).num_milliseconds()
        };
        (0..count).map(|_| one()).collect()
    }

    #[test]
    fn after_a_rest_one_seconds_worth_begins_at_once_and_then_they_are_spaced() {
        let cases: [(f64, &[i64]); 4] = [
            (2.0, &[0, 0, 500, 1000, 1500]),
            (1.0, &[0, 1000, 2000]),
            (0.5, &[0, 2000, 4000]),
            (2.5, &[0, 0, 400, 800, 1200]), // two and a half is two
        ];
        for (per_s, expected) in cases {
            let begun = begin(&mut Rate::new(per_s), expected.len());
            assert_eq!(begun, expected, "{per_s} per second");
        }
        assert_eq!(size_of::<Rate>(), 16);
    }

    #[test]
    fn what_did_not_begin_does_not_count() {
        let mut rate = Rate::new(1.0);
        rate.take(now());
        assert_eq!(rate.next_at(), now() + TimeDelta::seconds(1));
        rate.give_back();
        assert!(rate.next_at() <= now());
    }

    #[test]
    fn a_minutes_worth_is_at_least_nothing() {
        let cases = [(10_000.0, 600_000), (1.0, 60), (0.01, 0), (1e-300, 0)];
        for (per_s, expected) in cases {
            assert_eq!(Rate::new(per_s).per_minute(), expected, "{per_s}");
        }
    }

    proptest! {
        /// In any stretch of time there are no more than its worth and one burst.
        #[test]
        fn no_stretch_has_more_than_its_worth(
            per_s in 0.01f64..10_000.0,
            rests_ms in prop::collection::vec(0i64..3000, 1..200),
        ) {
            let mut rate = Rate::new(per_s);
            let (mut at, mut begun) = (now(), Vec::new());
            for rest_ms in rests_ms {
                at = (at + TimeDelta::milliseconds(rest_ms)).max(rate.next_at());
                rate.take(at);
                begun.push(at);
            }
            for (index, from) in begun.iter().enumerate() {
                for (count, to) in (1..).zip(&begun[index..]) {
                    let stretch_s = (*to - *from).num_microseconds().unwrap() as f64 / 1e6;
                    let worth = stretch_s * per_s + per_s.max(1.0);
                    prop_assert!(f64::from(count) <= worth + 1e-3, "{count} in {stretch_s} s");
                }
            }
        }
    }
}
