//! What waits of one subscription: first attempts and retries, which a receiver that
//! fails is sent under different rules.

use ringback_model::EventId;

use super::queue::{Item, Queue};
use crate::row::Row;

/// Two queues that take turns.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    firsts: Queue,
    retries: Queue,
    /// Whose turn it is.
    retries_next: bool,
}

/// Which of the two may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) firsts: bool,
    pub(super) retries: bool,
}

impl Backlog {
    pub(super) fn push(&mut self, row: Row) {
        self.queue_of(row).push(row);
    }

    /// Takes back what [`Self::pop`] gave: it comes first.
    pub(super) fn put_back(&mut self, row: Row) {
        self.retries_next = !row.stage.is_first_attempt();
        self.queue_of(row).put_back(row);
    }

    /// What is to be sent next.
    pub(super) fn pop(&mut self, allowed: Allowed) -> Option<Item> {
        let firsts = allowed.firsts && self.firsts.is_ready();
        let retries = allowed.retries && self.retries.is_ready();
        let retry = retries && (self.retries_next || !firsts);
        self.retries_next = firsts && !retry;
        match (retry, firsts) {
            (true, _) => self.retries.pop(),
            (false, true) => self.firsts.pop(),
            (false, false) => None,
        }
    }

    /// What could be sent.
    pub(super) fn ready(&self) -> Allowed {
        Allowed {
            firsts: self.firsts.is_ready(),
            retries: self.retries.is_ready(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.firsts.len() + self.retries.len()
    }

    pub(super) fn retries(&self) -> usize {
        self.retries.len()
    }

    pub(super) fn firsts(&self) -> usize {
        self.firsts.len()
    }

    /// Takes out the row of one event, if it is there.
    pub(super) fn remove(&mut self, event: EventId) -> Option<Item> {
        self.firsts
            .remove(event)
            .or_else(|| self.retries.remove(event))
    }

    /// Takes out everything.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Item> + use<> {
        self.firsts.clear().chain(self.retries.clear())
    }

    /// Takes out first attempts, in their order.
    pub(super) fn clear_firsts(&mut self) -> impl Iterator<Item = Item> + use<> {
        self.firsts.clear()
    }

    /// The events that come next.
    pub(super) fn upcoming(&self) -> impl Iterator<Item = EventId> {
        self.retries.upcoming().chain(self.firsts.upcoming())
    }

    fn queue_of(&mut self, row: Row) -> &mut Queue {
        if row.stage.is_first_attempt() {
            &mut self.firsts
        } else {
            &mut self.retries
        }
    }
}
