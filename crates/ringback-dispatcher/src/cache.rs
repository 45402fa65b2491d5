//! What is to be sent, rendered once per event and shared by its deliveries.
//!
//! An event's message stays while a delivery in memory waits for its turn, up to a
//! limit of bytes; beyond it, the oldest are dropped and read again in their turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use ringback_model::EventId;

use crate::message::Message;

/// Messages, by their events.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: HashMap<EventId, Slot>,
    /// Those that are here, oldest first; and some that have gone since.
    order: VecDeque<EventId>,
    here: usize,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Slot {
    /// Deliveries in memory that wait for their turn.
    waiting: u32,
    /// A delivery whose turn it is waits for this one: it is not dropped.
    pinned: bool,
    asked: bool,
    message: Option<Arc<Message>>,
}

impl Cache {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            slots: HashMap::new(),
            order: VecDeque::new(),
            here: 0,
            bytes: 0,
            max_bytes,
        }
    }

    /// One more delivery of this event waits.
    pub(crate) fn wait_for(&mut self, event: EventId) {
        self.slots.entry(event).or_default().waiting += 1;
    }

    /// One delivery of this event waits no longer.
    pub(crate) fn release(&mut self, event: EventId) {
        let Some(slot) = self.slots.get_mut(&event) else {
            return;
        };
        slot.waiting -= 1;
        if slot.waiting == 0 {
            self.drop_message(event);
            self.slots.remove(&event);
        }
    }

    /// The message, for a delivery whose turn it is. `None` has to be asked for.
    pub(crate) fn get(&mut self, event: EventId) -> Option<Arc<Message>> {
        let slot = self.slots.get_mut(&event)?;
        slot.pinned = slot.message.is_none();
        slot.message.clone()
    }

    /// Whether the message is here.
    pub(crate) fn has(&self, event: EventId) -> bool {
        self.slots
            .get(&event)
            .is_some_and(|slot| slot.message.is_some())
    }

    /// Whether this event's message has to be read: it is not here, and nobody has
    /// asked yet.
    pub(crate) fn ask(&mut self, event: EventId) -> bool {
        let Some(slot) = self.slots.get_mut(&event) else {
            return false;
        };
        let first = slot.message.is_none() && !slot.asked;
        slot.asked |= first;
        first
    }

    /// What was asked for did not come: it may be asked for again.
    pub(crate) fn missed(&mut self, event: EventId) {
        if let Some(slot) = self.slots.get_mut(&event) {
            slot.asked = false;
        }
    }

    /// Keeps a message, if a delivery waits for it.
    pub(crate) fn admit(&mut self, message: Arc<Message>) {
        let Some(slot) = self.slots.get_mut(&message.event) else {
            return;
        };
        slot.asked = false;
        if slot.message.is_none() {
            self.here += 1;
            self.bytes += message.size();
            self.order.push_back(message.event);
            slot.message = Some(message);
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        for _ in 0..self.order.len() {
            if self.bytes <= self.max_bytes {
                break;
            }
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if self.slots.get(&oldest).is_some_and(|slot| slot.pinned) {
                self.order.push_back(oldest);
            } else {
                self.drop_message(oldest);
            }
        }
        if self.order.len() > 2 * self.here + 64 {
            let slots = &self.slots;
            self.order
                .retain(|event| slots.get(event).is_some_and(|slot| slot.message.is_some()));
        }
    }

    fn drop_message(&mut self, event: EventId) {
        let message = self
            .slots
            .get_mut(&event)
            .and_then(|slot| slot.message.take());
        if let Some(message) = message {
            self.here -= 1;
            self.bytes -= message.size();
        }
    }

    /// Gives memory back after a rush.
    pub(crate) fn shrink(&mut self) {
        if self.slots.capacity() > 4 * self.slots.len() + 1024 {
            self.slots.shrink_to_fit();
            self.order.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use ringback_model::AppId;
    use ringback_store::Payload;

    use super::*;

    fn event(number: i64) -> EventId {
        EventId::new(number)
    }

    fn message(number: i64) -> Arc<Message> {
        let payload = Payload {
            event: event(number),
            app: AppId::new(1),
            event_type: "order.paid".parse().unwrap(),
            data: vec![b'1'; 1000].into(),
            traceparent: None,
        };
        Arc::new(Message::from(payload))
    }

    #[test]
    fn a_message_stays_while_a_delivery_waits_for_it() {
        let mut cache = Cache::new(1_000_000);
        cache.wait_for(event(1));
        cache.wait_for(event(1));
        cache.admit(message(1));
        cache.admit(message(2)); // nobody waits for that
        assert_eq!(cache.get(event(1)).unwrap().event, event(1));
        cache.release(event(1));
        assert!(cache.get(event(1)).is_some());
        cache.release(event(1));
        assert!(cache.get(event(1)).is_none());
        assert_eq!((cache.slots.len(), cache.here, cache.bytes), (0, 0, 0));
    }

    #[test]
    fn what_is_not_here_is_asked_for_once() {
        let mut cache = Cache::new(1_000_000);
        cache.wait_for(event(1));
        assert!(cache.get(event(1)).is_none());
        assert!(cache.ask(event(1)) && !cache.ask(event(1)));
        cache.missed(event(1));
        assert!(cache.ask(event(1)));
        cache.admit(message(1));
        assert!(!cache.ask(event(1)) && !cache.ask(event(2)));
    }

    #[test]
    fn over_the_limit_the_oldest_goes_but_never_what_is_needed_now() {
        let one = message(1).size();
        let mut cache = Cache::new(2 * one);
        (1..=4).for_each(|number| cache.wait_for(event(number)));
        assert!(cache.get(event(1)).is_none()); // its turn has come
        (1..=4).for_each(|number| cache.admit(message(number)));
        let here: Vec<bool> = (1..=4)
            .map(|number| cache.get(event(number)).is_some())
            .collect();
        assert_eq!(here, [true, false, false, true]);
        assert_eq!(cache.bytes, 2 * one);
    }

    #[test]
    fn bookkeeping_does_not_outgrow_what_is_here() {
        let mut cache = Cache::new(1_000_000);
        for number in 0..10_000 {
            cache.wait_for(event(number));
            cache.admit(message(number));
            cache.release(event(number));
        }
        assert!(cache.order.len() <= 64 + 1);
        assert_eq!(cache.bytes, 0);
    }
}
