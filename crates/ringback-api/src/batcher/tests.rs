use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::AtomicBool},
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use ringback_model::{self as model, AppId, NodeId, OrderKey, Quotas, Retention, SubscriptionId};
use ringback_store::{
    Accepted, AppRef, AppRoutes, Beat, Clock, EmittedId, EmittedPage, HandOverReceiver, Lanes,
    NewDelivery, NodeLease, RouteChanges, StoredBytes, Usage, handover,
};
use tokio::sync::{Notify, Semaphore, broadcast};

use super::*;

/// Accepts what it is let: one permit of `gate`, one batch.
struct Gated {
    gate: Semaphore,
    begun: Notify,
    /// Events per batch, as they came.
    batches: Mutex<Vec<usize>>,
    fails: AtomicBool,
    /// Called again and again: each item is a duplicate.
    duplicates: bool,
}

#[async_trait]
impl Accept for Gated {
    async fn accept(
        &self,
        items: Vec<AcceptItem>,
        _: DateTime<Utc>,
    ) -> Result<Vec<Result<AcceptOutcome, StoreError>>, StoreError> {
        let events = items.iter().map(|item| item.events.len()).sum();
        self.batches.lock().unwrap().push(events);
        self.begun.notify_one();
        self.gate.acquire().await.unwrap().forget();
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable(std::io::Error::other("down")));
        }
        let accepted = |event: &NewEvent| Accepted {
            id: event.id,
            deliveries: event.deliveries.len() as u32,
            duplicate: self.duplicates,
        };
        let outcome =
            |item: &AcceptItem| AcceptOutcome::Accepted(item.events.iter().map(accepted).collect());
        Ok(items.iter().map(outcome).map(Ok).collect())
    }

    async fn routes(&self, _: &AppRef) -> Result<Option<AppRoutes>, StoreError> {
        Ok(None)
    }

    async fn routes_since(&self, _: &AppRef, _: i64) -> Result<Option<RouteChanges>, StoreError> {
        Ok(None)
    }

    async fn emitted(
        &self,
        _: EmittedId,
        _: &[EmittedId],
        _: u32,
    ) -> Result<EmittedPage, StoreError> {
        unreachable!("the batcher reads nothing")
    }

    async fn discard_emitted(&self, _: &[EmittedId]) -> Result<Vec<EmittedId>, StoreError> {
        unreachable!("the batcher deletes nothing")
    }
}

/// Nobody has quotas.
#[async_trait]
impl Usage for Gated {
    async fn quotas(&self, _: &[AppId]) -> Result<Vec<(AppId, Quotas)>, StoreError> {
        Ok(Vec::new())
    }

    async fn pending_deliveries(&self, _: AppId, _: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn stored_bytes(&self, _: AppId, _: NaiveDate) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn add_stored_bytes(&self, _: &[StoredBytes]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn came_before(
        &self,
        _: &AcceptItem,
        _: DateTime<Utc>,
    ) -> Result<Option<AcceptOutcome>, StoreError> {
        Ok(None)
    }
}

struct Heard(Mutex<Vec<Hint>>);

impl Hints for Heard {
    fn hint(&self, hint: Hint) {
        self.0.lock().unwrap().push(hint);
    }

    fn listen(&self) -> broadcast::Receiver<Hint> {
        broadcast::channel(1).1
    }
}

/// Gives everybody node 7.
struct OneNode;

#[async_trait]
impl Lanes for OneNode {
    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(start())
    }

    async fn join(
        &self,
        _: &str,
        _: bool,
        _: DateTime<Utc>,
    ) -> Result<Option<NodeLease>, StoreError> {
        Ok(NodeId::new(7).map(|node| NodeLease { node, epoch: 1 }))
    }

    async fn beat(&self, _: &NodeLease, _: DateTime<Utc>) -> Result<Option<Beat>, StoreError> {
        Ok(None)
    }

    async fn take(
        &self,
        _: &NodeLease,
        _: &[Lane],
        _: DateTime<Utc>,
    ) -> Result<Vec<Lane>, StoreError> {
        Ok(Vec::new())
    }

    async fn release(&self, _: &NodeLease, _: &[Lane]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn leave(&self, _: &NodeLease, _: DateTime<Utc>) -> Result<(), StoreError> {
        Ok(())
    }
}

fn start() -> DateTime<Utc> {
    "2026-01-05T09:00:00Z".parse().unwrap()
}

struct Lab {
    batcher: Batcher,
    quotas: Keeper,
    gated: Arc<Gated>,
    heard: Arc<Heard>,
    clock: Clock,
    dispatcher: HandOverReceiver,
}

async fn lab(duplicates: bool) -> Lab {
    let gated = Arc::new(Gated {
        gate: Semaphore::new(0),
        begun: Notify::new(),
        batches: Mutex::default(),
        fails: AtomicBool::new(false),
        duplicates,
    });
    let heard = Arc::new(Heard(Mutex::default()));
    let clock = Clock::manual(start());
    let membership = Membership::join(&OneNode, "test", true, clock.clone())
        .await
        .unwrap();
    let (hand_over, dispatcher) = handover(16);
    let quotas = Keeper::start(
        Arc::clone(&gated) as _,
        clock.clone(),
        Arc::default(),
        Quotas::default(),
        Retention::default(),
    );
    let batcher = Batcher::start(Flusher {
        accept: Arc::clone(&gated) as _,
        hints: Arc::clone(&heard) as _,
        membership: Arc::new(membership),
        hand_over: Some(hand_over),
        quotas: quotas.clone(),
        metrics: Arc::default(),
        in_order: Default::default(),
    });
    Lab {
        batcher,
        quotas,
        gated,
        heard,
        clock,
        dispatcher,
    }
}

async fn accept(
    batcher: &Batcher,
    quotas: &Keeper,
    item: AcceptItem,
) -> Result<AcceptOutcome, NotAccepted> {
    let admission = quotas.admit(&item, true).await.unwrap();
    batcher.accept(item, admission).await
}

impl Lab {
    fn batches(&self) -> Vec<usize> {
        self.gated.batches.lock().unwrap().clone()
    }

    /// Hands an item in, and goes on.
    fn send(
        &self,
        item: AcceptItem,
    ) -> tokio::task::JoinHandle<Result<AcceptOutcome, NotAccepted>> {
        let (batcher, quotas) = (self.batcher.clone(), self.quotas.clone());
        tokio::spawn(async move { accept(&batcher, &quotas, item).await })
    }

    async fn accept(&self, item: AcceptItem) -> Result<AcceptOutcome, NotAccepted> {
        accept(&self.batcher, &self.quotas, item).await
    }

    /// Waits for the next batch to reach the store.
    async fn begun(&self) {
        self.gated.begun.notified().await;
    }
}

fn item(events: usize, deliveries: &[(i64, bool)]) -> AcceptItem {
    item_of(events, deliveries, 2)
}

fn item_of(events: usize, deliveries: &[(i64, bool)], bytes: usize) -> AcceptItem {
    let delivery = |&(id, held): &(i64, bool)| NewDelivery {
        subscription: SubscriptionId::new(id),
        lane: Lane::of(SubscriptionId::new(id)),
        order: None,
        held,
    };
    let event = NewEvent {
        id: EventId::MIN,
        app: AppId::new(1),
        app_version: 1,
        event_type: "order.paid".parse().unwrap(),
        data: Bytes::from(vec![b' '; bytes]),
        labels: BTreeMap::new(),
        traceparent: None,
        ordering_key: None,
        deliver_at: None,
        external: None,
        deliveries: deliveries.iter().map(delivery).collect(),
    };
    AcceptItem {
        events: vec![event; events],
        idempotency: None,
        emitted: None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_one_commit_is_under_way_goes_into_the_next() {
    let lab = lab(false).await;
    let first = lab.send(item(1, &[]));
    lab.begun().await; // at once: nothing was being written
    let others: Vec<_> = (0..9).map(|_| lab.send(item(1, &[]))).collect();
    tokio::task::yield_now().await;
    lab.gated.gate.add_permits(1);
    first.await.unwrap().unwrap();
    lab.begun().await;
    lab.gated.gate.add_permits(1);
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_eq!(lab.batches(), [1, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_commit_holds_others_up_for_2_ms_and_at_most_two_run() {
    let lab = lab(false).await;
    let started = tokio::time::Instant::now();
    let mut sent = vec![lab.send(item(1, &[]))];
    lab.begun().await;
    sent.push(lab.send(item(1, &[])));
    lab.begun().await;
    assert!(started.elapsed() >= LONGEST_WAIT);
    sent.push(lab.send(item(1, &[])));
    tokio::time::sleep(10 * LONGEST_WAIT).await;
    assert_eq!(lab.batches(), [1, 1]);
    lab.gated.gate.add_permits(3);
    for one in sent {
        one.await.unwrap().unwrap();
    }
    assert_eq!(lab.batches(), [1, 1, 1]);
}

/// The commit that began first would otherwise end last, and its events be read after
/// later ones.
#[tokio::test(start_paused = true)]
async fn what_keeps_order_is_written_one_batch_after_the_other_and_delays_nobody_else() {
    let lab = lab(false).await;
    let mut ordered = item(1, &[(1, false)]);
    ordered.events[0].deliveries[0].order = OrderKey::of(model::Ordering::Fifo, None);
    let first = lab.send(ordered.clone());
    lab.begun().await;
    let (second, other) = (lab.send(ordered.clone()), lab.send(item(3, &[(1, false)])));
    lab.begun().await;
    tokio::time::sleep(10 * LONGEST_WAIT).await;
    assert_eq!(lab.batches(), [1, 3]); // not those that keep order
    lab.gated.gate.add_permits(1);
    first.await.unwrap().unwrap();
    lab.begun().await;
    lab.gated.gate.add_permits(2);
    second.await.unwrap().unwrap();
    other.await.unwrap().unwrap();
    assert_eq!(lab.batches(), [1, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_waits_for_no_time() {
    let lab = lab(false).await;
    let started = tokio::time::Instant::now();
    let first = lab.send(item(1, &[]));
    lab.begun().await;
    let second = lab.send(item(BATCH_EVENTS, &[]));
    lab.begun().await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    lab.gated.gate.add_permits(2);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn every_event_gets_an_id_and_its_own_answer() {
    let lab = lab(false).await;
    lab.gated.gate.add_permits(9);
    let outcome = lab.accept(item(2, &[(1, false), (2, true)])).await.unwrap();
    let AcceptOutcome::Accepted(accepted) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(accepted[0].id < accepted[1].id);
    assert_eq!(accepted[0].id.time(), start());
    assert_eq!(accepted[0].deliveries, 2);
}

#[tokio::test]
async fn what_this_process_sends_is_handed_over_and_other_lanes_get_one_hint() {
    let mut lab = lab(false).await;
    let [ours, held, theirs] = [1, 2, 3].map(|id| Lane::of(SubscriptionId::new(id)));
    assert!(ours != theirs && held != theirs);
    lab.dispatcher.owned.set(ours, true);
    lab.gated.gate.add_permits(9);
    lab.accept(item(2, &[(1, false), (2, true), (3, false)]))
        .await
        .unwrap();
    for _ in 0..2 {
        let (payload, keys) = lab.dispatcher.try_recv().unwrap();
        let delivery = DeliveryId {
            event: payload.event,
            subscription: SubscriptionId::new(1),
        };
        assert_eq!(
            keys,
            [OutboxKey {
                lane: ours,
                delivery,
                order: None,
            }]
        );
    }
    assert!(lab.dispatcher.try_recv().is_none());
    assert_eq!(*lab.heard.0.lock().unwrap(), [Hint::Lane(theirs)]);
    assert!(lab.dispatcher.transit.passed(lab.dispatcher.transit.mark()));
}

#[tokio::test]
async fn until_it_is_handed_over_an_accept_counts_as_under_way() {
    let lab = lab(false).await;
    let sent = lab.send(item(1, &[(1, false)]));
    lab.begun().await;
    let mark = lab.dispatcher.transit.mark();
    assert!(!lab.dispatcher.transit.passed(mark));
    lab.gated.gate.add_permits(1);
    sent.await.unwrap().unwrap();
    assert!(lab.dispatcher.transit.passed(mark));
}

#[tokio::test]
async fn duplicates_are_not_sent_on() {
    let mut lab = lab(true).await;
    lab.dispatcher
        .owned
        .set(Lane::of(SubscriptionId::new(1)), true);
    lab.gated.gate.add_permits(9);
    lab.accept(item(1, &[(1, false), (3, false)]))
        .await
        .unwrap();
    assert!(lab.dispatcher.try_recv().is_none());
    assert!(lab.heard.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_caller_that_goes_away_loses_nothing() {
    let mut lab = lab(false).await;
    lab.dispatcher
        .owned
        .set(Lane::of(SubscriptionId::new(1)), true);
    let abandoned = lab.send(item(1, &[(1, false)]));
    lab.begun().await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    lab.gated.gate.add_permits(1);
    assert!(lab.dispatcher.recv().await.is_some());
}

#[tokio::test]
async fn what_fails_is_told_to_each_caller_and_the_next_is_tried() {
    let lab = lab(false).await;
    lab.gated.gate.add_permits(9);
    lab.gated.fails.store(true, Ordering::Relaxed);
    let refused = lab.accept(item(1, &[])).await;
    assert_eq!(refused, Err(NotAccepted::Unavailable));
    lab.gated.fails.store(false, Ordering::Relaxed);
    lab.accept(item(1, &[])).await.unwrap();
}

#[tokio::test]
async fn without_its_lease_a_node_accepts_nothing() {
    let lab = lab(false).await;
    lab.clock.advance(NodeLease::LENGTH);
    assert_eq!(lab.accept(item(1, &[])).await, Err(NotAccepted::LeaseLost));
    assert!(lab.batches().is_empty());
}

#[tokio::test]
async fn more_than_may_wait_is_refused() {
    let lab = lab(false).await;
    let half = QUEUE_BYTES / 2;
    let first = lab.send(item_of(1, &[], half));
    lab.begun().await;
    let second = lab.send(item_of(1, &[], half));
    lab.begun().await;
    assert_eq!(lab.accept(item_of(1, &[], 1)).await, Err(NotAccepted::Full));
    lab.gated.gate.add_permits(3);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    lab.accept(item_of(1, &[], 1)).await.unwrap();
}
