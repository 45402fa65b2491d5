//! How soon to ask a database again that did not answer.

use std::{error::Error, time::Duration};

use chrono::{DateTime, Utc};
use ringback_store::StoreError;

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Waits longer after each failure in a row, of one kind of statement.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    wait: Duration,
    until: Option<DateTime<Utc>>,
}

impl Patience {
    /// A statement failed; says so in the log, once until it works again.
    ///
    /// - `what`: what could not be done, as the end of "could not …".
    pub(crate) fn failed(&mut self, what: &'static str, error: &StoreError, now: DateTime<Utc>) {
        if self.wait.is_zero() {
            tracing::warn!(
                error = error as &dyn Error,
                "could not {what}; trying again"
            );
        }
        self.wait = (self.wait * 2).clamp(SHORTEST, LONGEST);
        self.until = Some(now + self.wait);
    }

    /// A statement worked.
    pub(crate) fn worked(&mut self) {
        *self = Self::default();
    }

    /// Whether to try now.
    pub(crate) fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// `at`, or later if that is too soon.
    pub(crate) fn not_before(&self, at: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        at.map(|at| self.until.map_or(at, |until| until.max(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_two_seconds() {
        let now = DateTime::UNIX_EPOCH;
        let error = StoreError::unavailable(std::io::Error::other("gone"));
        let mut patience = Patience::default();
        assert!(patience.is_over(now));
        let waits: Vec<i64> = (0..8)
            .map(|_| {
                patience.failed("test", &error, now);
                (patience.not_before(Some(now)).unwrap() - now).num_milliseconds()
            })
            .collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert!(!patience.is_over(now + Duration::from_millis(1999)));
        assert!(patience.is_over(now + Duration::from_secs(2)));
        patience.worked();
        assert_eq!(patience.not_before(Some(now)), Some(now));
    }
}
