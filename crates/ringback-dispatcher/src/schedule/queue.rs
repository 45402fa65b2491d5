//! What waits of one subscription, in the order in which it is to be sent.

use std::collections::VecDeque;

use ringback_model::{DeliveryId, EventId, Lane, SubscriptionId};

use crate::row::{Row, Stage};

/// Queues longer than this give their memory back when they have run empty.
const SMALL_QUEUE: usize = 64;

/// Rows of one subscription; which one, its owner knows.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Item>);

/// A row in the queue of its subscription: 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    event: EventId,
    stage: Stage,
}

impl Item {
    /// The row, of the subscription in whose queue it was.
    pub(super) fn of(self, subscription: SubscriptionId, lane: Lane) -> Row {
        let delivery = DeliveryId {
            event: self.event,
            subscription,
        };
        Row {
            delivery,
            stage: self.stage,
            lane,
        }
    }
}

impl From<Row> for Item {
    fn from(row: Row) -> Self {
        Self {
            event: row.delivery.event,
            stage: row.stage,
        }
    }
}

impl Queue {
    /// Adds a row at the end.
    pub(super) fn push(&mut self, row: Row) {
        self.0.push_back(Item::from(row));
    }

    /// Takes back what [`Self::pop`] gave: it comes first.
    pub(super) fn put_back(&mut self, row: Row) {
        self.0.push_front(Item::from(row));
    }

    /// What is to be sent next.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.0.pop_front();
        if self.0.is_empty() && self.0.capacity() > SMALL_QUEUE {
            self.0 = VecDeque::new();
        }
        item
    }

    /// Whether [`Self::pop`] has something to give.
    pub(super) fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }

    /// How much waits, ready or not.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes out the row of one event, if it is there.
    pub(super) fn remove(&mut self, event: EventId) -> Option<Item> {
        let at = self.0.iter().position(|item| item.event == event)?;
        self.0.remove(at)
    }

    /// Takes out everything.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Item> + use<> {
        std::mem::take(&mut self.0).into_iter()
    }

    /// The events that come next.
    pub(super) fn upcoming(&self) -> impl Iterator<Item = EventId> {
        self.0.iter().map(|item| item.event)
    }
}
