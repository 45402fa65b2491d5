//! Takes rows in, from wherever they come, and gives each its place.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use ringback_model::{DeliveryId, Lane, SubscriptionId};
use ringback_store::{DueRetry, OutboxKey, Payload, StoreError};

use crate::{
    Dispatcher,
    calls::Begun,
    known::TakeIn,
    message::Message,
    reader::Page,
    retries::{Look, MayLook, Seen},
    row::{Row, Stage},
    send::Transport,
    sending::Service,
    subscriptions::Standing,
};

/// Whose retry has failed so often is sent to a little at first, if nothing else is known.
const OFTEN: u16 = 3;

impl<T: Transport> Dispatcher<T> {
    /// Takes in an event that was accepted in this process.
    pub(crate) fn take_over(&mut self, payload: Payload, keys: &[OutboxKey]) {
        let mut taken = false;
        for key in keys {
            self.reader.seen(key.lane, key.delivery.event);
            taken |= self.lanes.owns(key.lane) && self.take_key(*key);
        }
        if taken {
            self.cache.admit(Message::from(payload).into());
        }
    }

    /// Takes in what was read of the outbox.
    pub(crate) fn take_page(
        &mut self,
        page: &Page,
        rows: Result<Vec<OutboxKey>, StoreError>,
        begun: &Begun,
    ) {
        let now = self.clock.now();
        let mut rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                self.reader.failed();
                return self.pace.read.failed("read the outbox", &error, now);
            }
        };
        self.pace.read.worked();
        rows.sort_by_key(|row| row.lane);
        let mut found_new = false;
        for row in &rows {
            found_new |= self.lanes.owned_at(row.lane, begun.mark) && self.take_key(*row);
        }
        self.reader.took(page, &rows);
        if found_new {
            self.reader.found_new(now);
        }
    }

    /// Takes in retries that are due, or nearly.
    pub(crate) fn take_look(
        &mut self,
        look: &Look,
        rows: Result<Vec<DueRetry>, StoreError>,
        begun: &Begun,
    ) {
        let now = self.clock.now();
        self.pace.looking = false;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                self.retries.failed(look, now);
                return self.pace.look.failed("read what is due", &error, now);
            }
        };
        self.pace.look.worked();
        let mut seen: HashMap<SubscriptionId, Seen> = HashMap::new();
        for due in &rows {
            if self.lanes.owned_at(due.lane, begun.mark) {
                let seen = seen.entry(due.delivery.subscription).or_default();
                self.take_due(due, look, seen, now);
            }
        }
        for (lane, subscription, after) in &look.subscriptions {
            let seen = seen.remove(subscription).unwrap_or_default();
            self.retries.looked(*subscription, look, seen, now);
            if seen.rows < look.limit && !seen.refused && *after == DateTime::UNIX_EPOCH {
                self.schedule.caught_up(*subscription);
            }
            if *after != DateTime::UNIX_EPOCH
                && let Some(at) = self.schedule.wants_probe(*subscription)
                && self.lanes.owns(*lane)
            {
                self.retries.expect(*subscription, *lane, at);
            }
        }
    }

    fn take_due(&mut self, due: &DueRetry, look: &Look, seen: &mut Seen, now: DateTime<Utc>) {
        seen.rows += 1;
        if due.due_at > look.until {
            seen.next_due.get_or_insert(due.due_at);
            return;
        }
        match self.take_retry(due, now) {
            TakeIn::New => seen.taken += 1,
            TakeIn::Held => {}
            TakeIn::NotNow => seen.refused = true,
        }
    }

    pub(crate) fn take_waiting(
        &mut self,
        found: Result<Vec<(Lane, SubscriptionId, DateTime<Utc>)>, StoreError>,
    ) {
        let now = self.clock.now();
        match found {
            Ok(found) => {
                self.pace.look.worked();
                for (lane, subscription, due_at) in found {
                    if self.lanes.owns(lane) {
                        self.retries.expect(subscription, lane, due_at);
                    }
                }
            }
            Err(error) => {
                self.pace.look.failed("look for retries", &error, now);
                self.pace.scan_at = now;
            }
        }
    }

    /// Reads what is next, and what is due.
    pub(crate) fn read(&mut self, now: DateTime<Utc>) {
        if self.schedule.queued() <= self.config.queue_per_node / 2 {
            self.reader.hold(false, now);
        }
        if self.handed_over.take_missed() {
            self.reader.want_all();
        }
        if self.pace.read.is_over(now)
            && let Some(page) = self.reader.next(now)
        {
            self.calls.read(page);
        }
        if self.pace.look.is_over(now) {
            self.look(now);
        }
    }

    fn look(&mut self, now: DateTime<Utc>) {
        if self.lanes.owns_any() && self.pace.take_scan(now) {
            self.calls.waiting(self.lanes.owned().collect());
        }
        if self.pace.looking || self.reader.is_held() {
            return;
        }
        let most = self.config.queue_per_subscription;
        let (subscriptions, schedule) = (&mut self.subscriptions, &self.schedule);
        let may_look = |subscription, _| match subscriptions.standing(subscription, now) {
            Standing::Unknown | Standing::Missing | Standing::Known(Service::Hold) => MayLook::No,
            Standing::Known(_) => schedule.may_look(subscription, most, now),
        };
        if let Some(look) = self.retries.next(now, may_look) {
            self.pace.looking = true;
            self.calls.look(look);
        }
    }

    /// Takes in a row of the outbox; whether it is new.
    fn take_key(&mut self, key: OutboxKey) -> bool {
        let row = Row {
            delivery: key.delivery,
            stage: Stage::OUTBOX,
            lane: key.lane,
        };
        let is_new = self.take_in(row) == TakeIn::New;
        if is_new {
            self.place(row);
        }
        is_new
    }

    fn take_retry(&mut self, due: &DueRetry, now: DateTime<Utc>) -> TakeIn {
        let stage = Stage::retries(due.attempts_made, due.round_start);
        let row = Row {
            delivery: due.delivery,
            stage,
            lane: due.lane,
        };
        let taken = self.take_in(row);
        if taken == TakeIn::New {
            self.retries.hold(row.delivery.subscription);
            if due.attempts_made >= due.round_start.saturating_add(OFTEN) {
                self.schedule.suspect(row.delivery.subscription, row.lane);
            }
            if due.due_at > now {
                self.retries.ripen(row, due.due_at);
            } else {
                self.place(row);
            }
        }
        taken
    }

    /// Gives retries their place whose time has come.
    pub(crate) fn take_ripe(&mut self, now: DateTime<Utc>) {
        while let Some(row) = self.retries.ripe(now) {
            self.place(row);
        }
    }

    /// Takes a row in hand, if it is new and there is room.
    fn take_in(&mut self, row: Row) -> TakeIn {
        if self.schedule.queued() >= self.config.queue_per_node {
            self.reader.hold(true, self.clock.now());
        }
        if self.reader.is_held() {
            return TakeIn::NotNow;
        }
        self.known.take_in(row.delivery, row.stage)
    }

    /// Queues a row that is in hand, or leaves it to wait in the retries.
    pub(crate) fn place(&mut self, row: Row) {
        let subscription = row.delivery.subscription;
        match self.subscriptions.standing(subscription, self.clock.now()) {
            Standing::Missing => self.let_go(row),
            Standing::Known(Service::Hold) => self.hold(row),
            Standing::Known(Service::Send) => self.queue_if_room(row),
            Standing::Known(Service::Deleted) => self.queue(row),
            Standing::Unknown => {
                self.queue_if_room(row);
                self.subscriptions.row_came(subscription);
            }
            // It should have none: perhaps it was enabled again.
            Standing::Known(Service::Disabled) => {
                self.queue(row);
                self.schedule.shut(subscription);
                self.subscriptions.row_came(subscription);
                self.subscriptions.changed(subscription);
            }
        }
    }

    pub(crate) fn queue(&mut self, row: Row) {
        self.cache.wait_for(row.delivery.event);
        self.schedule.push(row, self.clock.now());
    }

    /// Lets go of a row that was not sent. It comes back when it is read again.
    pub(crate) fn let_go(&mut self, row: Row) {
        let mark = self.handed_over.transit.mark();
        self.known.forget(row.delivery, row.stage, mark);
        self.count_out(row);
    }

    /// Lets go of a row that was taken out of a queue.
    pub(crate) fn unqueue(&mut self, row: Row) {
        self.cache.release(row.delivery.event);
        self.let_go(row);
    }

    fn count_out(&mut self, row: Row) {
        if row.stage != Stage::OUTBOX {
            self.retries
                .let_go(row.delivery.subscription, self.clock.now());
        }
    }

    /// Drops a delivery whose rows were taken away, unless it is under way.
    pub(crate) fn withdraw(&mut self, delivery: DeliveryId) {
        let queued = self
            .schedule
            .remove(delivery)
            .or_else(|| self.unwant(delivery));
        if queued.is_some() {
            self.cache.release(delivery.event);
        }
        let unripe = || self.retries.unripe(|row| row.delivery == delivery).pop();
        let waiting = queued.or_else(unripe);
        if waiting.is_some() || !self.known.contains(delivery) {
            self.known
                .withdraw(delivery, self.handed_over.transit.mark());
        }
        if let Some(row) = waiting {
            self.count_out(row);
        }
    }
}
