//! How much a receiver can take: fewer attempts at once after it said it is overloaded,
//! and more again with every success.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// A pause of first attempts after the first complaint: so short that a receiver which
/// complains now and then loses little by it …
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// … and at most, doubling.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How many attempts may be under way, and when first attempts may begin.
///
/// Below the threshold it grows by one with each success, so doubles with each round;
/// above, by one with each round. A complaint halves it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// At least 1; as large as it gets while nothing is known.
    size: f32,
    threshold: f32,
    /// Complaints of attempts that began before say nothing new.
    slowed_at: Option<DateTime<Utc>>,
    pause: Duration,
    paused_until: Option<DateTime<Utc>>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            size: f32::INFINITY,
            threshold: f32::INFINITY,
            slowed_at: None,
            pause: Duration::ZERO,
            paused_until: None,
        }
    }
}

impl Window {
    /// How many attempts may be under way.
    ///
    /// - `max`: the most that the subscription wants.
    pub(super) fn allowed(&self, max: usize) -> usize {
        max.min(self.size as usize)
    }

    /// When first attempts may begin; `None` if they may.
    pub(super) fn paused_until(&self) -> Option<DateTime<Utc>> {
        self.paused_until
    }

    /// Whether nothing limits it.
    pub(super) fn is_full(&self) -> bool {
        self.size == f32::INFINITY && self.pause.is_zero()
    }

    /// Begins with one at a time.
    pub(super) fn start_slowly(&mut self) {
        (self.size, self.threshold) = (1.0, f32::INFINITY);
    }

    /// An attempt has succeeded.
    pub(super) fn succeeded(&mut self, max: usize) {
        let step = if self.size < self.threshold {
            1.0
        } else {
            1.0 / self.size
        };
        self.size += step;
        if self.size >= max as f32 {
            self.size = f32::INFINITY;
        }
        self.pause /= 2;
        if self.pause < SHORTEST_PAUSE {
            self.pause = Duration::ZERO;
        }
    }

    /// A receiver has said that it is overloaded, to an attempt that ran from
    /// `started_at` to `ended_at`.
    pub(super) fn overloaded(
        &mut self,
        started_at: DateTime<Utc>,
        ended_at: DateTime<Utc>,
        max: usize,
    ) {
        if self
            .slowed_at
            .is_some_and(|slowed_at| started_at <= slowed_at)
        {
            return;
        }
        self.slowed_at = Some(ended_at);
        self.size = (self.size.min(max as f32) / 2.0).max(1.0);
        self.threshold = self.size;
        self.pause = (self.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.paused_until = Some(ended_at + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(s: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(s)
    }

    fn allowed(window: &mut Window, change: impl FnOnce(&mut Window)) -> usize {
        change(window);
        window.allowed(10)
    }

    #[test]
    fn complaints_halve_it_and_successes_widen_it_gently() {
        let mut window = Window::default();
        assert_eq!(window.allowed(10), 10);
        let complaint = |s| move |window: &mut Window| window.overloaded(at(s), at(s), 10);
        assert_eq!(allowed(&mut window, complaint(1)), 5);
        assert_eq!(allowed(&mut window, complaint(2)), 2);
        assert_eq!(allowed(&mut window, complaint(3)), 1);
        assert_eq!(allowed(&mut window, complaint(4)), 1);
        // Above 1, which it was halved to last: by one with each round.
        let needed = (1..).find(|_| allowed(&mut window, |window| window.succeeded(10)) == 10);
        assert_eq!(needed, Some(49));
    }

    #[test]
    fn attempts_that_were_under_way_together_complain_once() {
        let mut window = Window::default();
        for _ in 0..10 {
            window.overloaded(at(0), at(2), 10);
        }
        assert_eq!(window.allowed(10), 5);
        assert_eq!(window.paused_until(), Some(at(2) + SHORTEST_PAUSE));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_halve_with_successes() {
        let mut window = Window::default();
        let mut paused = |s: i64| {
            window.overloaded(at(s), at(s), 10);
            (window.paused_until().unwrap() - at(s)).num_milliseconds()
        };
        let pauses: Vec<i64> = (1..=10).map(|count| paused(count * 1000)).collect();
        let expected = [
            250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000,
        ];
        assert_eq!(pauses, expected);
        (0..5).for_each(|_| window.succeeded(10));
        window.overloaded(at(11_000), at(11_000), 10);
        assert_eq!(
            window.paused_until(),
            Some(at(11_003) + TimeDelta::milliseconds(750))
        );
    }

    #[test]
    fn a_slow_start_doubles_with_each_round() {
        let mut window = Window::default();
        window.start_slowly();
        let mut round = || {
            let size = window.allowed(100);
            (0..size).for_each(|_| window.succeeded(100));
            size
        };
        let sizes: Vec<usize> = (0..8).map(|_| round()).collect();
        assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 100]);
    }
}
