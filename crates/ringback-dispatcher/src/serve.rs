//! Sends in turn, each delivery when its message and its subscription are at hand.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use ringback_model::{DeadReason, DeliveryId, EventId, EventType};
use ringback_store::{Next, Payload, Settlement, StoreError};

use crate::{
    Dispatcher,
    message::Message,
    row::Row,
    send::{Attempt, Transport},
    sending::{Sending, Service},
    settle::Settler,
};

/// The most messages to read in one statement, and such statements at once.
const FETCH: usize = 256;
const FETCHES_AT_ONCE: usize = 4;
/// When a message has to be read, so many that come next are read with it.
const FETCH_AHEAD: usize = 64;

/// An attempt under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) row: Row,
    pub(crate) attempt: Attempt,
    pub(crate) started_at: DateTime<Utc>,
}

/// Deliveries whose turn has come, waiting for their message.
#[derive(Debug, Default)]
pub(crate) struct Wanting {
    rows: HashMap<EventId, Vec<Row>>,
    to_fetch: Vec<EventId>,
    fetches: usize,
}

impl Wanting {
    /// Whether a statement can be made now.
    pub(crate) fn has_fetch(&self) -> bool {
        !self.to_fetch.is_empty() && self.fetches < FETCHES_AT_ONCE
    }
}

impl<T: Transport> Dispatcher<T> {
    /// Serves whose turn it is, as long as something may be sent.
    pub(crate) fn serve(&mut self, now: DateTime<Utc>) {
        let most = self.config.queue_per_subscription;
        while self.may_act() && self.settler.unsettled() <= Settler::MOST {
            let Some(row) = self.schedule.next(now) else {
                break;
            };
            self.begin(row, now);
            // What had to be left in the retries can come in.
            let subscription = row.delivery.subscription;
            if self.schedule.has_room(subscription, most) {
                self.retries.can_look(subscription, now);
            }
        }
    }

    fn begin(&mut self, row: Row, now: DateTime<Utc>) {
        let Some(message) = self.cache.get(row.delivery.event) else {
            return self.want(row);
        };
        let Some((sending, service)) = self.subscriptions.sending(row.delivery.subscription) else {
            // Only what is loaded has a turn; should it not be, the row is read again.
            self.schedule.done(row.delivery, now);
            return self.unqueue(row);
        };
        self.cache.release(row.delivery.event);
        let unsent = match service {
            Service::Send => return self.send(row, message, sending, now),
            Service::Hold => {
                self.schedule.done(row.delivery, now);
                return self.hold(row);
            }
            Service::Disabled => Next::Dead(DeadReason::SubscriptionDisabled),
            Service::Deleted => Next::Cancelled,
        };
        self.settle_unsent(row, &sending, message.event_type.clone(), unsent);
    }

    fn send(
        &mut self,
        row: Row,
        message: Arc<Message>,
        sending: Arc<Sending>,
        started_at: DateTime<Utc>,
    ) {
        let number = row.stage.attempts_made().saturating_add(1);
        let attempt = Attempt {
            message,
            sending,
            number,
            user_agent: self.user_agent.clone(),
        };
        let made = attempt
            .clone()
            .make(self.transport.clone(), self.clock.clone());
        let id = self.attempts.spawn(made).id();
        self.in_flight.insert(
            id,
            InFlight {
                row,
                attempt,
                started_at,
            },
        );
        self.lanes.begin_work(row.lane);
    }

    /// Settles a delivery that no attempt is made for.
    fn settle_unsent(&mut self, row: Row, sending: &Sending, event_type: EventType, next: Next) {
        self.schedule.done(row.delivery, self.clock.now());
        self.lanes.begin_work(row.lane);
        self.settler.push(Settlement {
            lane: row.lane,
            delivery: row.delivery,
            app: sending.app,
            event_type,
            source: row.stage.source(),
            attempt: None,
            next,
        });
    }

    /// Waits for a message; with it, what comes next of the subscription is read.
    fn want(&mut self, row: Row) {
        let event = row.delivery.event;
        self.wanting.rows.entry(event).or_default().push(row);
        if !self.cache.ask(event) {
            return;
        }
        self.wanting.to_fetch.push(event);
        for next in self
            .schedule
            .upcoming(row.delivery.subscription)
            .take(FETCH_AHEAD)
        {
            if self.cache.ask(next) {
                self.wanting.to_fetch.push(next);
            }
        }
    }

    /// Takes a delivery out that waits for its message.
    pub(crate) fn unwant(&mut self, delivery: DeliveryId) -> Option<Row> {
        let rows = self.wanting.rows.get_mut(&delivery.event)?;
        let at = rows.iter().position(|row| row.delivery == delivery)?;
        self.schedule.done(delivery, self.clock.now());
        Some(rows.swap_remove(at))
    }

    /// Reads messages that are wanted.
    pub(crate) fn fetch(&mut self, now: DateTime<Utc>) {
        while self.wanting.has_fetch() && self.pace.fetch.is_over(now) {
            let count = self.wanting.to_fetch.len().min(FETCH);
            let events = self.wanting.to_fetch.drain(..count).collect();
            self.wanting.fetches += 1;
            self.calls.payloads(events);
        }
    }

    pub(crate) fn take_payloads(
        &mut self,
        events: Vec<EventId>,
        found: Result<Vec<Payload>, StoreError>,
    ) {
        self.wanting.fetches -= 1;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.wanting.to_fetch.extend(events);
                return self
                    .pace
                    .fetch
                    .failed("read events", &error, self.clock.now());
            }
        };
        self.pace.fetch.worked();
        found
            .into_iter()
            .for_each(|payload| self.cache.admit(Message::from(payload).into()));
        for event in events {
            self.cache.missed(event);
            for row in self.wanting.rows.remove(&event).unwrap_or_default() {
                if self.cache.has(event) {
                    self.resume(row);
                } else {
                    self.settle_expired(row);
                }
            }
        }
    }

    /// Gives a delivery its turn back, if it may still be sent.
    fn resume(&mut self, row: Row) {
        let subscription = row.delivery.subscription;
        let service = self
            .subscriptions
            .sending(subscription)
            .map(|(_, service)| service);
        if self.lanes.owns(row.lane) && service.is_some_and(|service| service != Service::Hold) {
            return self.schedule.put_back(row, self.clock.now());
        }
        self.schedule.done(row.delivery, self.clock.now());
        self.cache.release(row.delivery.event);
        if self.lanes.owns(row.lane) {
            self.place(row);
        } else {
            self.let_go(row);
        }
    }

    /// Settles a delivery whose event is not kept any more: it can never be sent.
    fn settle_expired(&mut self, row: Row) {
        let sending = self.subscriptions.sending(row.delivery.subscription);
        // What type it was went with the event.
        let event_type = "unknown".parse::<EventType>();
        let (Some((sending, _)), Ok(event_type)) = (sending, event_type) else {
            self.schedule.done(row.delivery, self.clock.now());
            return self.unqueue(row);
        };
        tracing::warn!(delivery.id = %row.delivery, "its event is not kept any more");
        self.cache.release(row.delivery.event);
        let expired = Next::Dead(DeadReason::PayloadExpired);
        self.settle_unsent(row, &sending, event_type, expired);
    }
}
