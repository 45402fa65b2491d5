//! The clock that leases, ids and schedules go by.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// The database's clock, read at each heartbeat and carried on monotonically.
///
/// Nodes whose own clocks differ agree through it. It never steps back by itself:
/// when the database's clock does, time stands still here until it has caught up.
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
}

impl Clock {
    /// A clock that runs, beginning at the database's time `now`.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where monotonic time is read"
    )]
    pub fn running(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Kind::Running(Mutex::new(Anchor {
            read_at: Instant::now(),
            time: now,
        }))))
    }

    /// A clock that stands still until [`Self::advance`] is called.
    pub fn manual(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Kind::Manual(watch::Sender::new(now))))
    }

    /// The time now, by the database.
    pub fn now(&self) -> DateTime<Utc> {
        match &*self.0 {
            Kind::Running(anchor) => read(*anchor.lock().unwrap_or_else(PoisonError::into_inner)),
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
            let time = database_now.max(read(*anchor));
            *anchor = Anchor {
                read_at: Instant::now(),
                time,
            };
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

#[expect(
    clippy::disallowed_methods,
    reason = "this is where monotonic time is read"
)]
fn read(anchor: Anchor) -> DateTime<Utc> {
    anchor.time + Instant::now().duration_since(anchor.read_at)
}

#[cfg(test)]
mod tests {
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
