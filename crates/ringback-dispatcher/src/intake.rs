//! Takes rows in, from wherever they come, and gives each its place.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use ringback_model::{DeliveryId, Lane, SubscriptionId};
use ringback_store::{DueRetry, OutboxKey, Payload, SendingState, StoreError};

use crate::{
    CHANGES, Dispatcher, SCAN, TIDY,
    calls::Begun,
    known::TakeIn,
    message::Message,
    reader::Page,
    retries::{Look, Seen},
    schedule::Item,
    send::Transport,
    sending::{Sending, Service},
    stage::Stage,
    subscriptions::Standing,
};

/// How far windows of changes overlap: a change is dated before it commits.
const OVERLAP: chrono::TimeDelta = chrono::TimeDelta::seconds(5);
/// Deliveries of a disabled or deleted subscription that are settled at once.
const UNSENT_AT_ONCE: usize = 64;

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
        for row in &rows {
            if !self.lanes.owned_at(row.lane, begun.mark) {
                continue;
            }
            let seen = seen.entry(row.delivery.subscription).or_default();
            seen.rows += 1;
            if row.due_at > look.until {
                seen.next_due.get_or_insert(row.due_at);
                continue;
            }
            match self.take_retry(row, now) {
                TakeIn::New => seen.taken += 1,
                TakeIn::Held => {}
                TakeIn::NotNow => seen.refused = true,
            }
        }
        for (_, subscription) in &look.subscriptions {
            let seen = seen.remove(subscription).unwrap_or_default();
            self.retries.looked(*subscription, look, seen, now);
        }
    }

    /// Takes in a row of the outbox; whether it is new.
    fn take_key(&mut self, key: OutboxKey) -> bool {
        let is_new = self.take_in(key.delivery, Stage::OUTBOX) == TakeIn::New;
        if is_new {
            self.place(key.lane, key.delivery, Stage::OUTBOX);
        }
        is_new
    }

    fn take_retry(&mut self, row: &DueRetry, now: DateTime<Utc>) -> TakeIn {
        let stage = Stage::retries(row.attempts_made, row.round_start);
        let taken = self.take_in(row.delivery, stage);
        if taken == TakeIn::New {
            self.retries.hold(row.delivery.subscription);
            if row.due_at > now {
                self.retries
                    .ripen(row.lane, row.delivery, stage, row.due_at);
            } else {
                self.place(row.lane, row.delivery, stage);
            }
        }
        taken
    }

    /// Gives retries their place whose time has come.
    pub(crate) fn take_ripe(&mut self, now: DateTime<Utc>) {
        while let Some((lane, delivery, stage)) = self.retries.ripe(now) {
            self.place(lane, delivery, stage);
        }
    }

    /// Takes a row in hand, if it is new and there is room.
    fn take_in(&mut self, delivery: DeliveryId, stage: Stage) -> TakeIn {
        if self.schedule.queued() >= self.config.queue_per_node {
            self.reader.hold(true, self.clock.now());
        }
        if self.reader.is_held() {
            TakeIn::NotNow
        } else {
            self.known.take_in(delivery, stage)
        }
    }

    /// Queues a row that is in hand, or parks it, or lets go of it.
    pub(crate) fn place(&mut self, lane: Lane, delivery: DeliveryId, stage: Stage) {
        let subscription = delivery.subscription;
        let standing = self.subscriptions.standing(subscription, self.clock.now());
        let full = || self.schedule.queued_of(subscription) >= self.config.queue_per_subscription;
        if standing == Standing::Missing {
            self.let_go(delivery, stage);
        } else if standing == Standing::Known(Service::Hold) || (stage == Stage::OUTBOX && full()) {
            self.hold(lane, delivery, stage);
        } else {
            self.cache.wait_for(delivery.event);
            self.schedule.push(
                subscription,
                lane,
                Item {
                    event: delivery.event,
                    stage,
                },
            );
        }
    }

    /// Leaves a row to wait in the retries: it cannot be sent soon.
    fn hold(&mut self, lane: Lane, delivery: DeliveryId, stage: Stage) {
        if stage == Stage::OUTBOX {
            self.parking.push(OutboxKey { lane, delivery });
        } else {
            self.let_go(delivery, stage);
            self.retries
                .expect(delivery.subscription, lane, self.clock.now());
        }
    }

    /// Lets go of a row that was not sent. It comes back when it is read again.
    pub(crate) fn let_go(&mut self, delivery: DeliveryId, stage: Stage) {
        self.known
            .forget(delivery, stage, self.handed_over.transit.mark());
        self.no_longer_held(delivery, stage);
    }

    /// Counts a retry that left memory.
    pub(crate) fn no_longer_held(&mut self, delivery: DeliveryId, stage: Stage) {
        if stage != Stage::OUTBOX {
            self.retries.let_go(delivery.subscription, self.clock.now());
        }
    }

    /// Lets go of what was taken out of a queue.
    pub(crate) fn unqueue(&mut self, subscription: SubscriptionId, item: Item) {
        self.cache.release(item.event);
        self.let_go(
            DeliveryId {
                event: item.event,
                subscription,
            },
            item.stage,
        );
    }

    /// Drops a delivery whose rows were taken away, unless it is under way.
    pub(crate) fn withdraw(&mut self, delivery: DeliveryId) {
        let queued = self.schedule.remove(delivery).map(|item| {
            self.cache.release(item.event);
            item.stage
        });
        let waited = queued.or_else(|| {
            let unripe = self.retries.unripe(|_, other| other == delivery);
            unripe.first().map(|(_, stage)| *stage)
        });
        let stage = waited.or_else(|| self.unwant(delivery));
        if stage.is_some() || !self.known.contains(delivery) {
            self.known
                .withdraw(delivery, self.handed_over.transit.mark());
        }
        if let Some(stage) = stage {
            self.no_longer_held(delivery, stage);
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
        if now >= self.pace.scan_at {
            self.pace.scan_at = now + SCAN;
            let owned: Vec<Lane> = self.lanes.owned().collect();
            if !owned.is_empty() {
                self.calls.waiting(owned);
            }
        }
        if self.pace.looking || self.reader.is_held() {
            return;
        }
        let room = self.config.queue_per_subscription / 2;
        let (subscriptions, schedule) = (&mut self.subscriptions, &self.schedule);
        let may_look = |subscription, _| match subscriptions.standing(subscription, now) {
            Standing::Unknown | Standing::Missing | Standing::Known(Service::Hold) => false,
            Standing::Known(_) => schedule.queued_of(subscription) <= room,
        };
        if let Some(look) = self.retries.next(now, may_look) {
            self.pace.looking = true;
            self.calls.look(look);
        }
    }

    /// Loads subscriptions that are needed or changed.
    pub(crate) fn load(&mut self, now: DateTime<Utc>) {
        if self.pace.load.is_over(now)
            && let Some(ids) = self.subscriptions.next_load()
        {
            self.calls.states(ids, now);
        }
        if now >= self.pace.changes_at {
            self.pace.changes_at = now + CHANGES;
            if self.subscriptions.is_empty() {
                self.pace.changes_since = now;
            } else {
                self.calls.changed(self.pace.changes_since - OVERLAP, now);
            }
        }
    }

    pub(crate) fn take_changed(
        &mut self,
        at: DateTime<Utc>,
        found: Result<Vec<SubscriptionId>, StoreError>,
    ) {
        match found {
            Ok(changed) => {
                self.pace.changes_since = at;
                changed
                    .into_iter()
                    .for_each(|id| self.subscriptions.changed(id));
            }
            Err(error) => {
                self.pace
                    .load
                    .failed("look for changed subscriptions", &error, self.clock.now());
            }
        }
    }

    pub(crate) fn take_states(
        &mut self,
        ids: Vec<SubscriptionId>,
        found: Result<Vec<SendingState>, StoreError>,
    ) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.subscriptions.load_failed(ids);
                return self
                    .pace
                    .load
                    .failed("load subscriptions", &error, self.clock.now());
            }
        };
        self.pace.load.worked();
        self.subscriptions.load_done();
        for id in ids {
            if !found.iter().any(|state| state.id == id) {
                self.take_missing(id);
            }
        }
        for state in found {
            self.take_state(state);
        }
    }

    fn take_missing(&mut self, id: SubscriptionId) {
        tracing::warn!(subscription.id = %id, "there are rows of a subscription that never was");
        self.subscriptions.missing(id);
        for item in self.schedule.close(id) {
            self.unqueue(id, item);
        }
    }

    fn take_state(&mut self, state: SendingState) {
        let sending = Sending::open(state, &self.vault, self.transport.policy());
        let Some((sending, before)) = self.subscriptions.loaded(sending) else {
            return;
        };
        let fault_before = before
            .as_ref()
            .and_then(|before| before.endpoint.as_ref().err());
        if let Err(fault) = &sending.endpoint
            && fault_before != Some(fault)
        {
            tracing::error!(subscription.id = %sending.id, %fault, "nothing can be sent to it");
        }
        let (id, lane) = (sending.id, sending.lane);
        if sending.service == Service::Hold {
            return self.hold_all(id, lane);
        }
        let was_sent = |before: std::sync::Arc<Sending>| before.service == Service::Send;
        let max_in_flight = match sending.service {
            Service::Send => sending.max_in_flight,
            // Its rows were taken away in the same commit; what is left is read again.
            _ if before.is_some_and(was_sent) => {
                self.drop_queue(id);
                UNSENT_AT_ONCE
            }
            _ => UNSENT_AT_ONCE,
        };
        self.schedule.open(id, lane, sending.app, max_in_flight);
        self.retries.can_look(id, self.clock.now());
    }

    /// Sends nothing of a paused subscription: what is queued waits in the retries.
    fn hold_all(&mut self, id: SubscriptionId, lane: Lane) {
        for item in self.schedule.close(id) {
            self.cache.release(item.event);
            self.hold(
                lane,
                DeliveryId {
                    event: item.event,
                    subscription: id,
                },
                item.stage,
            );
        }
        for (delivery, stage) in self.retries.unripe(|_, other| other.subscription == id) {
            self.hold(lane, delivery, stage);
        }
    }

    /// Forgets what is queued of a subscription.
    pub(crate) fn drop_queue(&mut self, id: SubscriptionId) {
        for item in self.schedule.clear(id) {
            self.unqueue(id, item);
        }
        for (delivery, stage) in self.retries.unripe(|_, other| other.subscription == id) {
            self.let_go(delivery, stage);
        }
    }

    /// Gives back memory that is not needed.
    pub(crate) fn tidy(&mut self, now: DateTime<Utc>) {
        if now < self.pace.tidy_at {
            return;
        }
        self.pace.tidy_at = now + TIDY;
        let schedule = &self.schedule;
        for id in self.subscriptions.drop_idle(now, |id| schedule.is_idle(id)) {
            self.schedule.drop_line(id);
        }
        self.known.shrink();
        self.cache.shrink();
    }
}
