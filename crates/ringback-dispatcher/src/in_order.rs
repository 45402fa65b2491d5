//! Keeps the order of subscriptions that ask for it: what may be sent next of each key is
//! queued, the rest waits.

use chrono::{DateTime, Utc};
use ringback_model::{DeliveryId, Lane, OrderKey, Ordering, SubscriptionId};
use ringback_store::{DueRetry, Next, OutboxKey, Settlement, StoreError};

use crate::{
    Dispatcher,
    calls::{Begun, OrderFound},
    known::TakeIn,
    order::{BLOCKED_SHARE, Displaced, OrderLook},
    reader::Page,
    row::Row,
    send::Transport,
    sending::{Sending, Service},
    subscriptions::Standing,
};

impl<T: Transport> Dispatcher<T> {
    /// Whether what was handed over has to be read all the same: it may keep order.
    pub(crate) fn waits_for_reading(&mut self, key: &OutboxKey) -> bool {
        let subscription = key.delivery.subscription;
        if key.order.is_none() || !self.lanes.owns(key.lane) {
            return false;
        }
        let standing = self.subscriptions.standing(subscription, self.clock.now());
        standing == Standing::Unknown || self.order.keeps(subscription)
    }

    /// Whether a row that was read can be taken in: nothing that comes before it was
    /// passed over.
    pub(crate) fn may_take(&mut self, key: &OutboxKey, page: &Page, mark: u64) -> bool {
        if key.order.is_none() {
            return true;
        }
        let subscription = key.delivery.subscription;
        let standing = self.subscriptions.standing(subscription, self.clock.now());
        if standing == Standing::Unknown {
            self.passed_over.insert(subscription);
            return false;
        }
        if !self.order.keeps(subscription) {
            return true;
        }
        if !self.order.takes(subscription, mark) {
            return false;
        }
        let in_order = self.reader.is_in_order(page, key.lane, key.delivery.event);
        if !in_order {
            // The next pass brings it again.
            self.reader.found_new(self.clock.now());
        }
        in_order
    }

    /// If a row that was read could not be taken in for want of memory, nothing behind it
    /// may be sent. `false`, for nothing new was found.
    pub(crate) fn note_refused(&mut self, key: &OutboxKey, page: &Page) -> bool {
        if key.order.is_some()
            && self.reader.is_held()
            && !self.known.contains(key.delivery)
            && let Some(pass) = page.pass_of(key.lane)
        {
            let is_full = self.reader.is_full_pass(key.lane);
            self.order.refused(key.delivery, pass, is_full);
        }
        false
    }

    /// Gives a row of the outbox that is in hand its place in the order.
    pub(crate) fn place_in_order(&mut self, row: Row, key: OrderKey) {
        let (now, most) = (self.clock.now(), self.config.queue_per_subscription);
        let crowded = self.order.blocked() >= self.config.queue_per_node / BLOCKED_SHARE;
        if self.order.insert(row, key, now, most, crowded) {
            self.cache.wait_for(row.delivery.event);
        } else {
            self.park_in_order(row, key);
        }
    }

    /// Queues what may be sent next of each key.
    pub(crate) fn queue_in_order(&mut self) {
        let now = self.clock.now();
        while let Some(row) = self.order.next() {
            self.schedule.push(row, now);
        }
    }

    /// Begins or ends to keep a subscription's order, as it was loaded.
    pub(crate) fn keep_order(&mut self, sending: &Sending) {
        let (id, lane) = (sending.id, sending.lane);
        let passed_over = self.passed_over.remove(&id);
        let mark = self.handed_over.transit.mark();
        let owned = self.lanes.owns(lane);
        let fresh = match (sending.ordering, sending.service) {
            (Ordering::Fifo, Service::Send) => {
                let begins = !self.order.keeps(id);
                let fresh = self.order.open(id, lane, owned, mark);
                if begins {
                    self.requeue(id, lane);
                }
                fresh
            }
            (Ordering::Fifo, Service::Hold) => {
                let begins = !self.order.keeps(id);
                let displaced = self.order.pause(id, lane, owned);
                self.displace(displaced);
                begins
            }
            // What is not sent needs no order.
            _ => {
                let ends = self.order.keeps(id);
                if ends {
                    self.drop_order(id);
                    self.requeue(id, lane);
                }
                ends
            }
        };
        if fresh || passed_over {
            self.reader.restart(lane);
            self.retries.expect(id, lane, self.clock.now());
        }
    }

    /// Empties the queue, to be filled again in order, or without.
    fn requeue(&mut self, id: SubscriptionId, lane: Lane) {
        self.empty_queue(id);
        self.retries.expect(id, lane, self.clock.now());
    }

    /// Forgets a subscription's order.
    pub(crate) fn drop_order(&mut self, id: SubscriptionId) {
        let rows = self.order.close(id);
        rows.into_iter().for_each(|row| self.unqueue(row));
    }

    /// A subscription is paused: what waits in order goes to the retries.
    pub(crate) fn hold_in_order(&mut self, id: SubscriptionId) {
        if self.order.keeps(id) {
            let lane = Lane::of(id);
            let displaced = self.order.pause(id, lane, self.lanes.owns(lane));
            self.displace(displaced);
        }
    }

    /// A row of the order was dropped although it may be sent: what came behind it must
    /// not be sent before it was read again.
    pub(crate) fn begin_anew(&mut self, id: SubscriptionId, lane: Lane) {
        let mark = self.handed_over.transit.mark();
        let waiting = self.order.reload(id, mark);
        waiting.into_iter().for_each(|row| self.unqueue(row));
        for row in self.schedule.clear(id) {
            self.order.lost(row.delivery);
            self.unqueue(row);
        }
        self.reader.restart(lane);
    }

    /// Makes room: rows leave memory for the retries, or are there already.
    fn displace(&mut self, displaced: Displaced) {
        for (row, key) in displaced.to_park {
            self.cache.release(row.delivery.event);
            self.park_in_order(row, key);
        }
        displaced
            .let_go
            .into_iter()
            .for_each(|row| self.unqueue(row));
    }

    fn park_in_order(&mut self, row: Row, key: OrderKey) {
        let key = OutboxKey {
            lane: row.lane,
            delivery: row.delivery,
            order: Some(key),
        };
        let due_at = self
            .schedule
            .parked_due_at(row.delivery.subscription, self.clock.now());
        self.parking.push(key, due_at);
    }

    /// A row is parked, or will not be; whether it has a place in the order.
    pub(crate) fn not_parked(&mut self, delivery: DeliveryId, key: Option<OrderKey>) -> bool {
        let Some(key) = key.filter(|_| self.order.keeps(delivery.subscription)) else {
            return false;
        };
        let mark = self.handed_over.transit.mark();
        self.order.parked(delivery, key, mark);
        true
    }

    /// Releases the key of a row whose settling has committed; whether it has one.
    ///
    /// - `asked_at`: the mark when the settling was asked for.
    pub(crate) fn settled_in_order(
        &mut self,
        settled: &Settlement,
        asked_at: u64,
        now: DateTime<Utc>,
    ) -> bool {
        let subscription = settled.delivery.subscription;
        if !self.order.keeps(subscription) {
            return false;
        }
        let retry = match settled.next {
            Next::Retry { due_at } => Some(due_at),
            Next::Delivered | Next::Dead(_) | Next::Cancelled => None,
        };
        let mark = self.handed_over.transit.mark();
        let most = self.config.queue_per_subscription;
        let displaced = self.order.settled(settled.delivery, retry, mark, now, most);
        let Some(displaced) = displaced else {
            return false;
        };
        self.displace(displaced);
        // Asked for in the name of an earlier ownership, it may have moved nothing.
        let lane = settled.lane;
        if self.lanes.owns(lane) && !self.lanes.owned_at(lane, asked_at) {
            self.begin_anew(subscription, lane);
        }
        true
    }

    /// What was not to be delivered before a time gets its place in the order then.
    pub(crate) fn await_place(&mut self, due: &DueRetry) {
        if let Some(key) = due.order {
            self.order
                .look_for(due.delivery.subscription, key, due.due_at);
        }
    }

    /// Looks at retries in order. Also when memory is full: it may be full of what stands
    /// behind them.
    pub(crate) fn look_in_order(&mut self, now: DateTime<Utc>) {
        if self.pace.looking_in_order {
            return;
        }
        if let Some(look) = self.order.next_look(now) {
            self.pace.looking_in_order = true;
            self.calls.look_in_order(look, now);
        }
    }

    /// Takes in what such a look brought.
    pub(crate) fn take_in_order(
        &mut self,
        look: &OrderLook,
        found: Result<OrderFound, StoreError>,
        begun: &Begun,
    ) {
        let now = self.clock.now();
        self.pace.looking_in_order = false;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.order.look_failed(look);
                return self
                    .pace
                    .look
                    .failed("read what waits in order", &error, now);
            }
        };
        self.pace.look.worked();
        let known = &mut self.known;
        let take_in = |row: Row| known.take_in(row.delivery, row.stage) == TakeIn::New;
        let taken = match (look, found) {
            (
                OrderLook::Heads {
                    subscription,
                    after,
                    round,
                },
                OrderFound::Heads(heads),
            ) => self.order.looked_through(
                *subscription,
                (*after, *round),
                &heads,
                begun.mark,
                now,
                take_in,
            ),
            (OrderLook::Keys(keys), OrderFound::Rows(rows)) => {
                self.order.looked(keys, &rows, begun.mark, now, take_in)
            }
            // A look is answered in kind.
            _ => Vec::new(),
        };
        for row in taken {
            self.cache.wait_for(row.delivery.event);
        }
    }
}
