//! Accepting events: what a `202` stands on.

use bytes::Bytes;
use chrono::TimeDelta;
use ringback_model::{DeliveryStatus, EventId};
use ringback_store::{AcceptItem, AcceptOutcome, Accepted, AppRef, Within};

use super::scene::{Scene, accept_alone, look, twenty_at_once};
use crate::{
    TestStore,
    seed::{self, START},
};

pub async fn an_accepted_event_is_kept_with_its_deliveries(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let subscriptions = [
        seed::subscription(store, app, START).await,
        seed::subscription(store, app, START).await,
    ];
    let event = seed::new_event(store, app, "order.paid", START).await;

    let outcome = seed::accept_item(store, seed::item(event.clone()), START).await;

    let accepted = Accepted {
        id: event.id,
        deliveries: 2,
        duplicate: false,
    };
    assert_eq!(outcome, AcceptOutcome::Accepted(vec![accepted]));
    let mut waiting: Vec<_> = seed::outbox(store)
        .await
        .iter()
        .map(|key| key.delivery)
        .collect();
    waiting.sort();
    assert_eq!(
        waiting,
        subscriptions.map(|subscription| seed::delivery(event.id, &subscription))
    );
    let kept = store
        .event(event.id, Within::Everything)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (kept.app, kept.event_type, kept.data),
        (app, event.event_type, event.data)
    );
    assert_eq!(store.count("ringback.outbox", "").await, 2);
    assert_eq!(store.count("retries", "").await, 0);
}

pub async fn an_event_that_nobody_wants_is_kept_all_the_same(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let event = seed::new_event(store, app, "order.paid", START).await;
    assert_eq!(
        seed::accept(store, event.clone(), START).await.deliveries,
        0
    );
    assert!(
        store
            .event(event.id, Within::Everything)
            .await
            .unwrap()
            .is_some()
    );
    assert!(seed::outbox(store).await.is_empty());
}

pub async fn a_batch_is_answered_in_its_order(store: &TestStore) {
    let scene = Scene::new(store).await;
    let mut events = Vec::new();
    for event_type in ["order.paid", "order.sent", "order.paid"] {
        events.push(seed::new_event(store, scene.app, event_type, START).await);
    }
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    let item = AcceptItem {
        events,
        idempotency: None,
        emitted: None,
    };
    let AcceptOutcome::Accepted(accepted) = seed::accept_item(store, item, START).await else {
        panic!("a good batch is accepted");
    };
    assert_eq!(accepted.iter().map(|one| one.id).collect::<Vec<_>>(), ids);
    assert!(
        accepted
            .iter()
            .all(|one| one.deliveries == 1 && !one.duplicate)
    );
    assert_eq!(seed::outbox(store).await.len(), 3);
}

pub async fn the_bytes_of_data_are_kept(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let long = vec![b' '; 256 * 1024];
    let cases: [&[u8]; 6] = [
        br#"{"total": 1.10,"big":1e400,"total":2}"#,
        br#"{ "b" : 1 , "a" : "\u00e9\/\u0000" }"#,
        "\"\u{e9}\u{1f600}\"\n".as_bytes(),
        b"\"\0\xff\"", // no JSON, but a database of bytes keeps it
        b"null",
        &long,
    ];
    for data in cases {
        let mut event = seed::new_event(store, app, "order.paid", START).await;
        event.data = Bytes::copy_from_slice(data);
        let id = seed::accept(store, event, START).await.id;
        let kept = store.event(id, Within::Everything).await.unwrap().unwrap();
        assert_eq!(kept.data, data);
        assert_eq!(store.payloads(&[id]).await.unwrap()[0].data, data);
    }
}

pub async fn what_came_with_an_event_is_kept(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let mut event = seed::new_event(store, app, "order.paid", START).await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    event.traceparent = Some(traceparent.to_owned());
    event.external = Some(seed::external("order-1042-paid", 1));
    event.labels = [("order", "1042"), ("région", "Île\"'")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();

    seed::accept(store, event.clone(), START).await;

    let kept = store
        .event(event.id, Within::Everything)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.labels, event.labels);
    assert_eq!(kept.external_id.as_deref(), Some("order-1042-paid"));
    let payload = store.payloads(&[event.id]).await.unwrap().remove(0);
    assert_eq!(payload.traceparent.as_deref(), Some(traceparent));
    assert_eq!((payload.event, payload.app), (event.id, app));
    assert_eq!(payload.event_type, event.event_type);
}

pub async fn items_are_answered_in_their_order(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = seed::new_event(store, scene.app, "order.paid", START).await;
    let mut events: Vec<_> = (0..600).map(|_| seed::copy(store, &event)).collect();
    events
        .iter_mut()
        .skip(1)
        .step_by(3)
        .for_each(|event| event.app_version -= 1);
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();

    let items = events.into_iter().map(seed::item).collect();
    let outcomes = store.accept(items, START).await.unwrap();

    assert_eq!(outcomes.len(), 600);
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let accepted = Accepted {
            id: ids[index],
            deliveries: 1,
            duplicate: false,
        };
        let expected = match index % 3 {
            1 => AcceptOutcome::Stale,
            _ => AcceptOutcome::Accepted(vec![accepted]),
        };
        assert_eq!(outcome.unwrap(), expected, "item {index}");
    }
    assert_eq!(store.count("outbox", "").await, 400);
    assert_eq!(store.count("events", "").await, 400);
}

pub async fn many_callers_may_bring_the_same_new_type(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = seed::new_event(store, scene.app, "never.seen", START).await;
    let outcomes = twenty_at_once(|_| accept_alone(store, seed::copy(store, &event))).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, AcceptOutcome::Accepted(_)))
    );
    assert_eq!(store.count("events", "").await, 20);
    assert_eq!(store.count("event_types", "name = 'never.seen'").await, 1);
}

pub async fn an_event_matched_before_a_change_is_stale(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = seed::new_event(store, scene.app, "order.paid", START).await;
    seed::subscription(store, scene.app, START).await;

    let outcome = seed::accept_item(store, seed::item(event.clone()), START).await;
    assert_eq!(outcome, AcceptOutcome::Stale);
    assert!(
        store
            .event(event.id, Within::Everything)
            .await
            .unwrap()
            .is_none()
    );
    assert!(seed::outbox(store).await.is_empty());

    // Matched anew it misses nobody.
    let event = seed::new_event(store, scene.app, "order.paid", START).await;
    assert_eq!(seed::accept(store, event, START).await.deliveries, 2);
}

pub async fn an_event_of_a_deleted_application_is_stale(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = seed::new_event(store, scene.app, "order.paid", START).await;
    assert!(store.delete_app(scene.app, START).await.unwrap());
    let outcome = seed::accept_item(store, seed::item(event), START).await;
    assert_eq!(outcome, AcceptOutcome::Stale);
    assert_eq!(store.count("events", "").await, 0);
    assert!(
        store
            .routes(&AppRef::Id(scene.app))
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn a_batch_is_written_whole_or_not_at_all(store: &TestStore) {
    let scene = Scene::new(store).await;
    let other = seed::app(store, "other", START).await;
    let good = seed::new_event(store, scene.app, "order.paid", START).await;
    let mut stale = seed::new_event(store, other, "order.paid", START).await;
    stale.app_version -= 1;

    let batch = |events: Vec<_>| AcceptItem {
        events,
        idempotency: None,
        emitted: None,
    };
    let outcomes = store
        .accept(
            vec![
                batch(vec![good.clone(), stale]),
                seed::item(seed::copy(store, &good)),
            ],
            START,
        )
        .await
        .unwrap();

    assert_eq!(*outcomes[0].as_ref().unwrap(), AcceptOutcome::Stale);
    assert!(matches!(outcomes[1], Ok(AcceptOutcome::Accepted(_))));
    assert!(
        store
            .event(good.id, Within::Everything)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        (
            store.count("events", "").await,
            store.count("outbox", "").await
        ),
        (1, 1)
    );
}

pub async fn a_held_delivery_waits_in_the_retries(store: &TestStore) {
    let scene = Scene::new(store).await;
    let active = seed::subscription(store, scene.app, START).await;
    let paused = store
        .pause_subscription(scene.subscription.id, Within::Everything, START)
        .await;
    let paused = paused.unwrap().unwrap();

    let later = START + TimeDelta::seconds(5);
    let event = seed::event(store, scene.app, later).await;

    let outbox: Vec<_> = seed::outbox(store)
        .await
        .iter()
        .map(|key| key.delivery)
        .collect();
    assert_eq!(outbox, [seed::delivery(event, &active)]);
    let waiting = store
        .due(&[(paused.lane, paused.id)], later, 10)
        .await
        .unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        (waiting[0].delivery, waiting[0].due_at),
        (scene.delivery(event), later)
    );
    assert_eq!((waiting[0].attempts_made, waiting[0].round_start), (0, 0));
    assert_eq!(
        look(store, scene.delivery(event)).await.status,
        DeliveryStatus::Held
    );
}

/// An id that exists already is never made again; one whose text has a zero is more
/// than PostgreSQL can hold.
pub async fn an_item_that_the_database_refuses_fails_alone(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = seed::new_event(store, scene.app, "order.paid", START).await;
    seed::accept(store, event.clone(), START).await;
    let mut odd = seed::copy(store, &event);
    odd.traceparent = Some("\0".to_owned());
    let good = [(); 4].map(|()| seed::copy(store, &event));
    let [a, b, c, d] = good.clone().map(seed::item);

    let items = vec![a, seed::item(event), b, seed::item(odd.clone()), c, d];
    let outcomes = store.accept(items, START).await.unwrap();

    let accepted: Vec<bool> = outcomes
        .iter()
        .map(|one| matches!(one, Ok(AcceptOutcome::Accepted(_))))
        .collect();
    assert_eq!(
        (accepted[0], accepted[2], accepted[4], accepted[5]),
        (true, true, true, true)
    );
    assert!(
        outcomes[1].is_err(),
        "another event under the same id was taken"
    );
    let odd_is_there = store
        .event(odd.id, Within::Everything)
        .await
        .unwrap()
        .is_some();
    assert_eq!(accepted[3], odd_is_there);
    for event in good {
        assert!(
            store
                .event(event.id, Within::Everything)
                .await
                .unwrap()
                .is_some()
        );
    }
    let expected = 5 + i64::from(odd_is_there);
    assert_eq!(store.count("events", "").await, expected);
    assert_eq!(store.count("outbox", "").await, expected);
}

pub async fn nothing_to_accept_is_no_error(store: &TestStore) {
    assert!(store.accept(Vec::new(), START).await.unwrap().is_empty());
}
