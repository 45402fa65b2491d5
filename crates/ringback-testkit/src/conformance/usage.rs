//! What applications use, and the quotas they have.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use ringback_model::{AppId, Lane, Quotas};
use ringback_store::{
    AcceptItem, AcceptOutcome, AppChange, AppRef, Changed, NewEvent, Next, Source, StoredBytes,
    Within,
};

use super::scene::{Scene, at_once, twenty_at_once};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

fn quotas(events_per_s: f64) -> Quotas {
    Quotas {
        events_per_s: Some(events_per_s),
        pending_deliveries: Some(7),
        stored_bytes: Some(Quotas::HIGHEST),
    }
}

async fn change(store: &TestStore, app: AppId, change: AppChange) {
    let changed = store.update_app(app, change, None, START).await.unwrap();
    assert!(matches!(changed, Changed::Done(_)), "{changed:?}");
}

pub async fn quotas_are_kept_and_replaced_as_a_whole(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let other = seed::app(store, "shipping", START).await;
    let set = |quotas| AppChange {
        quotas: Some(quotas),
        ..AppChange::default()
    };
    change(store, app, set(quotas(0.5))).await;
    let rename = AppChange {
        name: Some("x".to_owned()),
        ..AppChange::default()
    };
    change(store, app, rename).await;
    let read = store.app(&AppRef::Id(app)).await.unwrap().unwrap();
    assert_eq!(read.quotas, quotas(0.5));
    let mut of_all = store.quotas(&[other, app, AppId::new(7)]).await.unwrap();
    of_all.sort_by_key(|(app, _)| *app);
    assert_eq!(of_all, [(app, quotas(0.5)), (other, Quotas::default())]);

    change(store, app, set(Quotas::default())).await;
    store.delete_app(other, START).await.unwrap();
    let left = store.quotas(&[app, other]).await.unwrap();
    assert_eq!(left, [(app, Quotas::default())]);
}

async fn pending(store: &TestStore, app: AppId) -> u64 {
    store.pending_deliveries(app, 1_000).await.unwrap()
}

pub async fn what_is_not_settled_is_pending_wherever_it_waits(store: &TestStore) {
    let scene = Scene::new(store).await;
    assert_eq!(pending(store, scene.app).await, 0);
    let [fresh, retried] = [scene.event(store).await, scene.event(store).await];
    let next = Next::Retry {
        due_at: START + TimeDelta::minutes(5),
    };
    let attempt = Some(seed::attempt(1, 503, START));
    scene
        .settle(
            store,
            scene.settlement(retried, Source::Outbox, attempt, next),
        )
        .await;
    assert_eq!(pending(store, scene.app).await, 2);
    store
        .pause_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();
    scene.event(store).await; // held
    assert_eq!(pending(store, scene.app).await, 3);

    let attempt = Some(seed::attempt(1, 204, START));
    let delivered = scene.settlement(fresh, Source::Outbox, attempt, Next::Delivered);
    scene.settle(store, delivered).await;
    assert_eq!(pending(store, scene.app).await, 2);
    store
        .delete_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();
    assert_eq!(pending(store, scene.app).await, 0);
}

pub async fn what_others_have_in_the_same_lane_is_not_counted(store: &TestStore) {
    let [app, other] = [
        seed::app(store, "billing", START).await,
        seed::app(store, "shipping", START).await,
    ];
    for (app, events) in [(app, 1), (other, 3)] {
        seed::subscription_in(store, app, Lane::new(7), START).await;
        for _ in 0..events {
            seed::event(store, app, START).await;
        }
    }
    seed::subscription_in(store, app, Lane::new(255), START).await;
    seed::event(store, app, START).await;
    assert_eq!(pending(store, app).await, 3);
    assert_eq!(pending(store, other).await, 3);
    assert_eq!(pending(store, AppId::new(7)).await, 0);
}

pub async fn no_more_than_asked_for_is_counted_of_what_waits(store: &TestStore) {
    let scene = Scene::new(store).await;
    store
        .pause_subscription(scene.subscription.id, ALL, START)
        .await
        .unwrap();
    for _ in 0..4 {
        scene.event(store).await;
    }
    for (up_to, expected) in [(3, 3), (4, 4), (5, 4), (u64::MAX, 4)] {
        let counted = store.pending_deliveries(scene.app, up_to).await.unwrap();
        assert_eq!(counted, expected, "{up_to}");
    }
}

fn day(offset: u64) -> NaiveDate {
    START.date_naive() + Days::new(offset)
}

fn bytes(app: AppId, offset: u64, bytes: u64) -> StoredBytes {
    StoredBytes {
        app,
        day: day(offset),
        bytes,
    }
}

pub async fn bytes_are_summed_over_the_days_that_are_kept(store: &TestStore) {
    let [app, other] = [AppId::new(1), AppId::new(2)];
    store.add_stored_bytes(&[]).await.unwrap();
    let first = [bytes(app, 0, 1), bytes(app, 1, 10), bytes(other, 0, 5)];
    store.add_stored_bytes(&first).await.unwrap();
    let second = [bytes(app, 1, 100), bytes(app, 2, 1_000)];
    store.add_stored_bytes(&second).await.unwrap();
    for (since, expected) in [(0, 1_111), (1, 1_110), (2, 1_000), (3, 0)] {
        let sum = store.stored_bytes(app, day(since)).await.unwrap();
        assert_eq!(sum, expected, "{since}");
    }
    assert_eq!(store.stored_bytes(other, day(0)).await.unwrap(), 5);
}

pub async fn twenty_that_add_bytes_at_once_lose_none(store: &TestStore) {
    let done = twenty_at_once(|_| {
        let store = store.shared();
        let added: Vec<_> = (1..=20).map(|app| bytes(AppId::new(app), 0, 3)).collect();
        async move { store.add_stored_bytes(&added).await }
    })
    .await;
    done.into_iter().for_each(|result| result.unwrap());
    for app in [1, 20] {
        let sum = store.stored_bytes(AppId::new(app), day(0)).await.unwrap();
        assert_eq!(sum, 60);
    }
}

pub async fn days_that_no_retention_reaches_are_forgotten(store: &TestStore) {
    let app = AppId::new(1);
    let added = [bytes(app, 0, 1), bytes(app, 1, 10)];
    store.add_stored_bytes(&added).await.unwrap();
    let last = START + TimeDelta::days(400);
    for (now, kept) in [(last, 2), (last + TimeDelta::days(1), 1)] {
        let tended = at_once(2, |_| {
            let store = store.shared();
            async move { store.tend(now).await }
        });
        tended.await.into_iter().for_each(|result| result.unwrap());
        assert_eq!(store.count("app_usage", "").await, kept, "{now}");
    }
}

/// What an item would be answered, and that asking wrote nothing.
async fn asked(store: &TestStore, item: &AcceptItem, now: DateTime<Utc>) -> Option<AcceptOutcome> {
    let before = store.count("idempotency", "").await;
    let outcome = store.came_before(item, now).await.unwrap();
    assert_eq!(store.count("idempotency", "").await, before);
    outcome
}

pub async fn what_came_before_as_a_whole_is_known(store: &TestStore) {
    let scene = Scene::new(store).await;
    let fresh = seed::new_event(store, scene.app, "order.paid", START).await;
    let with_id = |id: &str, body| NewEvent {
        external: Some(seed::external(id, body)),
        ..seed::copy(store, &fresh)
    };
    let first = with_id("a", 1);
    let keyed = |events, key, body| AcceptItem {
        events,
        idempotency: Some(seed::idempotency(1, key, body)),
        emitted: None,
    };
    assert_eq!(asked(store, &seed::item(first.clone()), START).await, None);
    let accepted = seed::accept(store, first.clone(), START).await;
    seed::accept_item(store, keyed(vec![seed::copy(store, &fresh)], 1, 1), START).await;

    let again = asked(store, &seed::item(with_id("a", 1)), START).await;
    let Some(AcceptOutcome::Accepted(answered)) = again else {
        panic!("{again:?}");
    };
    assert_eq!((answered[0].id, answered[0].duplicate), (accepted.id, true));
    let with_new_key = asked(store, &keyed(vec![with_id("a", 1)], 2, 2), START).await;
    assert_eq!(with_new_key, Some(AcceptOutcome::Accepted(answered)));

    let other_body = asked(store, &seed::item(with_id("a", 2)), START).await;
    assert_eq!(other_body, Some(AcceptOutcome::IdReused(0)));
    let same_request = keyed(vec![seed::copy(store, &fresh)], 1, 1);
    let replayed = asked(store, &same_request, START).await;
    assert!(
        matches!(replayed, Some(AcceptOutcome::Replayed(_))),
        "{replayed:?}"
    );
    let reused = asked(store, &keyed(vec![fresh.clone()], 1, 2), START).await;
    assert_eq!(reused, Some(AcceptOutcome::KeyReused));

    // Something in it is new.
    let half = AcceptItem {
        events: vec![with_id("a", 1), with_id("b", 1)],
        idempotency: None,
        emitted: None,
    };
    assert_eq!(asked(store, &half, START).await, None);
    assert_eq!(asked(store, &seed::item(fresh), START).await, None);
}
