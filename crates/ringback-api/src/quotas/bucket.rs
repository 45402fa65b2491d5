//! A token bucket that may be overdrawn once: a pure function of time.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// How much may come at once, in seconds' worth of the rate.
const BURST_S: f64 = 2.0;
/// What adding up fractions may be wrong by.
const ALMOST: f64 = 1e-6;

/// Lets through so many a second, and two seconds' worth at once.
///
/// A batch that is larger than the bucket goes through when the bucket is full, and is
/// paid back before anything else does: so over any time no more comes than the rate, a
/// full bucket and one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_s: f64,
    /// Below zero: what is to be paid back.
    level: f64,
    at: DateTime<Utc>,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(per_s: f64, now: DateTime<Utc>) -> Self {
        Self {
            per_s,
            level: capacity(per_s),
            at: now,
        }
    }

    /// How long it takes until `count` may be taken; nothing if they may be now.
    pub(crate) fn wait(&self, count: u32, now: DateTime<Utc>) -> Option<Duration> {
        let needed = f64::from(count).min(capacity(self.per_s));
        let missing = needed - self.level(now);
        (missing > ALMOST).then(|| {
            let longest = Duration::from_secs(u32::MAX.into());
            Duration::try_from_secs_f64(missing / self.per_s).unwrap_or(longest)
        })
    }

    /// Takes `count`, if need be on credit.
    pub(crate) fn take(&mut self, count: u32, now: DateTime<Utc>) {
        self.level = self.level(now) - f64::from(count);
        self.at = self.at.max(now);
    }

    /// Goes on with another rate; what is to be paid back stays.
    pub(crate) fn change(&mut self, per_s: f64, now: DateTime<Utc>) {
        self.level = self.level(now).min(capacity(per_s));
        self.at = self.at.max(now);
        self.per_s = per_s;
    }

    /// What is in it.
    pub(crate) fn level(&self, now: DateTime<Utc>) -> f64 {
        let passed = (now - self.at).max(TimeDelta::zero()).as_seconds_f64();
        (self.level + passed * self.per_s).min(capacity(self.per_s))
    }

    /// Whether it is as if it had never been used.
    pub(crate) fn is_full(&self, now: DateTime<Utc>) -> bool {
        capacity(self.per_s) - self.level(now) < ALMOST
    }
}

fn capacity(per_s: f64) -> f64 {
    (per_s * BURST_S).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_767_603_600_000 + millis).unwrap()
    }

    /// Asks at each time (ms) for so many; each is answered with its wait in ms.
    fn ask(bucket: &mut Bucket, asked: &[(i64, u32, u128)]) {
        for &(millis, count, expected) in asked {
            let wait = bucket.wait(count, at(millis));
            let waited = wait.map_or(0, |wait| (wait.as_secs_f64() * 1000.0).round() as u128);
            assert_eq!(waited, expected, "{count} at {millis} ms");
            if wait.is_none() {
                bucket.take(count, at(millis));
            }
        }
    }

    #[test]
    fn two_seconds_worth_may_come_at_once_and_then_the_rate() {
        let mut bucket = Bucket::new(10.0, at(0));
        ask(
            &mut bucket,
            &[
                (0, 15, 0),
                (0, 5, 0),
                (0, 1, 100),
                (50, 1, 50),
                (100, 1, 0),
                (100, 1, 100),
                (1_100, 11, 100),
                (1_200, 11, 0),
                (60_000, 20, 0), // full, and no fuller
                (60_000, 1, 100),
            ],
        );
    }

    #[test]
    fn a_batch_that_is_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_back() {
        let mut bucket = Bucket::new(10.0, at(0));
        ask(
            &mut bucket,
            &[
                (0, 1, 0),
                (0, 500, 100),
                (100, 500, 0),
                (100, 1, 48_100), // 480 on credit, and one
                (48_100, 1, 100),
                (48_200, 1, 0),
                (48_200, 500, 2_000),
            ],
        );
    }

    #[test]
    fn a_rate_below_one_lets_one_through_at_a_time() {
        let mut bucket = Bucket::new(0.1, at(0));
        ask(
            &mut bucket,
            &[(0, 1, 0), (0, 1, 10_000), (9_000, 1, 1_000), (10_000, 1, 0)],
        );
    }

    #[test]
    fn another_rate_holds_from_now_on() {
        let mut bucket = Bucket::new(1.0, at(0));
        ask(&mut bucket, &[(0, 102, 0), (0, 1, 101_000)]);
        bucket.change(100.0, at(0));
        ask(&mut bucket, &[(0, 1, 1_010), (1_010, 1, 0)]);
        bucket.change(1.0, at(60_000));
        ask(&mut bucket, &[(60_000, 2, 0), (60_000, 1, 1_000)]);
    }

    #[test]
    fn a_clock_that_stands_still_or_back_gives_nothing() {
        let mut bucket = Bucket::new(1.0, at(1_000));
        ask(
            &mut bucket,
            &[(1_000, 2, 0), (1_000, 1, 1_000), (0, 1, 1_000)],
        );
    }

    /// Whatever is asked for, and when: over any time no more comes than is promised, and
    /// who waits as long as told is let through.
    #[test]
    fn no_more_comes_than_the_rate_a_full_bucket_and_one_batch() {
        let mut random = Random(7);
        for _ in 0..200 {
            let per_s = [0.05, 0.7, 1.0, 9.5, 1_000.0][random.below(5) as usize];
            let mut bucket = Bucket::new(per_s, at(0));
            let (mut now, mut taken) = (0, Vec::new());
            for _ in 0..100 {
                now += i64::from(random.below(3_000));
                let count = 1 + random.below(500);
                if random.below(2) == 0
                    && let Some(wait) = bucket.wait(count, at(now))
                {
                    now += wait.as_millis() as i64 + 1;
                    assert_eq!(bucket.wait(count, at(now)), None, "waited in vain");
                }
                if bucket.wait(count, at(now)).is_none() {
                    bucket.take(count, at(now));
                    taken.push((now, count));
                }
            }
            for from in 0..taken.len() {
                let mut sum = 0.0;
                for &(then, count) in &taken[from..] {
                    sum += f64::from(count);
                    let passed = (then - taken[from].0) as f64 / 1000.0;
                    let largest = 500.0;
                    let most = passed * per_s + capacity(per_s) + largest + 0.001;
                    assert!(sum <= most, "{sum} in {passed} s at {per_s}/s");
                }
            }
        }
    }

    /// Numbers that are the same in each run (an xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u32) -> u32 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 32) as u32 % end
        }
    }
}
