//! The clock that leases, ids and schedules go by.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// The database's clock, read at each heartbeat and carried on monotonically.
///
/// Nodes whose own clocks differ agree through it. It never steps back: when the
/// database's clock does, time goes on here, a little slower, until that has caught up.
///
/// A test makes one with [`Clock::manual`] and moves it by hand; whoever sleeps on
/// it wakes when its time has come, so days pass in milliseconds.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Running(Mutex<Anchor>),
    Manual(watch::Sender<DateTime<Utc>>),
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    read_at: Instant,
    time: DateTime<Utc>,
    /// How far this was ahead of the database.
    ahead: Duration,
}

/// A clock that is ahead goes slower by so many parts.
const SLOWER: u32 = 10;

impl Clock {
    /// When the database's clock was set back by less than this, who starts or reads it
    /// goes on from where the others are: see [`crate::Lanes::now`].
    pub const CARRIED_ON: Duration = Duration::from_secs(86_400);

    /// A clock that runs, beginning at the database's time `now`.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where monotonic time is read"
    )]
    pub fn running(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Kind::Running(Mutex::new(Anchor {
            read_at: Instant::now(),
            time: now,
            ahead: Duration::ZERO,
        }))))
    }

    /// A clock that stands still until [`Self::advance`] is called.
    pub fn manual(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Kind::Manual(watch::Sender::new(now))))
    }

    /// The time now, by the database.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where monotonic time is read"
    )]
    pub fn now(&self) -> DateTime<Utc> {
        match &*self.0 {
            Kind::Running(anchor) => anchor
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .at(Instant::now()),
            Kind::Manual(time) => *time.borrow(),
        }
    }

    /// Seconds since 1970 by this machine's own clock: what receivers compare
    /// `webhook-timestamp` with. A manual clock gives its own time.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the wall clock is read"
    )]
    pub fn unix_seconds(&self) -> i64 {
        match &*self.0 {
            Kind::Running(_) => Utc::now().timestamp(),
            Kind::Manual(time) => time.borrow().timestamp(),
        }
    }

    /// Sets a running clock by a fresh reading of the database's. A manual one
    /// takes no notice.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where monotonic time is read"
    )]
    pub fn set(&self, database_now: DateTime<Utc>) {
        if let Kind::Running(anchor) = &*self.0 {
            let mut anchor = anchor.lock().unwrap_or_else(PoisonError::into_inner);
            *anchor = anchor.set(database_now, Instant::now());
        }
    }

    /// Moves a manual clock; a running one takes no notice.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(time) = &*self.0 {
            time.send_modify(|time| *time += by);
        }
    }

    /// Returns when it is `deadline` or later.
    pub async fn sleep_until(&self, deadline: DateTime<Utc>) {
        match &*self.0 {
            Kind::Running(_) => {
                // An earlier reading may have been ahead, so look again on waking.
                while let Ok(left) = (deadline - self.now()).to_std() {
                    if left.is_zero() {
                        return;
                    }
                    tokio::time::sleep(left).await;
                }
            }
            Kind::Manual(time) => {
                // The sender lives in `self`, so waiting cannot fail.
                let _ = time.subscribe().wait_for(|now| *now >= deadline).await;
            }
        }
    }

    /// Returns after `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }
}

impl Anchor {
    fn at(self, instant: Instant) -> DateTime<Utc> {
        let passed = instant.duration_since(self.read_at);
        self.time + (passed - self.ahead.min(passed / SLOWER))
    }

    /// Goes on from a fresh reading, ahead of it if need be.
    fn set(self, database_now: DateTime<Utc>, instant: Instant) -> Self {
        let time = database_now.max(self.at(instant));
        Self {
            read_at: instant,
            time,
            ahead: (time - database_now).to_std().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_running_clock_never_steps_back() {
        let clock = Clock::running(instant("2026-01-05T09:00:00Z"));
        let before = clock.now();
        clock.set(instant("2020-01-01T00:00:00Z"));
        assert!(clock.now() >= before);
        clock.set(instant("2027-01-01T00:00:00Z"));
        assert!(clock.now() >= instant("2027-01-01T00:00:00Z"));
    }

    /// What the clock shows second by second, while the database's jumps.
    fn beats(jumps: &[(u64, i64)], seconds: u64) -> Vec<(TimeDelta, TimeDelta)> {
        let start = instant("2026-01-05T09:00:00Z");
        let Kind::Running(anchor) = &*Clock::running(start).0 else {
            unreachable!("it runs")
        };
        let mut anchor = *anchor.lock().unwrap();
        let began = anchor.read_at;
        let mut shown = Vec::new();
        for second in 0..seconds {
            let (passed, at) = (
                TimeDelta::seconds(second.cast_signed()),
                Duration::from_secs(second),
            );
            let jumped = jumps.iter().filter(|(when, _)| *when <= second);
            let database = passed + TimeDelta::seconds(jumped.map(|(_, by)| by).sum());
            // Every third second, as heartbeats do.
            if second % 3 == 0 {
                anchor = anchor.set(start + database, began + at);
            }
            shown.push((anchor.at(began + at) - start, database));
        }
        shown
    }

    #[test]
    fn time_never_stops_nor_steps_back_when_the_databases_clock_does() {
        let shown = beats(&[(100, -3600)], 50_000);
        for pair in shown.windows(2) {
            let step = pair[1].0 - pair[0].0;
            let (least, most) = (TimeDelta::milliseconds(900), TimeDelta::milliseconds(1000));
            assert!(least <= step && step <= most, "a second took {step}");
        }
        // A tenth slower: an hour is made good in ten.
        let caught_up = shown
            .iter()
            .skip(101)
            .position(|(time, database)| time == database);
        let hours = caught_up.unwrap() / 3600;
        assert_eq!(hours, 10);
    }

    #[test]
    fn a_jump_ahead_is_followed_at_the_next_beat_and_its_repair_made_good_slowly() {
        let shown = beats(&[(100, 3600), (200, -3600)], 40_000);
        assert_eq!(shown[101].0, TimeDelta::seconds(101));
        assert_eq!(shown[102].0, TimeDelta::seconds(102 + 3600));
        assert!(shown.is_sorted_by(|one, next| one.0 < next.0));
        assert_eq!(shown[39_999].0, TimeDelta::seconds(39_999));
    }

    #[tokio::test]
    async fn a_day_passes_when_a_manual_clock_is_moved() {
        let start = instant("2026-01-05T09:00:00Z");
        let clock = Clock::manual(start);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(86_400)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(86_400));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), instant("2026-01-06T09:00:00Z"));
    }
}
