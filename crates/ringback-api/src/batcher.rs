//! Gathers what many callers want accepted into few commits.
//!
//! At once when nothing is being written; otherwise when that is done, or 256 events
//! have gathered, or 2 ms have passed, with at most two commits under way. What was
//! handed in here is brought to its end also when its caller goes away.
//!
//! Ids are given when a commit begins, and two at once may end in either order. Of those
//! with deliveries that keep order there is one at a time, so that whoever reads one of
//! them finds all that this process gave lower ids to.

use std::{
    collections::BTreeSet,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use ringback_metrics::{Metrics, RefusedBecause, Statement};
use ringback_model::{DeliveryId, EventId, Lane, SubscriptionId};
use ringback_store::{
    Accept, AcceptItem, AcceptOutcome, HandOver, Hint, Hints, Membership, NewEvent, OutboxKey,
    Payload, StoreError,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Sleep,
};

use crate::quotas::{Admission, Keeper};

/// An ordinary batch. One item may exceed it: it is written whole.
const BATCH_EVENTS: usize = 256;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
const LONGEST_WAIT: Duration = Duration::from_millis(2);
const FLUSHES_AT_ONCE: usize = 2;
/// What may wait here: more is refused, so that memory and waiting stay bounded.
const QUEUE_ITEMS: usize = 8 * 1024;
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Where handlers hand events in.
#[derive(Clone)]
pub(crate) struct Batcher {
    queue: mpsc::Sender<Waiting>,
    bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

/// Why nothing is known to be accepted. Logged already, where there is a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAccepted {
    /// Too much waits already.
    Full,
    /// This node may make no ids.
    LeaseLost,
    /// The database did not answer: it may be accepted, or not.
    Unavailable,
    /// The database refused it.
    Refused,
}

/// What is needed to write.
pub(crate) struct Flusher {
    pub(crate) accept: Arc<dyn Accept>,
    pub(crate) hints: Arc<dyn Hints>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) hand_over: Option<HandOver>,
    pub(crate) quotas: Keeper,
    pub(crate) metrics: Arc<Metrics>,
    /// Held while something is written that keeps order.
    pub(crate) in_order: tokio::sync::Mutex<()>,
}

struct Waiting {
    item: AcceptItem,
    bytes: Reserved,
    admission: Admission,
    answer: oneshot::Sender<Result<AcceptOutcome, NotAccepted>>,
}

impl Waiting {
    /// Whether it has deliveries that keep order.
    fn is_ordered(&self) -> bool {
        keeps_order(&self.item)
    }
}

fn keeps_order(item: &AcceptItem) -> bool {
    let mut deliveries = item.events.iter().flat_map(|event| &event.deliveries);
    deliveries.any(|delivery| delivery.order.is_some())
}

impl Batcher {
    /// Starts the task that writes; it ends when the last handle is dropped and all
    /// is written.
    pub(crate) fn start(flusher: impl Into<Arc<Flusher>>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_ITEMS);
        let flusher = flusher.into();
        let metrics = Arc::clone(&flusher.metrics);
        tokio::spawn(run(waiting, flusher));
        Self {
            queue,
            bytes: Arc::default(),
            metrics,
        }
    }

    /// Has an item written; the ids of its events are given here. When it returns, what
    /// is accepted is on disk.
    ///
    /// - `admission`: the item's, to be held until it is counted.
    pub(crate) async fn accept(
        &self,
        item: AcceptItem,
        admission: Admission,
    ) -> Result<AcceptOutcome, NotAccepted> {
        let (answer, answered) = oneshot::channel();
        let events = item.events.len();
        if self.enqueue(item, admission, answer).is_none() {
            let why = RefusedBecause::Overloaded;
            self.metrics.accepting.refused(events, why);
            return Err(NotAccepted::Full);
        }
        // Dropped unanswered: the write panicked, and nobody knows how far it came.
        answered.await.unwrap_or(Err(NotAccepted::Unavailable))
    }

    /// `None` if there is no room.
    fn enqueue(
        &self,
        item: AcceptItem,
        admission: Admission,
        answer: oneshot::Sender<Result<AcceptOutcome, NotAccepted>>,
    ) -> Option<()> {
        let bytes = self.reserve(&item)?;
        let waiting = Waiting {
            item,
            bytes,
            admission,
            answer,
        };
        self.queue.try_send(waiting).ok()
    }

    fn reserve(&self, item: &AcceptItem) -> Option<Reserved> {
        let size = item.events.iter().map(|event| event.data.len()).sum();
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        let reserved = Reserved {
            size,
            all: Arc::clone(&self.bytes),
        };
        (before + size <= QUEUE_BYTES).then_some(reserved)
    }
}

/// A share of the memory that may wait here.
struct Reserved {
    size: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.all.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// What will be written next.
#[derive(Default)]
struct Batch {
    waiting: Vec<Waiting>,
    events: usize,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, waiting: Waiting) {
        self.events += waiting.item.events.len();
        self.bytes += waiting.bytes.size;
        self.waiting.push(waiting);
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes out what may be written now.
    ///
    /// - `in_order`: whether that may be what keeps order.
    fn take(&mut self, in_order: bool) -> Self {
        if in_order {
            return std::mem::take(self);
        }
        let (kept, free): (Vec<_>, Vec<_>) = std::mem::take(self)
            .waiting
            .into_iter()
            .partition(Waiting::is_ordered);
        kept.into_iter().for_each(|waiting| self.push(waiting));
        let mut batch = Self::default();
        free.into_iter().for_each(|waiting| batch.push(waiting));
        batch
    }

    /// Whether [`Self::take`] has something to give.
    fn has(&self, in_order: bool) -> bool {
        let free = |waiting: &Waiting| in_order || !waiting.is_ordered();
        self.waiting.iter().any(free)
    }

    fn is_full(&self) -> bool {
        self.events >= BATCH_EVENTS || self.bytes >= BATCH_BYTES
    }
}

async fn run(mut queue: mpsc::Receiver<Waiting>, flusher: Arc<Flusher>) {
    let mut batch = Batch::default();
    let mut flushes = JoinSet::new();
    let mut patience = Box::pin(tokio::time::sleep(LONGEST_WAIT));
    let mut open = true;
    // The commit under way of what keeps order.
    let mut in_order: Option<tokio::task::Id> = None;
    while open || !batch.is_empty() || !flushes.is_empty() {
        let has_room = flushes.len() < FLUSHES_AT_ONCE && batch.has(in_order.is_none());
        let mut due = !open || flushes.is_empty();
        if !(due && has_room) {
            tokio::select! {
                biased;
                Some(flushed) = flushes.join_next_with_id() => {
                    due = true;
                    let id = report(flushed);
                    in_order = in_order.filter(|under_way| *under_way != id);
                }
                () = &mut patience, if has_room => {
                    due = true;
                }
                received = queue.recv(), if open && !batch.is_full() => match received {
                    Some(waiting) => take(&mut batch, waiting, &mut patience),
                    None => open = false,
                }
            }
        }
        gather(&mut queue, &mut batch, &mut patience).await;
        let may_flush = flushes.len() < FLUSHES_AT_ONCE && batch.has(in_order.is_none());
        if may_flush && (due || flushes.is_empty() || batch.is_full()) {
            let batch = batch.take(in_order.is_none());
            let is_ordered = batch.waiting.iter().any(Waiting::is_ordered);
            let flush = flushes.spawn(Arc::clone(&flusher).flush(batch.waiting));
            if is_ordered {
                in_order = Some(flush.id());
            }
        }
    }
}

/// Takes in all that is there. Other handlers that are ready now get their turn first:
/// a burst then begins with one commit of many, not of one.
async fn gather(
    queue: &mut mpsc::Receiver<Waiting>,
    batch: &mut Batch,
    patience: &mut std::pin::Pin<Box<Sleep>>,
) {
    tokio::task::yield_now().await;
    while !batch.is_full()
        && let Ok(waiting) = queue.try_recv()
    {
        take(batch, waiting, patience);
    }
}

fn take(batch: &mut Batch, waiting: Waiting, patience: &mut std::pin::Pin<Box<Sleep>>) {
    if batch.is_empty() {
        patience
            .as_mut()
            .reset(tokio::time::Instant::now() + LONGEST_WAIT);
    }
    batch.push(waiting);
}

fn report(flushed: Result<(tokio::task::Id, ()), tokio::task::JoinError>) -> tokio::task::Id {
    match flushed {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn Error,
                "writing a batch of events broke off"
            );
            error.id()
        }
    }
}

impl Flusher {
    async fn flush(self: Arc<Self>, batch: Vec<Waiting>) {
        let (mut items, mut answers) = (Vec::with_capacity(batch.len()), Vec::new());
        for Waiting {
            item,
            bytes,
            admission,
            answer,
        } in batch
        {
            items.push(item);
            answers.push((answer, bytes, admission));
        }
        let outcomes = self.accept(items).await;
        for ((answer, _bytes, admission), outcome) in answers.into_iter().zip(outcomes) {
            // Before the answer: whoever hears it finds the books in order.
            drop(admission);
            // Whoever has gone away needs no answer.
            let _ = answer.send(outcome);
        }
    }

    /// Gives events their ids, writes them in one commit, and sends on what is accepted.
    /// One outcome per item, in order.
    pub(crate) async fn accept(
        &self,
        mut items: Vec<AcceptItem>,
    ) -> Vec<Result<AcceptOutcome, NotAccepted>> {
        // The queue's batches see to this themselves; what comes from elsewhere does not.
        let _turn = if items.iter().any(keeps_order) {
            Some(self.in_order.lock().await)
        } else {
            None
        };
        let now = self.membership.clock().now();
        // Before the ids are made, and the commit: from then on a read may find the rows.
        let ticket = self
            .hand_over
            .as_ref()
            .map(|hand_over| hand_over.ticket(EventId::floor(now)));
        if !self.number(&mut items) {
            let events = items.iter().map(|item| item.events.len()).sum();
            let why = RefusedBecause::LeaseLost;
            self.metrics.accepting.refused(events, why);
            return vec![Err(NotAccepted::LeaseLost); items.len()];
        }
        let outgoing: Vec<Vec<Outgoing>> = items.iter().map(|item| outgoing(item, now)).collect();
        let size = |item: &AcceptItem| (item.events.len(), item.emitted.is_some());
        let sizes: Vec<_> = items.iter().map(size).collect();
        let outcomes = self.write(items, now).await;
        for (outcome, (events, emitted)) in outcomes.iter().zip(sizes) {
            self.count(outcome, events, emitted);
        }
        self.count_for_quotas(&outcomes, &outgoing, now);
        self.send_on(&outcomes, outgoing);
        drop(ticket);
        outcomes
    }

    /// Gives every event its id; `false` if this node may make none.
    fn number(&self, items: &mut [AcceptItem]) -> bool {
        items
            .iter_mut()
            .flat_map(|item| &mut item.events)
            .all(|event| {
                let made = self.membership.next_id();
                made.map(|(id, _)| event.id = EventId::new(id)).is_some()
            })
    }

    /// One outcome per item, in order.
    async fn write(
        &self,
        items: Vec<AcceptItem>,
        now: DateTime<Utc>,
    ) -> Vec<Result<AcceptOutcome, NotAccepted>> {
        let count = items.len();
        let outcomes = self.accept.accept(items, now).await;
        let took = self.membership.clock().now() - now;
        let took = took.to_std().unwrap_or_default();
        self.metrics.database.ran(Statement::Accept, took);
        match outcomes {
            Ok(outcomes) => outcomes
                .into_iter()
                .map(|outcome| outcome.map_err(|error| not_accepted(&error)))
                .collect(),
            Err(error) => vec![Err(not_accepted(&error)); count],
        }
    }

    /// Counts what became of an item of so many events. One that is stale is matched
    /// afresh, and comes again.
    fn count(&self, outcome: &Result<AcceptOutcome, NotAccepted>, events: usize, emitted: bool) {
        let accepting = &self.metrics.accepting;
        let why = match outcome {
            Ok(AcceptOutcome::Accepted(accepted)) => {
                for one in accepted {
                    if one.duplicate {
                        accepting.duplicate();
                    } else if emitted {
                        accepting.picked_up(one.deliveries);
                    } else {
                        accepting.accepted(one.deliveries);
                    }
                }
                return;
            }
            Ok(AcceptOutcome::Replayed(replayed)) => {
                return replayed.iter().for_each(|_| accepting.duplicate());
            }
            Ok(AcceptOutcome::Stale | AcceptOutcome::Taken) => return,
            Ok(AcceptOutcome::IdReused(_) | AcceptOutcome::KeyReused) => RefusedBecause::Conflict,
            Err(NotAccepted::Full) => RefusedBecause::Overloaded,
            Err(NotAccepted::LeaseLost) => RefusedBecause::LeaseLost,
            Err(NotAccepted::Unavailable) => RefusedBecause::Unavailable,
            Err(NotAccepted::Refused) => RefusedBecause::Database,
        };
        accepting.refused(events, why);
    }

    /// Counts what is new on disk for its application.
    fn count_for_quotas(
        &self,
        outcomes: &[Result<AcceptOutcome, NotAccepted>],
        outgoing: &[Vec<Outgoing>],
        now: DateTime<Utc>,
    ) {
        for (outcome, events) in outcomes.iter().zip(outgoing) {
            let Ok(AcceptOutcome::Accepted(accepted)) = outcome else {
                continue;
            };
            let answered = accepted.iter().zip(events);
            for (accepted, event) in answered.filter(|(one, _)| !one.duplicate) {
                let Payload { app, data, .. } = &event.payload;
                self.quotas
                    .accepted(*app, now, accepted.deliveries, data.len());
            }
        }
    }

    /// Brings what was accepted to the owners of its lanes.
    fn send_on(
        &self,
        outcomes: &[Result<AcceptOutcome, NotAccepted>],
        outgoing: Vec<Vec<Outgoing>>,
    ) {
        let mut elsewhere = BTreeSet::new();
        for (outcome, events) in outcomes.iter().zip(outgoing) {
            let Ok(AcceptOutcome::Accepted(accepted)) = outcome else {
                continue;
            };
            for (accepted, event) in accepted.iter().zip(events) {
                if !accepted.duplicate {
                    self.send_on_one(event, &mut elsewhere);
                }
            }
        }
        for lane in elsewhere {
            self.hints.hint(Hint::Lane(lane));
        }
    }

    fn send_on_one(&self, event: Outgoing, elsewhere: &mut BTreeSet<Lane>) {
        let Outgoing {
            payload,
            mut keys,
            later,
        } = event;
        for (lane, subscription) in later {
            self.hints.hint(Hint::Due(lane, subscription));
        }
        let owner = self.hand_over.as_ref();
        keys.retain(|key| {
            let is_ours = owner.is_some_and(|hand_over| hand_over.owns(key.lane));
            if !is_ours {
                elsewhere.insert(key.lane);
            }
            is_ours
        });
        if let Some(hand_over) = owner
            && !keys.is_empty()
        {
            hand_over.offer(payload, keys);
        }
    }
}

/// An event that may have to be sent on when it is accepted.
struct Outgoing {
    payload: Payload,
    keys: Vec<OutboxKey>,
    /// Whose owners have to look for what is due later.
    later: Vec<(Lane, SubscriptionId)>,
}

fn outgoing(item: &AcceptItem, now: DateTime<Utc>) -> Vec<Outgoing> {
    let event = |event| outgoing_event(event, now);
    item.events.iter().map(event).collect()
}

fn outgoing_event(event: &NewEvent, now: DateTime<Utc>) -> Outgoing {
    let key = |delivery: &ringback_store::NewDelivery| OutboxKey {
        lane: delivery.lane,
        delivery: DeliveryId {
            event: event.id,
            subscription: delivery.subscription,
        },
        order: delivery.order,
    };
    // What waits from the beginning is not in the outbox.
    let sent = event
        .deliveries
        .iter()
        .filter(|delivery| event.waits_until(delivery, now).is_none());
    let has_time = event.deliver_at.is_some_and(|at| at > now);
    let later = event
        .deliveries
        .iter()
        .filter(|delivery| has_time && !delivery.held)
        .map(|delivery| (delivery.lane, delivery.subscription));
    Outgoing {
        payload: Payload {
            event: event.id,
            app: event.app,
            event_type: event.event_type.clone(),
            data: event.data.clone(),
            traceparent: event.traceparent.clone(),
        },
        keys: sent.map(key).collect(),
        later: later.collect(),
    }
}

fn not_accepted(error: &StoreError) -> NotAccepted {
    tracing::error!(error = error as &dyn Error, "events could not be stored");
    match error {
        StoreError::Unavailable(_) => NotAccepted::Unavailable,
        StoreError::Refused(_) | StoreError::Corrupt { .. } => NotAccepted::Refused,
    }
}

#[cfg(test)]
mod tests;
