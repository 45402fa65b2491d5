//! Times as bounds of event ids.

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::EventId;

/// The first id of events accepted at `time` or later. Ids count whole milliseconds.
pub(crate) fn first_at(time: DateTime<Utc>) -> EventId {
    let part = TimeDelta::nanoseconds(i64::from(time.timestamp_subsec_nanos() % 1_000_000));
    if part.is_zero() {
        EventId::floor(time)
    } else {
        EventId::floor(time - part + MILLISECOND)
    }
}

const MILLISECOND: TimeDelta = TimeDelta::milliseconds(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_counts_by_its_whole_millisecond() {
        let instant = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let accepted = EventId::floor(instant("2026-01-05T09:00:00.120Z"));
        assert!(accepted >= first_at(instant("2026-01-05T09:00:00.120Z")));
        assert!(accepted < first_at(instant("2026-01-05T09:00:00.120001Z")));
        assert!(accepted >= first_at(instant("2026-01-05T09:00:00.119999Z")));
    }
}
