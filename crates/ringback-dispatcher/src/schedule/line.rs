//! One subscription: what waits of it, and under what terms it is served.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use ringback_model::{AppId, Lane, SubscriptionId};

use super::{
    backlog::Backlog,
    pacer::{Gate, Pacer},
};
use crate::row::Row;

/// What the owner of a subscription wants, and whom it is sent to.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) app: AppId,
    /// How many of its deliveries may be under way at once.
    pub(crate) max_in_flight: usize,
    /// Attempts per second, if that is limited.
    pub(crate) rate_per_s: Option<f64>,
    /// Whom it is sent to; `None` if nothing is.
    pub(crate) host: Option<Arc<str>>,
    /// It is really sent to: not if its deliveries are only to be settled.
    pub(crate) sent_to: bool,
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) lane: Lane,
    pub(super) backlog: Backlog,
    pub(super) in_flight: usize,
    /// `None` while it cannot be served.
    pub(super) open: Option<Open>,
    pub(super) host: Option<Arc<str>>,
    pub(super) pacer: Pacer,
    pub(super) place: Place,
    /// It can be served then.
    pub(super) wake_at: Option<DateTime<Utc>>,
    /// What was held back until then is to be parked.
    pub(super) park_at: Option<DateTime<Utc>>,
    /// Some of it is parked for lack of room: what comes after is too, to keep its place
    /// behind.
    pub(super) overflows: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) app: AppId,
    pub(super) max_in_flight: usize,
    pub(super) sent_to: bool,
}

/// In which ring it waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In none: it cannot be served now.
    Nowhere,
    /// Among the fast ones; an attempt to its host is kept free.
    Fast,
    /// Among the slow ones.
    Slow,
    /// Its host has no room.
    Host,
}

impl Line {
    pub(super) fn new(lane: Lane) -> Self {
        Self {
            lane,
            backlog: Backlog::default(),
            in_flight: 0,
            open: None,
            host: None,
            pacer: Pacer::default(),
            place: Place::Nowhere,
            wake_at: None,
            park_at: None,
            overflows: false,
        }
    }

    pub(super) fn clear(&mut self, subscription: SubscriptionId) -> impl Iterator<Item = Row> {
        let lane = self.lane;
        self.backlog
            .clear()
            .map(move |item| item.of(subscription, lane))
    }

    /// Whether it can be served.
    pub(super) fn gate(&self, now: DateTime<Utc>) -> Gate {
        let Some(open) = self.open else {
            return Gate::Shut;
        };
        let ready = self.backlog.ready();
        if open.sent_to {
            return self
                .pacer
                .gate(ready, self.in_flight, open.max_in_flight, now);
        }
        if self.in_flight < open.max_in_flight && (ready.firsts || ready.retries) {
            Gate::Open(ready)
        } else {
            Gate::Shut
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.backlog.len() == 0 && self.in_flight == 0
    }

    /// Whether it can be forgotten.
    pub(super) fn is_at_rest(&self, now: DateTime<Utc>) -> bool {
        self.is_idle() && self.pacer.is_at_rest(now)
    }

    /// What waits and counts against its room in memory: what is held back by the
    /// breaker does not, so that retries still come in.
    pub(super) fn pressing(&self) -> usize {
        if self.pacer.open_since().is_some() {
            self.backlog.retries()
        } else {
            self.backlog.len()
        }
    }

    /// How much may wait in memory: no more than can be sent within a minute.
    ///
    /// - `most`: however fast it is.
    pub(super) fn capacity(&self, most: usize) -> usize {
        let per_minute = self.pacer.per_minute();
        per_minute.map_or(most, |per_minute| per_minute.clamp(1, most))
    }
}
