//! Sends in turn, each delivery when its message and its subscription are at hand.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use ringback_model::{DeadReason, DeliveryId, EventId, EventType, Lane, SubscriptionId};
use ringback_store::{Next, Payload, Settlement, StoreError};

use crate::{
    Dispatcher,
    message::Message,
    schedule::Item,
    send::{Attempt, Transport},
    sending::{Sending, Service},
    settle::Settler,
    stage::Stage,
};

/// The most messages to read in one statement, and such statements at once.
const FETCH: usize = 256;
const FETCHES_AT_ONCE: usize = 4;
/// When a message has to be read, so many that come next are read with it.
const FETCH_AHEAD: usize = 64;

/// An attempt under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) attempt: Attempt,
    pub(crate) lane: Lane,
    pub(crate) delivery: DeliveryId,
    pub(crate) stage: Stage,
    pub(crate) started_at: DateTime<Utc>,
}

/// Deliveries whose turn has come, waiting for their message.
#[derive(Debug, Default)]
pub(crate) struct Wanting {
    deliveries: HashMap<EventId, Vec<(SubscriptionId, Lane, Item)>>,
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
        while self.may_act() && self.settler.unsettled() <= Settler::MOST {
            let Some((subscription, lane, item)) = self.schedule.next() else {
                break;
            };
            self.begin(subscription, lane, item, now);
            self.retries_room(subscription, now);
        }
    }

    /// Looks for retries again when a queue that was full has run half empty.
    fn retries_room(&mut self, subscription: SubscriptionId, now: DateTime<Utc>) {
        if self.schedule.queued_of(subscription) <= self.config.queue_per_subscription / 2 {
            self.retries.can_look(subscription, now);
        }
    }

    fn begin(&mut self, subscription: SubscriptionId, lane: Lane, item: Item, now: DateTime<Utc>) {
        let Some(message) = self.cache.get(item.event) else {
            return self.want(subscription, lane, item);
        };
        let Some((sending, service)) = self.subscriptions.sending(subscription) else {
            // Only what is loaded has a turn; should it not be, the row is read again.
            self.schedule.done(subscription);
            return self.unqueue(subscription, item);
        };
        self.cache.release(item.event);
        let delivery = DeliveryId {
            event: item.event,
            subscription,
        };
        match service {
            Service::Send => self.send(message, sending, lane, delivery, item.stage, now),
            Service::Hold => {
                self.schedule.done(subscription);
                self.place(lane, delivery, item.stage);
            }
            Service::Disabled => {
                let next = Next::Dead(DeadReason::SubscriptionDisabled);
                self.settle_unsent(
                    &sending,
                    message.event_type.clone(),
                    lane,
                    delivery,
                    item.stage,
                    next,
                );
            }
            Service::Deleted => {
                let event_type = message.event_type.clone();
                self.settle_unsent(
                    &sending,
                    event_type,
                    lane,
                    delivery,
                    item.stage,
                    Next::Cancelled,
                );
            }
        }
    }

    fn send(
        &mut self,
        message: Arc<Message>,
        sending: Arc<Sending>,
        lane: Lane,
        delivery: DeliveryId,
        stage: Stage,
        started_at: DateTime<Utc>,
    ) {
        let number = stage.attempts_made().saturating_add(1);
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
                attempt,
                lane,
                delivery,
                stage,
                started_at,
            },
        );
        self.lanes.begin_work(lane);
    }

    /// Settles a delivery that no attempt is made for.
    fn settle_unsent(
        &mut self,
        sending: &Sending,
        event_type: EventType,
        lane: Lane,
        delivery: DeliveryId,
        stage: Stage,
        next: Next,
    ) {
        self.schedule.done(delivery.subscription);
        self.lanes.begin_work(lane);
        self.settler.push(Settlement {
            lane,
            delivery,
            app: sending.app,
            event_type,
            source: stage.source(),
            attempt: None,
            next,
        });
    }

    /// Waits for a message; with it, what comes next of the subscription is read.
    fn want(&mut self, subscription: SubscriptionId, lane: Lane, item: Item) {
        self.wanting
            .deliveries
            .entry(item.event)
            .or_default()
            .push((subscription, lane, item));
        if !self.cache.ask(item.event) {
            return;
        }
        self.wanting.to_fetch.push(item.event);
        for next in self.schedule.upcoming(subscription).take(FETCH_AHEAD) {
            if self.cache.ask(next.event) {
                self.wanting.to_fetch.push(next.event);
            }
        }
    }

    /// Takes a delivery out that waits for its message.
    pub(crate) fn unwant(&mut self, delivery: DeliveryId) -> Option<Stage> {
        let waiting = self.wanting.deliveries.get_mut(&delivery.event)?;
        let at = waiting
            .iter()
            .position(|(id, ..)| *id == delivery.subscription)?;
        let (subscription, _, item) = waiting.swap_remove(at);
        self.schedule.done(subscription);
        self.cache.release(item.event);
        Some(item.stage)
    }

    /// Reads messages that are wanted.
    pub(crate) fn fetch(&mut self, now: DateTime<Utc>) {
        while self.wanting.has_fetch() && self.pace.fetch.is_over(now) {
            let rest = self.wanting.to_fetch.len().saturating_sub(FETCH);
            let events = self.wanting.to_fetch.split_off(rest);
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
            let is_kept = self.cache.has(event);
            let wanting = self.wanting.deliveries.remove(&event).unwrap_or_default();
            for (subscription, lane, item) in wanting {
                if is_kept {
                    self.resume(subscription, lane, item);
                } else {
                    self.settle_expired(subscription, lane, item);
                }
            }
        }
    }

    /// Gives a delivery its turn back, if it may still be sent.
    fn resume(&mut self, subscription: SubscriptionId, lane: Lane, item: Item) {
        let service = self
            .subscriptions
            .sending(subscription)
            .map(|(_, service)| service);
        if self.lanes.owns(lane) && service.is_some_and(|service| service != Service::Hold) {
            return self.schedule.put_back(subscription, lane, item);
        }
        self.schedule.done(subscription);
        self.cache.release(item.event);
        let delivery = DeliveryId {
            event: item.event,
            subscription,
        };
        if self.lanes.owns(lane) {
            self.place(lane, delivery, item.stage);
        } else {
            self.let_go(delivery, item.stage);
        }
    }

    /// Settles a delivery whose event is not kept any more: it can never be sent.
    fn settle_expired(&mut self, subscription: SubscriptionId, lane: Lane, item: Item) {
        let delivery = DeliveryId {
            event: item.event,
            subscription,
        };
        let sending = self.subscriptions.sending(subscription);
        // What type it was went with the event.
        let event_type = "unknown".parse::<EventType>();
        let (Some((sending, _)), Ok(event_type)) = (sending, event_type) else {
            self.schedule.done(subscription);
            return self.unqueue(subscription, item);
        };
        tracing::warn!(delivery.id = %delivery, "its event is not kept any more");
        self.cache.release(item.event);
        let next = Next::Dead(DeadReason::OutOfAttempts);
        self.settle_unsent(&sending, event_type, lane, delivery, item.stage, next);
    }
}
