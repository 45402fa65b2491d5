//! Wakes the loop when the time has come.

use std::{future::Future, pin::Pin};

use chrono::{DateTime, Utc};
use ringback_store::Clock;

/// Sleeps until the earliest time it was set to.
#[derive(Default)]
pub(crate) struct Alarm(Option<(DateTime<Utc>, Sleep)>);

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Alarm {
    /// Rings at `at`, or earlier if it was set to an earlier time: that is harmless, and
    /// cheaper than a new timer.
    pub(crate) fn set(&mut self, clock: &Clock, at: DateTime<Utc>) {
        if self.0.as_ref().is_some_and(|(set, _)| *set <= at) {
            return;
        }
        let clock = clock.clone();
        self.0 = Some((at, Box::pin(async move { clock.sleep_until(at).await })));
    }

    /// Returns when it rings; never, if it is not set.
    pub(crate) async fn ring(&mut self) {
        match &mut self.0 {
            Some((_, sleep)) => sleep.await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}
