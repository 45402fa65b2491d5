//! Who is slow: a moving average of how long attempts take.

/// Above it, a subscription is slow.
const SLOW_MS: f32 = 2000.0;
/// What one attempt weighs in the average.
const WEIGHT: f32 = 0.25;

/// How long a subscription's attempts take. One that was never sent to is fast.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latency {
    average_ms: Option<f32>,
    timed_out: bool,
}

impl Latency {
    /// An attempt has ended.
    ///
    /// - `timed_out`: it got no answer in time: slow at once, whatever the average.
    pub(super) fn took(&mut self, total_ms: u32, timed_out: bool) {
        let took_ms = total_ms as f32;
        let average_ms = self.average_ms.unwrap_or(took_ms);
        self.average_ms = Some(average_ms + WEIGHT * (took_ms - average_ms));
        self.timed_out = timed_out;
    }

    /// Whether it draws from the slow half.
    pub(super) fn is_slow(&self) -> bool {
        self.timed_out
            || self
                .average_ms
                .is_some_and(|average_ms| average_ms > SLOW_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_slow_follows_the_average_and_the_last_timeout() {
        let cases: [(&[(u32, bool)], bool); 7] = [
            (&[], false), // never sent to
            (&[(2000, false)], false),
            (&[(2001, false)], true),
            (&[(10, false), (7000, false)], false), // once is no habit
            (&[(10, false), (7000, false), (7000, false)], true),
            (&[(10, false), (500, true)], true), // just timed out
            (&[(10, false), (500, true), (10, false)], false),
        ];
        for (ended, expected) in cases {
            let mut latency = Latency::default();
            ended.iter().for_each(|(ms, out)| latency.took(*ms, *out));
            assert_eq!(latency.is_slow(), expected, "{ended:?}");
        }
    }

    #[test]
    fn who_answers_fast_again_is_fast_again_after_a_few_answers() {
        let mut latency = Latency::default();
        latency.took(15_000, true);
        let answers = (1..).find(|_| {
            latency.took(20, false);
            !latency.is_slow()
        });
        assert_eq!(answers, Some(8));
    }
}
