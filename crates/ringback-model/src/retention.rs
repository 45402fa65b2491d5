//! How long events and what became of them are kept.

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};

use crate::EventId;

/// For how many days an event can be looked up and sent again.
///
/// Days end whole, at midnight UTC: an event is kept to the end of its day and so
/// many days more. What still waits to be sent is kept as long as it waits, and a
/// dead letter, with its event, as long again as everything else.
///
/// ```
/// # use ringback_model::{EventId, Retention};
/// let keep = Retention::default(); // 30 days
/// let event = EventId::floor("2026-01-05T09:00:00Z".parse().unwrap());
/// assert_eq!(keep.ends_at(event).to_string(), "2026-02-05 00:00:00 UTC");
/// let died_at = "2026-01-08T12:35:00Z".parse().unwrap();
/// assert_eq!(keep.dead_end_at(event, died_at).to_string(), "2026-03-07 00:00:00 UTC");
///
/// // What waited for longer than its event was kept stays as long from when it died.
/// let died_at = "2026-04-01T12:00:00Z".parse().unwrap();
/// assert_eq!(keep.dead_end_at(event, died_at).to_string(), "2026-05-01 12:00:00 UTC");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention(u16);

/// Days cannot be kept for so long, or so short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be between {} and {} days",
    Retention::MIN_DAYS,
    Retention::MAX_DAYS
)]
pub struct InvalidRetention;

impl Retention {
    /// More than the default schedule takes with all its jitter, 83 h 9 min, so that a
    /// delivery is settled before its day ends as a rule. A longer schedule loses
    /// nothing: what waits is kept.
    pub const MIN_DAYS: u16 = 4;
    /// Every day is a part of each table, and too many would cost.
    pub const MAX_DAYS: u16 = 400;

    /// Before its end, nothing is sent again any more that only a replay keeps: it could
    /// be gone before it is sent.
    const LAST_CALL: TimeDelta = TimeDelta::hours(1);

    /// Keeps days for so many days after their own end.
    ///
    /// # Errors
    ///
    /// [`InvalidRetention`] if that is too short or too long.
    pub const fn of_days(days: u16) -> Result<Self, InvalidRetention> {
        if days < Self::MIN_DAYS || days > Self::MAX_DAYS {
            return Err(InvalidRetention);
        }
        Ok(Self(days))
    }

    /// When an event goes, unless something of it waits or is dead.
    pub fn ends_at(self, event: EventId) -> DateTime<Utc> {
        let day = event.time().date_naive();
        let next = day.checked_add_days(Days::new(1)).unwrap_or(day);
        next.and_time(NaiveTime::MIN).and_utc() + self.length()
    }

    /// When a dead letter goes, and its event with it.
    pub fn dead_end_at(self, event: EventId, died_at: DateTime<Utc>) -> DateTime<Utc> {
        self.ends_at(event).max(died_at) + self.length()
    }

    /// Whether something that goes at `end` may still be sent again at `now`.
    pub fn may_replay(end: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        now + Self::LAST_CALL < end
    }

    /// The first event that has not ended at `now`: the days before its own have.
    pub fn ended_before(self, now: DateTime<Utc>) -> EventId {
        first_of_day(now - self.length())
    }

    /// The same for dead letters, if they died by [`Self::dead_ended_by`].
    pub fn dead_ended_before(self, now: DateTime<Utc>) -> EventId {
        first_of_day(now - self.length() - self.length())
    }

    /// Dead letters that died later have not ended at `now`.
    pub fn dead_ended_by(self, now: DateTime<Utc>) -> DateTime<Utc> {
        now - self.length()
    }

    fn length(self) -> TimeDelta {
        TimeDelta::days(i64::from(self.0))
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self(30)
    }
}

fn first_of_day(time: DateTime<Utc>) -> EventId {
    EventId::floor(time.date_naive().and_time(NaiveTime::MIN).and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RetryPolicy;

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_shortest_retention_outlasts_the_default_schedule_with_its_jitter() {
        let policy = RetryPolicy::default();
        let waits = (1..).map_while(|made| policy.next_delay(made));
        let longest = waits.sum::<std::time::Duration>().mul_f64(1.1);
        let shortest = Retention::of_days(Retention::MIN_DAYS).unwrap();
        assert!(shortest.length().to_std().unwrap() > longest);
    }

    #[test]
    fn days_are_kept_neither_too_short_nor_too_long() {
        for (days, fits) in [(0, false), (3, false), (4, true), (400, true), (401, false)] {
            assert_eq!(Retention::of_days(days).is_ok(), fits, "{days} days");
        }
    }

    /// Whoever asks about one event and whoever ends whole days agree, to the
    /// millisecond.
    #[test]
    fn an_event_has_ended_when_its_day_has() {
        let keep = Retention::default();
        for accepted in ["2026-01-05T00:00:00Z", "2026-01-05T23:59:59.999Z"] {
            let event = EventId::floor(instant(accepted));
            let end = keep.ends_at(event);
            assert_eq!(end, instant("2026-02-05T00:00:00Z"));
            let moment = TimeDelta::milliseconds(1);
            assert!(event < keep.ended_before(end), "{accepted}");
            assert!(event >= keep.ended_before(end - moment), "{accepted}");

            let died_at = event.time() + TimeDelta::days(3);
            let end = keep.dead_end_at(event, died_at);
            assert!(event < keep.dead_ended_before(end) && died_at <= keep.dead_ended_by(end));
            assert!(event >= keep.dead_ended_before(end - moment), "{accepted}");

            let died_late = event.time() + TimeDelta::days(80);
            let end = keep.dead_end_at(event, died_late);
            assert!(event < keep.dead_ended_before(end) && died_late <= keep.dead_ended_by(end));
            assert!(died_late > keep.dead_ended_by(end - moment), "{accepted}");
        }
    }

    #[test]
    fn nothing_is_replayed_in_its_last_hour() {
        let end = instant("2026-02-05T00:00:00Z");
        let cases = [
            ("2026-02-04T22:59:59Z", true),
            ("2026-02-04T23:00:00Z", false),
            ("2026-02-05T00:00:00Z", false),
        ];
        for (now, may) in cases {
            assert_eq!(Retention::may_replay(end, instant(now)), may, "{now}");
        }
    }
}
