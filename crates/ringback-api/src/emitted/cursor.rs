//! Where to begin looking for emitted events.
//!
//! They are deleted as they are accepted, so the oldest would always be the first in the
//! table. But what is deleted goes on costing time while somebody's long transaction may
//! still see it, and under load there is a lot of it at the beginning. So most looks pass
//! over it; now and then one looks at everything, for the sake of rows that were written
//! long ago, and whose transaction took until now.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_store::EmittedId;

/// A transaction of up to this length is seen to by every look.
const ORDINARY: TimeDelta = TimeDelta::seconds(10);
/// Between looks at everything.
const EVERYTHING: TimeDelta = TimeDelta::seconds(5);

/// The first row is beyond this one.
#[derive(Debug)]
pub(super) struct Cursor {
    /// What was handled longer ago than [`ORDINARY`].
    passed: EmittedId,
    /// What was handled since, and when.
    lately: VecDeque<(DateTime<Utc>, EmittedId)>,
    everything_at: DateTime<Utc>,
    looks_at_everything: bool,
}

impl Default for Cursor {
    fn default() -> Self {
        Self {
            passed: EmittedId::MIN,
            lately: VecDeque::new(),
            everything_at: DateTime::<Utc>::MIN_UTC,
            looks_at_everything: false,
        }
    }
}

impl Cursor {
    /// Look for rows above this one.
    pub(super) fn begin(&mut self, now: DateTime<Utc>) -> EmittedId {
        while let Some((at, row)) = self.lately.front().copied()
            && at + ORDINARY <= now
        {
            self.passed = self.passed.max(row);
            self.lately.pop_front();
        }
        self.looks_at_everything = now >= self.everything_at;
        if self.looks_at_everything {
            self.everything_at = now + EVERYTHING;
            return EmittedId::MIN;
        }
        self.passed
    }

    /// Rows up to `last` were found and handled at `now`.
    ///
    /// - `has_more`: there may be others behind.
    pub(super) fn end(&mut self, last: EmittedId, has_more: bool, now: DateTime<Utc>) {
        if self.looks_at_everything && has_more {
            self.everything_at = now;
        }
        let newest = self.lately.back().map_or(self.passed, |(_, row)| *row);
        if last > newest {
            self.lately.push_back((now, last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_603_600 + seconds, 0).unwrap()
    }

    fn row(id: i64) -> EmittedId {
        EmittedId::new(id)
    }

    #[test]
    fn what_was_handled_a_while_ago_is_passed_over_but_now_and_then() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.begin(at(0)), EmittedId::MIN); // at everything
        cursor.end(row(100), false, at(0));
        assert_eq!(cursor.begin(at(1)), EmittedId::MIN); // 100 is of just now
        cursor.end(row(200), false, at(4));
        assert_eq!(cursor.begin(at(6)), EmittedId::MIN); // at everything
        assert_eq!(cursor.begin(at(10)), row(100));
        assert_eq!(cursor.begin(at(12)), EmittedId::MIN); // at everything
        assert_eq!(cursor.begin(at(14)), row(200));
    }

    #[test]
    fn a_row_that_comes_late_moves_nothing() {
        let mut cursor = Cursor::default();
        cursor.begin(at(0));
        cursor.end(row(100), false, at(0));
        cursor.end(row(7), false, at(1));
        cursor.begin(at(10));
        assert_eq!(cursor.begin(at(11)), row(100));
    }

    #[test]
    fn a_look_at_everything_goes_on_while_there_is_more() {
        let mut cursor = Cursor::default();
        for second in [0, 1] {
            cursor.begin(at(second));
            cursor.end(row(1000 + second), true, at(second));
        }
        cursor.begin(at(2));
        cursor.end(row(3), true, at(2)); // late ones, and more than one batch
        cursor.begin(at(13));
        assert_eq!(cursor.begin(at(14)), row(1001));
        let mut cursor = Cursor {
            passed: row(50),
            ..Cursor::default()
        };
        cursor.begin(at(0));
        cursor.end(row(7), true, at(0));
        assert_eq!(cursor.begin(at(0)), EmittedId::MIN);
        cursor.end(row(9), false, at(0));
        assert_eq!(cursor.begin(at(0)), row(50));
    }
}
