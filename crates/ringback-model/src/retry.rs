//! When a delivery is attempted again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// At most a year between two attempts, and at most 100 attempts.
const MAX_DELAY_S: f64 = 365.0 * 86_400.0;
const MAX_ATTEMPTS: usize = 100;

/// The example schedule of the Standard Webhooks specification 1.0.0.
const STANDARD_S: [f64; 9] = [
    5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0,
];
const FAST_S: [f64; 5] = [1.0, 5.0, 30.0, 120.0, 600.0];

/// How a retry policy is written in the API and stored: one of three forms.
///
/// ```
/// # use ringback_model::RetrySpec;
/// for text in [
///     r#"{"preset":"standard"}"#,
///     r#"{"schedule_s":[1.0,5.0]}"#,
///     r#"{"exponential":{"initial_s":5.0,"factor":2.0,"max_s":3600.0,"attempts":12}}"#,
/// ] {
///     let spec: RetrySpec = serde_json::from_str(text).unwrap();
///     assert_eq!(serde_json::to_string(&spec).unwrap(), text);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RetrySpec {
    /// `standard` or `fast`.
    Preset(RetryPreset),
    /// The waits, in seconds, before the second, third, … attempt.
    ScheduleS(Vec<f64>),
    /// Waits that grow by a factor up to a cap.
    Exponential {
        /// The wait before the second attempt, in seconds.
        initial_s: f64,
        /// What each wait is multiplied by to give the next.
        factor: f64,
        /// The longest wait, in seconds.
        max_s: f64,
        /// How many attempts, the first included.
        attempts: u16,
    },
}

/// A schedule that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryPreset {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
    Standard,
    /// 1 s, 5 s, 30 s, 2 min, 10 min.
    Fast,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self::Preset(RetryPreset::Standard)
    }
}

/// A retry policy cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRetryPolicy {
    /// A wait is negative, not a number, or over a year.
    #[error("each wait must be between 0 and 31536000 seconds")]
    Delay,
    /// None, or more than 100.
    #[error("there must be between 1 and 100 attempts")]
    Attempts,
    /// A factor under 1 or not finite.
    #[error("`factor` must be between 1 and 1000")]
    Factor,
}

/// When to attempt a delivery again: a table, so it can be read and quoted.
///
/// The default is the example schedule of the Standard Webhooks specification
/// 1.0.0, ten attempts in a little over three days. The dispatcher adds jitter.
///
/// ```
/// # use {ringback_model::RetryPolicy, std::time::Duration};
/// let policy = RetryPolicy::default();
/// assert_eq!(policy.next_delay(1), Some(Duration::from_secs(5)));
/// assert_eq!(policy.next_delay(9), Some(Duration::from_secs(24 * 60 * 60)));
/// assert_eq!(policy.next_delay(10), None); // out of attempts: a dead letter
///
/// let whole: Duration = (1..10).filter_map(|made| policy.next_delay(made)).sum();
/// assert_eq!(whole, Duration::from_secs(75 * 3600 + 35 * 60 + 5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait before the second attempt, the third, and so on.
    delays: Vec<Duration>,
}

impl RetryPolicy {
    /// The wait before the next attempt, or `None` if there is to be none.
    ///
    /// - `attempts_made`: in this round, at least 1. The first attempt of a round
    ///   has no wait.
    pub fn next_delay(&self, attempts_made: u16) -> Option<Duration> {
        let index = usize::from(attempts_made).checked_sub(1)?;
        self.delays.get(index).copied()
    }

    /// How many attempts there are, the first included.
    pub fn attempts(&self) -> usize {
        self.delays.len() + 1
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            delays: STANDARD_S.map(Duration::from_secs_f64).to_vec(),
        }
    }
}

impl TryFrom<&RetrySpec> for RetryPolicy {
    type Error = InvalidRetryPolicy;

    fn try_from(spec: &RetrySpec) -> Result<Self, InvalidRetryPolicy> {
        match spec {
            RetrySpec::Preset(RetryPreset::Standard) => from_seconds(&STANDARD_S),
            RetrySpec::Preset(RetryPreset::Fast) => from_seconds(&FAST_S),
            RetrySpec::ScheduleS(seconds) => from_seconds(seconds),
            &RetrySpec::Exponential {
                initial_s,
                factor,
                max_s,
                attempts,
            } => exponential(initial_s, factor, max_s, attempts),
        }
    }
}

/// Adds jitter to a wait: 0 to 10 %, never less than the wait.
///
/// - `random`: evenly spread over 0 to 1.
pub fn with_jitter(delay: Duration, random: f64) -> Duration {
    delay + delay.mul_f64(0.1 * random.clamp(0.0, 1.0))
}

fn from_seconds(seconds: &[f64]) -> Result<RetryPolicy, InvalidRetryPolicy> {
    if seconds.len() >= MAX_ATTEMPTS {
        return Err(InvalidRetryPolicy::Attempts);
    }
    let delays = seconds
        .iter()
        .copied()
        .map(delay)
        .collect::<Result<_, _>>()?;
    Ok(RetryPolicy { delays })
}

fn exponential(
    initial_s: f64,
    factor: f64,
    max_s: f64,
    attempts: u16,
) -> Result<RetryPolicy, InvalidRetryPolicy> {
    if !(1..=MAX_ATTEMPTS).contains(&usize::from(attempts)) {
        return Err(InvalidRetryPolicy::Attempts);
    }
    if !(1.0..=1000.0).contains(&factor) {
        return Err(InvalidRetryPolicy::Factor);
    }
    delay(initial_s)?;
    delay(max_s)?;
    // Beyond the cap the power may be infinite; `min` brings it back.
    let wait = |step: u16| (initial_s * factor.powi(i32::from(step))).min(max_s);
    let delays = (0..attempts - 1)
        .map(wait)
        .map(delay)
        .collect::<Result<_, _>>()?;
    Ok(RetryPolicy { delays })
}

fn delay(seconds: f64) -> Result<Duration, InvalidRetryPolicy> {
    if !(0.0..=MAX_DELAY_S).contains(&seconds) {
        return Err(InvalidRetryPolicy::Delay);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| InvalidRetryPolicy::Delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(spec: &str) -> Result<Vec<f64>, InvalidRetryPolicy> {
        let spec: RetrySpec = serde_json::from_str(spec).unwrap();
        let policy = RetryPolicy::try_from(&spec)?;
        Ok(policy.delays.iter().map(Duration::as_secs_f64).collect())
    }

    #[test]
    fn every_form_becomes_a_table() {
        let cases: [(&str, &[f64]); 6] = [
            (r#"{"preset":"fast"}"#, &[1.0, 5.0, 30.0, 120.0, 600.0]),
            (r#"{"schedule_s":[]}"#, &[]), // one attempt
            (r#"{"schedule_s":[0.5,5]}"#, &[0.5, 5.0]),
            (
                r#"{"exponential":{"initial_s":5,"factor":2,"max_s":30,"attempts":5}}"#,
                &[5.0, 10.0, 20.0, 30.0],
            ),
            (
                r#"{"exponential":{"initial_s":5,"factor":2,"max_s":30,"attempts":1}}"#,
                &[],
            ),
            (
                r#"{"exponential":{"initial_s":1,"factor":1000,"max_s":9,"attempts":4}}"#,
                &[1.0, 9.0, 9.0],
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(delays(spec).as_deref(), Ok(expected), "{spec}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let too_many = format!(r#"{{"schedule_s":{:?}}}"#, [1; 100]);
        let cases = [
            (r#"{"schedule_s":[-1]}"#, InvalidRetryPolicy::Delay),
            (r#"{"schedule_s":[1e300]}"#, InvalidRetryPolicy::Delay),
            (&*too_many, InvalidRetryPolicy::Attempts),
            (
                r#"{"exponential":{"initial_s":5,"factor":2,"max_s":30,"attempts":0}}"#,
                InvalidRetryPolicy::Attempts,
            ),
            (
                r#"{"exponential":{"initial_s":5,"factor":0.5,"max_s":30,"attempts":5}}"#,
                InvalidRetryPolicy::Factor,
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(delays(spec), Err(expected), "{spec}");
        }
        let unknown = r#"{"schedule_s":[1],"preset":"fast"}"#;
        assert!(serde_json::from_str::<RetrySpec>(unknown).is_err());
    }

    #[test]
    fn jitter_only_adds_and_at_most_a_tenth() {
        let hour = Duration::from_secs(3600);
        assert_eq!(with_jitter(hour, 0.0), hour);
        assert_eq!(with_jitter(hour, 1.0), Duration::from_secs(3960));
        assert_eq!(with_jitter(hour, 7.0), Duration::from_secs(3960));
    }
}
