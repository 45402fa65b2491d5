//! When one subscription may be sent to: its rate, what its receiver can take, and what
//! it asked for.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    backlog::Allowed, breaker::Breaker, latency::Latency, rate::Rate, signal::Signal,
    window::Window,
};

/// Nothing is remembered of a receiver that worked, and was not sent to for so long …
const CALM: TimeDelta = TimeDelta::minutes(10);
/// … or of one that failed.
const FAILED: TimeDelta = TimeDelta::days(1);

/// What is known of one receiver.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pacer {
    rate: Option<Rate>,
    latency: Latency,
    window: Window,
    breaker: Breaker,
    /// By `Retry-After`: nothing at all is sent before.
    blocked_until: Option<DateTime<Utc>>,
    last_at: Option<DateTime<Utc>>,
}

/// Whether something may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// These may.
    Open(Allowed),
    /// Not before then.
    Later(DateTime<Utc>),
    /// Not until something happens.
    Shut,
}

impl Pacer {
    /// Says what may be sent of what is ready.
    ///
    /// - `max`: how many attempts the subscription wants at once.
    pub(super) fn gate(
        &self,
        ready: Allowed,
        in_flight: usize,
        max: usize,
        now: DateTime<Utc>,
    ) -> Gate {
        if in_flight >= self.room(max) {
            return Gate::Shut;
        }
        let all_at = self.all_at();
        let firsts_at = all_at.max(self.firsts_at());
        let allowed = Allowed {
            retries: ready.retries && all_at <= now,
            firsts: ready.firsts && firsts_at <= now,
        };
        if allowed.retries || allowed.firsts {
            return Gate::Open(allowed);
        }
        let retries_at = ready.retries.then_some(all_at);
        let firsts_at = ready.firsts.then_some(firsts_at);
        let opens_at = retries_at.into_iter().chain(firsts_at).min();
        opens_at.map_or(Gate::Shut, Gate::Later)
    }

    /// How many attempts may be under way.
    fn room(&self, max: usize) -> usize {
        match self.breaker.open_since() {
            Some(_) => 1,
            None => self.window.allowed(max),
        }
    }

    /// When anything may be sent at all.
    fn all_at(&self) -> DateTime<Utc> {
        let rate = self.rate.map(|rate| rate.next_at());
        let known = [rate, self.blocked_until].into_iter().flatten().max();
        known.unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// When first attempts may be sent.
    fn firsts_at(&self) -> DateTime<Utc> {
        let known = [self.breaker.probe_at(), self.window.paused_until()];
        let known = known.into_iter().flatten().max();
        known.unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, first: bool, now: DateTime<Utc>) {
        if let Some(rate) = &mut self.rate {
            rate.take(now);
        }
        if first {
            self.breaker.let_through(now);
        }
    }

    /// It did not begin after all.
    pub(super) fn give_back(&mut self, first: bool, now: DateTime<Utc>) {
        if let Some(rate) = &mut self.rate {
            rate.give_back();
        }
        if first {
            self.breaker.give_back(now);
        }
    }

    /// Takes in how an attempt ended.
    ///
    /// - `random`: evenly spread over 0 to 1.
    pub(super) fn attempted(&mut self, signal: &Signal, max: usize, random: f64) {
        self.last_at = Some(signal.ended_at);
        self.latency.took(signal.total_ms, signal.timed_out);
        let Some(complaint) = signal.failure else {
            if self.breaker.succeeded() {
                self.window.start_slowly();
            } else {
                self.window.succeeded(max);
            }
            return;
        };
        self.breaker
            .failed(complaint.unreachable, signal.ended_at, random);
        if complaint.overloaded {
            self.window
                .overloaded(signal.started_at, signal.ended_at, max);
        }
        if let Some(wait) = complaint.retry_after {
            self.blocked_until = self.blocked_until.max(Some(signal.ended_at + wait));
        }
    }

    /// Sets or removes the rate.
    pub(super) fn set_rate(&mut self, per_s: Option<f64>) {
        self.rate = per_s.map(|per_s| {
            let mut rate = self.rate.unwrap_or(Rate::new(per_s));
            rate.change(per_s);
            rate
        });
    }

    /// Forgets what a receiver did, and asks little of it at first: somebody says that it
    /// works again. What it asked for still counts, and so does the rate.
    pub(super) fn give_another_chance(&mut self) {
        let (rate, blocked_until) = (self.rate, self.blocked_until);
        *self = Self {
            rate,
            blocked_until,
            ..Self::default()
        };
        self.window.start_slowly();
    }

    /// Begins with little at a time, if nothing is known of the receiver yet.
    pub(super) fn suspect(&mut self) {
        if self.last_at.is_none() {
            self.window.start_slowly();
        }
    }

    /// Forgets everything but the rate.
    pub(super) fn forget(&mut self) {
        *self = Self {
            rate: self.rate,
            ..Self::default()
        };
    }

    /// Whether nothing here would be missed.
    pub(super) fn is_at_rest(&self, now: DateTime<Utc>) -> bool {
        let memory = if !self.breaker.is_calm() {
            FAILED
        } else if self.window.is_full() && !self.is_slow() && self.all_at() <= now {
            TimeDelta::zero()
        } else {
            CALM
        };
        let is_old = self.last_at.is_none_or(|last_at| last_at + memory <= now);
        is_old && self.blocked_until.is_none_or(|until| until <= now)
    }

    pub(super) fn is_slow(&self) -> bool {
        self.latency.is_slow()
    }

    /// Before which nothing is sent, because the receiver asked for it.
    pub(super) fn blocked_until(&self) -> Option<DateTime<Utc>> {
        self.blocked_until
    }

    /// Since when first attempts are held back.
    pub(super) fn open_since(&self) -> Option<DateTime<Utc>> {
        self.breaker.open_since()
    }

    /// When one of them is let through.
    pub(super) fn probe_at(&self) -> Option<DateTime<Utc>> {
        self.breaker.probe_at()
    }

    /// How many its rate lets through within a minute, if it has one.
    pub(super) fn per_minute(&self) -> Option<usize> {
        self.rate.map(|rate| rate.per_minute())
    }
}
