//! What most cases begin with.

use std::future::Future;

use ringback_model::{AppId, DeliveryId, EventId};
use ringback_store::{
    AcceptItem, AcceptOutcome, AttemptRecord, Delivery, NewEvent, Next, NodeLease, Settlement,
    Source, Subscription, Within,
};

use crate::{TestStore, seed};

/// One application with one subscription, and a node that owns all lanes.
pub(super) struct Scene {
    pub(super) app: AppId,
    pub(super) subscription: Subscription,
    pub(super) lease: NodeLease,
}

impl Scene {
    pub(super) async fn new(store: &TestStore) -> Self {
        let app = seed::app(store, "billing", seed::START).await;
        let subscription = seed::subscription(store, app, seed::START).await;
        let lease = seed::owner(store, "node-1", seed::START).await;
        Self {
            app,
            subscription,
            lease,
        }
    }

    /// An event on its way to the subscription.
    pub(super) async fn event(&self, store: &TestStore) -> EventId {
        seed::event(store, self.app, seed::START).await
    }

    pub(super) fn delivery(&self, event: EventId) -> DeliveryId {
        seed::delivery(event, &self.subscription)
    }

    pub(super) fn settlement(
        &self,
        event: EventId,
        source: Source,
        attempt: Option<AttemptRecord>,
        next: Next,
    ) -> Settlement {
        seed::settlement(event, &self.subscription, source, attempt, next)
    }

    /// Settles in the name of the owner, at the start.
    pub(super) async fn settle(&self, store: &TestStore, settlement: Settlement) {
        store
            .settle(&self.lease, &[settlement], seed::START)
            .await
            .unwrap();
    }
}

/// The delivery, as any operator sees it.
pub(super) async fn look(store: &TestStore, id: DeliveryId) -> Delivery {
    store
        .delivery(id, Within::Everything)
        .await
        .unwrap()
        .unwrap()
}

/// Accepts one event in a call of its own, on a task of its own.
pub(super) fn accept_alone(
    store: &TestStore,
    event: NewEvent,
) -> impl Future<Output = AcceptOutcome> + Send + 'static {
    let store = store.shared();
    async move {
        let item = AcceptItem {
            events: vec![event],
            idempotency: None,
            emitted: None,
        };
        store
            .accept(vec![item], seed::START)
            .await
            .unwrap()
            .remove(0)
            .unwrap()
    }
}

/// Runs twenty of the same at the same time.
pub(super) async fn twenty_at_once<F, T>(make: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    at_once(20, make).await
}

/// Runs so many of the same at the same time, on as many tasks.
pub(super) async fn at_once<F, T>(count: usize, make: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|index| tokio::spawn(make(index))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}
