//! Reads now and then what waits in the store, for `/metrics`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_metrics::{Metrics, Statement};
use ringback_model::{DeliveryStatus, SubscriptionStatus};
use ringback_store::{Backlog, Clock, Observe, StoreError};

/// However many ask, the store is not read sooner again.
const KEEP: TimeDelta = TimeDelta::seconds(5);
/// Nor before so many times as long as the last reading took: on a store where much
/// waits it may take a while, and must not become a load of its own.
const REST: i32 = 50;

/// What waits, as it was read last.
#[derive(Default)]
pub(crate) struct Watch {
    /// Whose turn it is to read.
    turn: tokio::sync::Mutex<()>,
    last: Mutex<Reading>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    backlog: Option<Backlog>,
    read_at: DateTime<Utc>,
    again_at: DateTime<Utc>,
}

impl Watch {
    /// Reads the store, if it is time. Whoever else asks meanwhile waits for the same
    /// reading.
    pub(crate) async fn refresh(&self, store: &dyn Observe, metrics: &Metrics, clock: &Clock) {
        let _turn = self.turn.lock().await;
        let began = clock.now();
        if began < self.last().again_at {
            return;
        }
        let read = store.backlog(began).await;
        let took = clock.now() - began;
        self.last().take(read, began, took);
        let took = took.to_std().unwrap_or_default();
        metrics.database.ran(Statement::Backlog, took);
    }

    /// Brings the gauges up to date with what was read last, however long ago.
    pub(crate) fn show(&self, metrics: &Metrics, now: DateTime<Utc>) {
        let Reading {
            backlog, read_at, ..
        } = *self.last();
        if let Some(backlog) = backlog {
            show(metrics, &backlog, read_at, now);
        }
    }

    fn last(&self) -> MutexGuard<'_, Reading> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn take(&mut self, read: Result<Backlog, StoreError>, began: DateTime<Utc>, took: TimeDelta) {
        self.again_at = began + took + KEEP.max(took * REST);
        match read {
            Ok(backlog) => (self.backlog, self.read_at) = (Some(backlog), began),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what waits could not be read for the metrics"
            ),
        }
    }
}

fn show(metrics: &Metrics, backlog: &Backlog, read_at: DateTime<Utc>, now: DateTime<Utc>) {
    use {DeliveryStatus as Delivery, SubscriptionStatus as Subscription};

    // What was due then has become older since, unless it is settled.
    let age = backlog.oldest_due_at.map(|due_at| now - due_at);
    let age = age.and_then(|age| age.to_std().ok()).unwrap_or_default();
    let read_at = (read_at - DateTime::UNIX_EPOCH).to_std();

    let gauges = &metrics.backlog;
    gauges.set_oldest_due_age(age);
    gauges.set_read_at(read_at.unwrap_or_default());
    gauges.set_deliveries(Delivery::Pending, backlog.pending);
    gauges.set_deliveries(Delivery::Retrying, backlog.retrying);
    gauges.set_deliveries(Delivery::Held, backlog.held);
    gauges.set_subscriptions(Subscription::Active, backlog.active);
    gauges.set_subscriptions(Subscription::Paused, backlog.paused);
    gauges.set_subscriptions(Subscription::Disabled, backlog.disabled);
    gauges.set_failing(backlog.failing);
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io};

    use async_trait::async_trait;
    use ringback_store::Connections;

    use super::*;

    /// Answers what it is told to, and takes its time.
    struct Told {
        clock: Clock,
        takes: TimeDelta,
        answers: Mutex<VecDeque<Option<Backlog>>>,
    }

    #[async_trait]
    impl Observe for Told {
        async fn backlog(&self, _: DateTime<Utc>) -> Result<Backlog, StoreError> {
            self.clock.advance(self.takes.to_std().unwrap());
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = answers.pop_front().expect("asked too often");
            answer.ok_or_else(|| StoreError::unavailable(io::Error::other("down")))
        }

        fn connections(&self) -> Connections {
            Connections { used: 1, idle: 2 }
        }
    }

    fn start() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    fn due_for(seconds: i64) -> Option<Backlog> {
        Some(Backlog {
            oldest_due_at: Some(start() - TimeDelta::seconds(seconds)),
            ..Backlog::default()
        })
    }

    /// The age that is shown, and when it was read, after each of these waits.
    async fn shown(
        takes: TimeDelta,
        answers: &[Option<Backlog>],
        waits_s: &[i64],
    ) -> Vec<(String, String)> {
        let clock = Clock::manual(start());
        let told = Told {
            clock: clock.clone(),
            takes,
            answers: Mutex::new(answers.iter().copied().collect()),
        };
        let (watch, metrics, mut shown) = (Watch::default(), Metrics::new(), Vec::new());
        for wait in waits_s {
            clock.advance(TimeDelta::seconds(*wait).to_std().unwrap());
            watch.refresh(&told, &metrics, &clock).await;
            watch.show(&metrics, clock.now());
            let text = metrics.text();
            let value = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap().trim().to_owned()
            };
            shown.push((
                value("ringback_delivery_oldest_due_age_seconds "),
                value("ringback_backlog_read_timestamp_seconds "),
            ));
        }
        assert!(
            told.answers.into_inner().unwrap().is_empty(),
            "asked too seldom"
        );
        shown
    }

    fn pairs(shown: &[(String, String)]) -> Vec<(&str, &str)> {
        shown.iter().map(|(age, at)| (&**age, &**at)).collect()
    }

    #[tokio::test]
    async fn the_store_is_read_at_most_every_five_seconds() {
        let answers = [due_for(7), Some(Backlog::default())];
        let shown = shown(TimeDelta::zero(), &answers, &[0, 4, 1]).await;
        assert_eq!(
            pairs(&shown),
            [
                ("7.0", "1767603600.0"),
                ("11.0", "1767603600.0"), // not read again, but older
                ("0.0", "1767603605.0"),
            ]
        );
    }

    #[tokio::test]
    async fn the_longer_a_reading_takes_the_longer_it_is_kept() {
        let answers = [due_for(0), due_for(0)];
        // Two seconds each, kept for a hundred.
        let shown = shown(TimeDelta::seconds(2), &answers, &[0, 99, 1]).await;
        let at: Vec<_> = pairs(&shown).into_iter().map(|(_, at)| at).collect();
        assert_eq!(at, ["1767603600.0", "1767603600.0", "1767603702.0"]);
    }

    #[tokio::test]
    async fn when_the_store_cannot_be_read_the_last_reading_ages() {
        let answers = [due_for(1), None, Some(Backlog::default())];
        let shown = shown(TimeDelta::zero(), &answers, &[0, 60, 5]).await;
        assert_eq!(
            pairs(&shown),
            [
                ("1.0", "1767603600.0"),
                ("61.0", "1767603600.0"),
                ("0.0", "1767603665.0"),
            ]
        );
    }
}
