//! One application's subscriptions, found by what is in an event.
//!
//! Patterns of event types are looked up, never tried: for `order.line.added` there are
//! `order.line.added`, `order.line.*`, `order.*` and `*`. Behind each stands a
//! [`Group`], which looks filters up by a value that they need.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ringback_model::{
    EventFields, EventType, EventTypePattern, OrderKey, PayloadFilter, SubscriptionId,
};
use ringback_store::{NewDelivery, Route, RouteChanges};

use super::{
    group::{Group, Number},
    interner::Interner,
};

/// Event types, and deliveries in all of their lists together, whose answers are kept.
pub(super) const KEPT_TYPES: usize = 1_000;
const KEPT_DELIVERIES: usize = 1_000_000;

/// All subscriptions that events may go to, at one version.
#[derive(Debug)]
pub(super) struct Index {
    version: i64,
    numbers: HashMap<SubscriptionId, Number>,
    /// By number.
    entries: Vec<Option<Entry>>,
    free: Vec<Number>,
    patterns: Interner<Arc<[EventTypePattern]>>,
    filters: Interner<PayloadFilter>,
    /// By what [`key_of`] makes of their pattern.
    groups: HashMap<Box<str>, Group>,
    answers: Mutex<Answers>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delivery: NewDelivery,
    patterns: Number,
    filter: Option<Number>,
}

/// What was found out so far about event types.
#[derive(Debug, Default)]
struct Answers {
    by_type: HashMap<EventType, Answer>,
    deliveries: usize,
}

#[derive(Clone, Debug)]
struct Answer {
    /// For those that have no filter.
    unfiltered: Arc<[NewDelivery]>,
    /// There are some with a filter.
    has_filters: bool,
}

impl Index {
    pub(super) fn new(version: i64, routes: Vec<Route>) -> Self {
        let mut index = Self {
            version,
            numbers: HashMap::with_capacity(routes.len()),
            entries: Vec::with_capacity(routes.len()),
            free: Vec::new(),
            patterns: Interner::default(),
            filters: Interner::default(),
            groups: HashMap::new(),
            answers: Mutex::default(),
        };
        for route in routes {
            index.insert(route);
        }
        index
    }

    pub(super) fn version(&self) -> i64 {
        self.version
    }

    /// A delivery for each subscription that wants the event.
    pub(super) fn deliveries(&self, event: &EventFields<'_>) -> Arc<[NewDelivery]> {
        let answer = self.answer(event.event_type());
        if !answer.has_filters {
            return answer.unfiltered;
        }
        let filtered = self.filtered(event);
        if filtered.is_empty() {
            return answer.unfiltered;
        }
        answer.unfiltered.iter().copied().chain(filtered).collect()
    }

    /// Brings it to the version of `changes`, which are those since its own.
    pub(super) fn apply(&mut self, changes: RouteChanges) {
        for subscription in changes.gone {
            self.remove(subscription);
        }
        for route in changes.routes {
            self.remove(route.subscription);
            self.insert(route);
        }
        self.version = changes.version;
        *self
            .answers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner) = Answers::default();
    }

    fn answer(&self, event_type: &EventType) -> Answer {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.by_type.get(event_type) {
            return answer.clone();
        }
        let groups = || keys_of(event_type).filter_map(|key| self.groups.get(key));
        let numbers = groups().flat_map(Group::unfiltered).copied();
        let answer = Answer {
            unfiltered: self.to_deliveries(numbers.collect()).collect(),
            has_filters: groups().any(Group::has_filters),
        };
        answers.keep(event_type, &answer);
        answer
    }

    fn filtered(&self, event: &EventFields<'_>) -> Vec<NewDelivery> {
        let mut wanting = Vec::new();
        // A filter may stand in several groups, and is judged once all the same.
        let mut judged = HashMap::new();
        for group in keys_of(event.event_type()).filter_map(|key| self.groups.get(key)) {
            group.candidates(event, |filter, subscriptions| {
                let judge = || {
                    let filter = self.filters.get(filter);
                    filter.is_some_and(|filter| filter.matches(event))
                };
                if *judged.entry(filter).or_insert_with(judge) {
                    wanting.extend_from_slice(subscriptions);
                }
            });
        }
        self.to_deliveries(wanting).collect()
    }

    /// One for each subscription, though it may be named by several of its patterns.
    fn to_deliveries(&self, mut numbers: Vec<Number>) -> impl Iterator<Item = NewDelivery> {
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|number| {
            let entry = self.entries.get(number as usize)?.as_ref()?;
            Some(entry.delivery)
        })
    }

    fn insert(&mut self, route: Route) {
        let delivery = NewDelivery {
            subscription: route.subscription,
            lane: route.lane,
            order: OrderKey::of(route.ordering, None),
            held: route.held,
        };
        let mut patterns = route.event_types;
        // The same pattern twice would be two members of one group.
        patterns.sort_by(|one, other| key_of(one).cmp(key_of(other)));
        patterns.dedup();
        let patterns: Arc<[_]> = patterns.into();
        let filter = route
            .filter
            .map(|filter| (self.filters.take(filter.clone()), filter));
        let entry = Entry {
            delivery,
            patterns: self.patterns.take(Arc::clone(&patterns)),
            filter: filter.as_ref().map(|(number, _)| *number),
        };
        let number = self.put(entry);
        self.numbers.insert(route.subscription, number);
        for pattern in &*patterns {
            let key = key_of(pattern);
            // Not `entry`, which would want the key to keep.
            if !self.groups.contains_key(key) {
                self.groups.insert(key.into(), Group::default());
            }
            if let Some(group) = self.groups.get_mut(key) {
                let filter = filter.as_ref().map(|(number, filter)| (*number, filter));
                group.insert(number, filter);
            }
        }
    }

    fn put(&mut self, entry: Entry) -> Number {
        if let Some(number) = self.free.pop() {
            self.entries[number as usize] = Some(entry);
            return number;
        }
        self.entries.push(Some(entry));
        // No application has 2^32 subscriptions.
        (self.entries.len() - 1) as Number
    }

    fn remove(&mut self, subscription: SubscriptionId) {
        let Some(number) = self.numbers.remove(&subscription) else {
            return;
        };
        let Some(entry) = self.entries[number as usize].take() else {
            return;
        };
        self.free.push(number);
        let patterns = self.patterns.get(entry.patterns).cloned();
        let filter = entry
            .filter
            .and_then(|number| Some((number, self.filters.get(number)?)));
        for key in patterns
            .iter()
            .flat_map(|patterns| patterns.iter())
            .map(key_of)
        {
            if let Some(group) = self.groups.get_mut(key) {
                group.remove(number, filter);
                if group.is_empty() {
                    self.groups.remove(key);
                }
            }
        }
        self.patterns.give_back(entry.patterns);
        if let Some(filter) = entry.filter {
            self.filters.give_back(filter);
        }
    }

    /// How many there are of everything.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.numbers.len(), self.groups.len(), self.kept_types()]
    }

    #[cfg(test)]
    pub(super) fn kept_types(&self) -> usize {
        self.answers.lock().unwrap().by_type.len()
    }
}

impl Answers {
    fn keep(&mut self, event_type: &EventType, answer: &Answer) {
        self.deliveries += answer.unfiltered.len();
        if self.by_type.len() >= KEPT_TYPES || self.deliveries > KEPT_DELIVERIES {
            *self = Self {
                deliveries: answer.unfiltered.len(),
                ..Self::default()
            };
        }
        self.by_type.insert(event_type.clone(), answer.clone());
    }
}

/// What a pattern is filed under: one text for each, since only prefixes end with a dot
/// and only `*` is empty.
fn key_of(pattern: &EventTypePattern) -> &str {
    match pattern {
        EventTypePattern::Any => "",
        EventTypePattern::Below(prefix) => prefix,
        EventTypePattern::Exactly(event_type) => event_type.as_str(),
    }
}

/// What the patterns that match a type are filed under.
fn keys_of(event_type: &EventType) -> impl Iterator<Item = &str> {
    let text = event_type.as_str();
    let any = (!event_type.is_system()).then_some("");
    let below = text.match_indices('.').map(|(at, _)| &text[..=at]);
    any.into_iter().chain(below).chain([text])
}
