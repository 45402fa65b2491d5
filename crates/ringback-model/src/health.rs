//! Whether a subscription's receiver works, and when it is given up.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Nothing but failures for so long disables a subscription.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// Its owner is warned at these parts of the way, in percent.
const WARNINGS: [u8; 3] = [50, 70, 90];

/// A subscription that has had nothing but failures for a while.
///
/// What counts is any attempt that did not end with a 2xx: another status, a timeout, a
/// connection that failed, an address that is not called. Attempts that end say how it
/// goes on: time alone gives nobody up, and a subscription without events waits.
///
/// ```
/// # use {ringback_model::{Failing, HealthStep}, chrono::{DateTime, TimeDelta, Utc}};
/// let since: DateTime<Utc> = "2026-01-05T09:00:00Z".parse().unwrap();
/// let failed_after = |hours: i64, warned: u8| {
///     Failing { since, warned }.failed(since + TimeDelta::hours(hours))
/// };
/// assert_eq!(failed_after(59, 0), HealthStep::None);
/// assert_eq!(failed_after(60, 0), HealthStep::Warn(50)); // half of five days
/// assert_eq!(failed_after(60, 50), HealthStep::None); // once each
/// assert_eq!(failed_after(84, 50), HealthStep::Warn(70));
/// assert_eq!(failed_after(108, 70), HealthStep::Warn(90));
/// assert_eq!(failed_after(108, 0), HealthStep::Warn(90)); // only the last that is due
/// assert_eq!(failed_after(120, 90), HealthStep::Disable);
/// assert_eq!(Failing { since, warned: 0 }.disables_at(), since + TimeDelta::days(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The first failure after the last success.
    pub since: DateTime<Utc>,
    /// How far its owner was warned, in percent of the way: 0, 50, 70 or 90.
    pub warned: u8,
}

/// What a failure means for its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthStep {
    /// Nothing yet.
    None,
    /// Its owner is to be warned: it is that far, in percent.
    Warn(u8),
    /// It is to be disabled.
    Disable,
}

impl Failing {
    /// What follows from another failure.
    pub fn failed(self, at: DateTime<Utc>) -> HealthStep {
        let gone = (at - self.since).to_std().unwrap_or_default();
        if gone >= GIVE_UP_AFTER {
            return HealthStep::Disable;
        }
        let reached = |percent: &u8| gone >= GIVE_UP_AFTER * u32::from(*percent) / 100;
        match WARNINGS.into_iter().rfind(reached) {
            Some(percent) if percent > self.warned => HealthStep::Warn(percent),
            _ => HealthStep::None,
        }
    }

    /// A failure from then on disables it.
    pub fn disables_at(self) -> DateTime<Utc> {
        self.since + GIVE_UP_AFTER
    }
}
