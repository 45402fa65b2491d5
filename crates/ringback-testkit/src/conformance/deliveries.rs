//! Deliveries, looked up: what a status is read off.

use chrono::TimeDelta;
use ringback_model::{DeliveryId, DeliveryStatus, EventId, SubscriptionId};
use ringback_store::Within;

use super::{
    cast::Cast,
    scene::{Scene, look},
};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn an_unknown_delivery_is_none(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let unknown = [
        DeliveryId {
            event: EventId::new(7),
            subscription: scene.subscription.id,
        },
        DeliveryId {
            event,
            subscription: SubscriptionId::new(7),
        },
    ];
    for id in unknown {
        assert!(store.delivery(id, ALL).await.unwrap().is_none(), "{id}");
        assert!(store.attempts(id, ALL).await.unwrap().is_none(), "{id}");
    }
}

pub async fn a_status_is_read_off_where_the_row_is(store: &TestStore) {
    let cast = Cast::new(store).await;
    for (id, status) in cast.deliveries() {
        let delivery = look(store, id).await;
        assert_eq!(delivery.status, status);
        assert_eq!((delivery.id, delivery.app), (id, cast.app));
        let settled = matches!(
            status,
            DeliveryStatus::Delivered | DeliveryStatus::Dead | DeliveryStatus::Cancelled
        );
        assert_eq!(delivery.settled_at.is_some(), settled, "{status}");
        if settled || status == DeliveryStatus::Held {
            assert_eq!(delivery.next_attempt_at, None, "{status}");
        }
    }
}

/// A delivery that came to its time or room before its first attempt.
pub async fn a_parked_delivery_is_pending(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let key = seed::outbox(store).await[0];
    let due_at = START + TimeDelta::minutes(2);
    store.park(&scene.lease, &[key], due_at).await.unwrap();
    let parked = look(store, scene.delivery(event)).await;
    assert_eq!(
        (parked.status, parked.attempts),
        (DeliveryStatus::Pending, 0)
    );
    assert_eq!(parked.next_attempt_at, Some(due_at));
}

pub async fn what_a_paused_subscription_has_in_the_outbox_is_held(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    store
        .pause_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();
    let status = look(store, scene.delivery(event)).await.status;
    // Until its owner parks it, it may be on its way.
    assert!(
        matches!(status, DeliveryStatus::Pending | DeliveryStatus::Held),
        "{status}"
    );
    store
        .park(&scene.lease, &seed::outbox(store).await, START)
        .await
        .unwrap();
    assert_eq!(
        look(store, scene.delivery(event)).await.status,
        DeliveryStatus::Held
    );
}
