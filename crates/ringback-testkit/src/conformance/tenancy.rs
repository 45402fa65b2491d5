//! What belongs to another application does not exist, whatever is asked of it.

use ringback_model::{DeliveryStatus, EventId};
use ringback_store::{
    CancelOutcome, Changed, DeliveryFilter, EventFilter, Next, ReplayOutcome, Sealed, Source,
    SubscriptionChange, Within,
};

use super::scene::{Scene, look};
use crate::{
    TestStore,
    seed::{self, START},
};

pub async fn a_foreign_subscription_does_not_exist(store: &TestStore) {
    let scene = Scene::new(store).await;
    let stranger = Within::App(seed::app(store, "stranger", START).await);
    let id = scene.subscription.id;
    let change = SubscriptionChange {
        timeout_ms: Some(1_000),
        ..Default::default()
    };

    assert!(store.subscription(id, stranger).await.unwrap().is_none());
    let update = store
        .update_subscription(id, stranger, change, None, START)
        .await
        .unwrap();
    assert!(matches!(update, Changed::NotFound), "{update:?}");
    assert!(
        store
            .pause_subscription(id, stranger, START)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .resume_subscription(id, stranger, START)
            .await
            .unwrap()
            .is_none()
    );
    assert!(store.secrets(id, stranger, START).await.unwrap().is_none());
    let secret = Sealed::from_bytes(vec![1]);
    assert!(
        !store
            .rotate_secret(id, stranger, secret, START, START)
            .await
            .unwrap()
    );
    assert!(
        !store
            .delete_subscription(id, stranger, START)
            .await
            .unwrap()
    );

    let owner = Within::App(scene.app);
    let untouched = store.subscription(id, owner).await.unwrap();
    assert_eq!(untouched, Some(scene.subscription));
    assert_eq!(
        store
            .secrets(id, owner, START)
            .await
            .unwrap()
            .unwrap()
            .len(),
        1
    );
}

pub async fn a_foreign_event_does_not_exist(store: &TestStore) {
    let scene = Scene::new(store).await;
    let stranger = seed::app(store, "stranger", START).await;
    let event = scene.event(store).await;
    assert!(
        store
            .event(event, Within::App(stranger))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .event(event, Within::App(scene.app))
            .await
            .unwrap()
            .is_some()
    );
    let filter = EventFilter {
        within: Within::App(stranger),
        app: None,
        event_type: None,
        label: None,
        since: None,
        until: None,
    };
    let last = EventId::MAX;
    let page = store.events(&filter, last, 10).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], None));
}

pub async fn a_foreign_delivery_does_not_exist(store: &TestStore) {
    let scene = Scene::new(store).await;
    let stranger = Within::App(seed::app(store, "stranger", START).await);
    let owner = Within::App(scene.app);
    let [waiting, done] = [scene.event(store).await, scene.event(store).await];
    let attempt = Some(seed::attempt(1, 204, START));
    scene
        .settle(
            store,
            scene.settlement(done, Source::Outbox, attempt, Next::Delivered),
        )
        .await;

    for event in [waiting, done] {
        let id = scene.delivery(event);
        let before = look(store, id).await;
        assert!(store.delivery(id, stranger).await.unwrap().is_none());
        assert!(store.attempts(id, stranger).await.unwrap().is_none());
        let replay = store.replay(id, stranger, START).await.unwrap();
        assert!(matches!(replay, ReplayOutcome::NotFound), "{replay:?}");
        let cancel = store.cancel(id, stranger, START).await.unwrap();
        assert!(matches!(cancel, CancelOutcome::NotFound), "{cancel:?}");
        assert_eq!(store.delivery(id, owner).await.unwrap(), Some(before));
        assert!(store.attempts(id, owner).await.unwrap().is_some());
    }
    let filter = DeliveryFilter {
        within: stranger,
        app: None,
        subscription: Some(scene.subscription.id),
        event: Some(waiting),
        status: Some(DeliveryStatus::Pending),
        event_type: None,
        label: None,
        status_code: None,
        error: None,
        since: None,
        until: None,
    };
    let page = store
        .deliveries(&filter, scene.delivery(EventId::MAX), 10)
        .await;
    assert!(page.unwrap().items.is_empty());
    let owners = DeliveryFilter {
        within: owner,
        ..filter
    };
    let page = store
        .deliveries(&owners, scene.delivery(EventId::MAX), 10)
        .await;
    assert_eq!(page.unwrap().items.len(), 1);
}

/// Its own things, by a key that is bound to it.
pub async fn an_owner_may_do_everything_within(store: &TestStore) {
    let scene = Scene::new(store).await;
    let owner = Within::App(scene.app);
    let id = scene.subscription.id;
    let [cancelled, replayed] = [scene.event(store).await, scene.event(store).await];
    let attempt = Some(seed::attempt(1, 204, START));
    let done = scene.settlement(replayed, Source::Outbox, attempt, Next::Delivered);
    scene.settle(store, done).await;
    let replay = store
        .replay(scene.delivery(replayed), owner, START)
        .await
        .unwrap();
    assert!(matches!(replay, ReplayOutcome::Due(_)), "{replay:?}");
    let cancel = store
        .cancel(scene.delivery(cancelled), owner, START)
        .await
        .unwrap();
    assert!(matches!(cancel, CancelOutcome::Cancelled(_)), "{cancel:?}");

    let change = SubscriptionChange {
        timeout_ms: Some(1_000),
        ..Default::default()
    };
    let update = store
        .update_subscription(id, owner, change, None, START)
        .await
        .unwrap();
    assert!(matches!(update, Changed::Done(_)), "{update:?}");
    assert!(
        store
            .pause_subscription(id, owner, START)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        store
            .resume_subscription(id, owner, START)
            .await
            .unwrap()
            .is_some()
    );
    let secret = Sealed::from_bytes(vec![1]);
    assert!(
        store
            .rotate_secret(id, owner, secret, START, START)
            .await
            .unwrap()
    );
    assert!(store.delete_subscription(id, owner, START).await.unwrap());
}
