//! One delivery in each status.

use chrono::TimeDelta;
use ringback_model::{AppId, DeadReason, DeliveryId, DeliveryStatus};
use ringback_store::{Next, Source, Within};

use super::scene::Scene;
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

/// One delivery in each status, of one application.
pub(super) struct Cast {
    pub(super) app: AppId,
    pub(super) pending: DeliveryId,
    pub(super) retrying: DeliveryId,
    pub(super) delivered: DeliveryId,
    pub(super) dead: DeliveryId,
    pub(super) cancelled: DeliveryId,
    /// Of the same event as `cancelled`, at another subscription, which is paused.
    pub(super) held: DeliveryId,
}

impl Cast {
    pub(super) async fn new(store: &TestStore) -> Self {
        let scene = Scene::new(store).await;
        let settle = async |status_code: u16, next: Next| -> DeliveryId {
            let event = scene.event(store).await;
            let attempt = Some(seed::attempt(1, status_code, START));
            scene
                .settle(
                    store,
                    scene.settlement(event, Source::Outbox, attempt, next),
                )
                .await;
            scene.delivery(event)
        };
        let delivered = settle(204, Next::Delivered).await;
        let dead = settle(404, Next::Dead(DeadReason::OutOfAttempts)).await;
        let due_at = START + TimeDelta::hours(1);
        let retrying = settle(503, Next::Retry { due_at }).await;
        let pending = scene.delivery(scene.event(store).await);

        let paused = seed::subscription(store, scene.app, START).await;
        store
            .pause_subscription(paused.id, ALL, START)
            .await
            .unwrap();
        let last = scene.event(store).await;
        let (cancelled, held) = (scene.delivery(last), seed::delivery(last, &paused));
        store.cancel(cancelled, ALL, START).await.unwrap();
        Self {
            app: scene.app,
            pending,
            retrying,
            delivered,
            dead,
            cancelled,
            held,
        }
    }

    pub(super) fn deliveries(&self) -> [(DeliveryId, DeliveryStatus); 6] {
        [
            (self.pending, DeliveryStatus::Pending),
            (self.retrying, DeliveryStatus::Retrying),
            (self.delivered, DeliveryStatus::Delivered),
            (self.dead, DeliveryStatus::Dead),
            (self.cancelled, DeliveryStatus::Cancelled),
            (self.held, DeliveryStatus::Held),
        ]
    }
}
