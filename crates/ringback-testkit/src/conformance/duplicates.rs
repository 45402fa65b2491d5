//! The same event or request again: a producer's own ids and `Idempotency-Key`s.

use chrono::TimeDelta;
use ringback_store::{AcceptItem, AcceptOutcome, Accepted, BegunRequest, NewEvent, Within};

use super::scene::{Scene, accept_alone, twenty_at_once};
use crate::{
    TestStore,
    seed::{self, START},
};

pub async fn the_same_id_and_body_again_is_a_duplicate(store: &TestStore) {
    let scene = Scene::new(store).await;
    let first = named(store, &scene, "order-1042", 1).await;
    seed::accept(store, first.clone(), START).await;
    seed::subscription(store, scene.app, START).await;

    let later = START + TimeDelta::hours(1);
    let again = named(store, &scene, "order-1042", 1).await;
    let accepted = seed::accept(store, again.clone(), later).await;

    // The first answer, though two subscriptions would get it now.
    assert_eq!(
        accepted,
        Accepted {
            id: first.id,
            deliveries: 1,
            duplicate: true
        }
    );
    assert!(
        store
            .event(again.id, Within::Everything)
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

pub async fn the_same_id_with_another_body_is_refused(store: &TestStore) {
    let scene = Scene::new(store).await;
    let first = named(store, &scene, "order-1042", 1).await;
    seed::accept(store, first, START).await;

    let unnamed = seed::new_event(store, scene.app, "order.paid", START).await;
    let other = named(store, &scene, "order-1042", 2).await;
    let batch = AcceptItem {
        events: vec![unnamed, other],
        idempotency: None,
        emitted: None,
    };
    let outcome = seed::accept_item(store, batch, START).await;

    assert_eq!(outcome, AcceptOutcome::IdReused(1));
    assert_eq!(
        (
            store.count("events", "").await,
            store.count("outbox", "").await
        ),
        (1, 1)
    );
}

pub async fn a_refused_batch_keeps_no_id(store: &TestStore) {
    let scene = Scene::new(store).await;
    let taken = named(store, &scene, "taken", 1).await;
    seed::accept(store, taken, START).await;

    let fresh = named(store, &scene, "fresh", 1).await;
    let reused = named(store, &scene, "taken", 2).await;
    let batch = AcceptItem {
        events: vec![fresh, reused],
        idempotency: None,
        emitted: None,
    };
    assert_eq!(
        seed::accept_item(store, batch, START).await,
        AcceptOutcome::IdReused(1)
    );

    let fresh = named(store, &scene, "fresh", 7).await;
    assert!(!seed::accept(store, fresh, START).await.duplicate);
}

pub async fn the_same_id_in_one_batch_is_one_event(store: &TestStore) {
    let scene = Scene::new(store).await;
    let first = named(store, &scene, "order-1042", 1).await;
    let events = vec![first.clone(), seed::copy(store, &first)];
    let outcome = seed::accept_item(
        store,
        AcceptItem {
            events,
            idempotency: None,
            emitted: None,
        },
        START,
    )
    .await;
    let accepted = Accepted {
        id: first.id,
        deliveries: 1,
        duplicate: false,
    };
    let duplicate = Accepted {
        duplicate: true,
        ..accepted
    };
    assert_eq!(outcome, AcceptOutcome::Accepted(vec![accepted, duplicate]));
    assert_eq!(
        (
            store.count("events", "").await,
            store.count("outbox", "").await
        ),
        (1, 1)
    );

    let one = named(store, &scene, "order-1043", 1).await;
    let other = named(store, &scene, "order-1043", 2).await;
    let batch = AcceptItem {
        events: vec![one, other],
        idempotency: None,
        emitted: None,
    };
    assert_eq!(
        seed::accept_item(store, batch, START).await,
        AcceptOutcome::IdReused(1)
    );
    assert_eq!(store.count("events", "").await, 1);
}

pub async fn the_same_id_of_two_callers_in_one_commit_is_one_event(store: &TestStore) {
    let scene = Scene::new(store).await;
    let first = named(store, &scene, "order-1042", 1).await;
    let (second, mut third) = (seed::copy(store, &first), seed::copy(store, &first));
    third.external = Some(seed::external("order-1042", 2));
    let items = [&first, &second, &third]
        .map(|event| seed::item(event.clone()))
        .to_vec();

    let outcomes = store.accept(items, START).await.unwrap();
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();

    let accepted = Accepted {
        id: first.id,
        deliveries: 1,
        duplicate: false,
    };
    let duplicate = Accepted {
        duplicate: true,
        ..accepted
    };
    let expected = [
        AcceptOutcome::Accepted(vec![accepted]),
        AcceptOutcome::Accepted(vec![duplicate]),
        AcceptOutcome::IdReused(0),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(
        (
            store.count("events", "").await,
            store.count("outbox", "").await
        ),
        (1, 1)
    );
}

pub async fn twenty_callers_with_one_id_make_one_event(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = named(store, &scene, "order-1042", 1).await;
    let outcomes = twenty_at_once(|_| accept_alone(store, seed::copy(store, &event))).await;
    let accepted: Vec<Accepted> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            AcceptOutcome::Accepted(accepted) => accepted[0],
            outcome => panic!("{outcome:?}"),
        })
        .collect();
    assert_eq!(accepted.iter().filter(|one| !one.duplicate).count(), 1);
    assert!(
        accepted
            .iter()
            .all(|one| (one.id, one.deliveries) == (accepted[0].id, 1))
    );
    assert_eq!(
        (
            store.count("events", "").await,
            store.count("outbox", "").await
        ),
        (1, 1)
    );
}

pub async fn the_same_id_in_two_applications_is_two_events(store: &TestStore) {
    for slug in ["billing", "shipping"] {
        let app = seed::app(store, slug, START).await;
        let mut event = seed::new_event(store, app, "order.paid", START).await;
        event.external = Some(seed::external("order-1042", 1));
        assert!(!seed::accept(store, event, START).await.duplicate, "{slug}");
    }
}

pub async fn a_request_with_its_key_again_is_answered_as_before(store: &TestStore) {
    let scene = Scene::new(store).await;
    let request = keyed(store, &scene, 1, 1).await;
    let AcceptOutcome::Accepted(first) = seed::accept_item(store, request.clone(), START).await
    else {
        panic!("a new key is accepted");
    };
    let later = START + TimeDelta::hours(1);
    let again = keyed(store, &scene, 1, 1).await;
    let outcome = seed::accept_item(store, again, later).await;
    assert_eq!(outcome, AcceptOutcome::Replayed(first));
    assert_eq!(store.count("events", "").await, 2);
}

pub async fn a_key_with_another_body_is_refused(store: &TestStore) {
    let scene = Scene::new(store).await;
    let request = keyed(store, &scene, 1, 1).await;
    seed::accept_item(store, request, START).await;
    let other = keyed(store, &scene, 1, 2).await;
    assert_eq!(
        seed::accept_item(store, other, START).await,
        AcceptOutcome::KeyReused
    );
    let key = seed::idempotency(1, 1, 3);
    let begun = store.begin_request(key, START).await.unwrap();
    assert!(matches!(begun, BegunRequest::Reused), "{begun:?}");
    assert_eq!(store.count("events", "").await, 2);
}

pub async fn callers_with_two_api_keys_never_meet(store: &TestStore) {
    let scene = Scene::new(store).await;
    for api_key in [1, 2] {
        let mut request = keyed(store, &scene, 1, api_key).await;
        request.idempotency = Some(seed::idempotency(i64::from(api_key), 1, api_key));
        let outcome = seed::accept_item(store, request, START).await;
        assert!(matches!(outcome, AcceptOutcome::Accepted(_)), "{outcome:?}");
    }
    assert_eq!(store.count("events", "").await, 4);
}

pub async fn twenty_requests_with_one_key_are_done_once(store: &TestStore) {
    let scene = Scene::new(store).await;
    let request = keyed(store, &scene, 1, 1).await;
    let outcomes = twenty_at_once(|_| {
        let mut again = request.clone();
        again
            .events
            .iter_mut()
            .for_each(|event| *event = seed::copy(store, event));
        let store = store.shared();
        async move {
            store
                .accept(vec![again], START)
                .await
                .unwrap()
                .remove(0)
                .unwrap()
        }
    })
    .await;

    let answers: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            AcceptOutcome::Accepted(answer) | AcceptOutcome::Replayed(answer) => answer,
            outcome => panic!("{outcome:?}"),
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let done = |outcome: &&AcceptOutcome| matches!(outcome, AcceptOutcome::Accepted(_));
    assert_eq!(outcomes.iter().filter(done).count(), 1);
    assert_eq!(
        (
            store.count("events", "").await,
            store.count("outbox", "").await
        ),
        (2, 2)
    );
}

pub async fn a_request_that_wrote_nothing_leaves_its_key_free(store: &TestStore) {
    let scene = Scene::new(store).await;
    let mut request = keyed(store, &scene, 1, 1).await;
    request.events[1].app_version -= 1;
    let outcome = seed::accept_item(store, request, START).await;
    assert_eq!(outcome, AcceptOutcome::Stale);

    let request = keyed(store, &scene, 1, 1).await;
    let outcome = seed::accept_item(store, request, START).await;
    assert!(matches!(outcome, AcceptOutcome::Accepted(_)), "{outcome:?}");
}

pub async fn a_keyed_request_remembers_that_it_was_a_duplicate(store: &TestStore) {
    let scene = Scene::new(store).await;
    let first = named(store, &scene, "order-1042", 1).await;
    seed::accept(store, first.clone(), START).await;
    let keyed = AcceptItem {
        events: vec![seed::copy(store, &first)],
        idempotency: Some(seed::idempotency(1, 1, 1)),
        emitted: None,
    };
    let answer = vec![Accepted {
        id: first.id,
        deliveries: 1,
        duplicate: true,
    }];
    let outcome = seed::accept_item(store, keyed.clone(), START).await;
    assert_eq!(outcome, AcceptOutcome::Accepted(answer.clone()));
    let outcome = seed::accept_item(store, keyed, START).await;
    assert_eq!(outcome, AcceptOutcome::Replayed(answer));
}

async fn named(store: &TestStore, scene: &Scene, id: &str, body: u8) -> NewEvent {
    let mut event = seed::new_event(store, scene.app, "order.paid", START).await;
    event.external = Some(seed::external(id, body));
    event
}

/// A batch of two with an `Idempotency-Key`.
async fn keyed(store: &TestStore, scene: &Scene, key: u8, body: u8) -> AcceptItem {
    let event = seed::new_event(store, scene.app, "order.paid", START).await;
    let events = vec![seed::copy(store, &event), event];
    AcceptItem {
        events,
        idempotency: Some(seed::idempotency(1, key, body)),
        emitted: None,
    }
}
