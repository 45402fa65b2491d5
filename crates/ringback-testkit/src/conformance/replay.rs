//! Sending again: a new round, from whatever state.

use chrono::TimeDelta;
use ringback_model::{DeadReason, DeliveryId, DeliveryStatus, EventId};
use ringback_store::{Delivery, Next, ReplayOutcome, Source, Within};

use super::scene::{Scene, look, twenty_at_once};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn a_settled_delivery_is_due_at_once(store: &TestStore) {
    let scene = Scene::new(store).await;
    let now = START + TimeDelta::hours(1);
    for next in [
        Next::Delivered,
        Next::Dead(DeadReason::OutOfAttempts),
        Next::Cancelled,
    ] {
        let event = scene.event(store).await;
        let code = if next == Next::Delivered { 204 } else { 503 };
        let attempt = Some(seed::attempt(1, code, START));
        scene
            .settle(
                store,
                scene.settlement(event, Source::Outbox, attempt, next),
            )
            .await;

        let replayed = due(store.replay(scene.delivery(event), ALL, now).await.unwrap());

        assert_eq!(
            replayed,
            look(store, scene.delivery(event)).await,
            "{next:?}"
        );
        assert!(is_live(replayed.status), "{next:?}: {}", replayed.status);
        assert_eq!(
            (replayed.attempts, replayed.next_attempt_at),
            (1, Some(now))
        );
        assert_eq!(waiting(store, &scene).await, [(event, 1, 1)]);

        let attempt = Some(seed::attempt(2, 200, now));
        let source = Source::Retries {
            attempts_made: 1,
            round_start: 1,
        };
        scene
            .settle(
                store,
                scene.settlement(event, source, attempt, Next::Delivered),
            )
            .await;
        let delivery = look(store, scene.delivery(event)).await;
        assert_eq!(
            (delivery.status, delivery.attempts),
            (DeliveryStatus::Delivered, 2)
        );
        assert_eq!(delivery.dead_reason, None);
    }
}

pub async fn one_that_was_cancelled_before_it_was_sent_is_sent(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    store
        .cancel(scene.delivery(event), ALL, START)
        .await
        .unwrap();
    due(store
        .replay(scene.delivery(event), ALL, START)
        .await
        .unwrap());
    assert_eq!(waiting(store, &scene).await, [(event, 0, 0)]);
}

pub async fn one_that_waits_for_a_retry_is_due_at_once_in_its_round(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let later = Next::Retry {
        due_at: START + TimeDelta::hours(5),
    };
    let attempt = Some(seed::attempt(1, 503, START));
    scene
        .settle(
            store,
            scene.settlement(event, Source::Outbox, attempt, later),
        )
        .await;
    let now = START + TimeDelta::minutes(1);
    let replayed = due(store.replay(scene.delivery(event), ALL, now).await.unwrap());
    assert_eq!(replayed.status, DeliveryStatus::Retrying);
    assert_eq!(replayed.next_attempt_at, Some(now));
    let rows = waiting(store, &scene).await;
    assert_eq!((rows.len(), rows[0].0, rows[0].1), (1, event, 1));
}

pub async fn one_that_is_pending_has_nothing_to_do(store: &TestStore) {
    let scene = Scene::new(store).await;
    let [fresh, replayed] = [scene.event(store).await, scene.event(store).await];
    let attempt = Some(seed::attempt(1, 204, START));
    scene
        .settle(
            store,
            scene.settlement(replayed, Source::Outbox, attempt, Next::Delivered),
        )
        .await;
    due(store
        .replay(scene.delivery(replayed), ALL, START)
        .await
        .unwrap());

    for event in [fresh, replayed] {
        let outcome = store
            .replay(scene.delivery(event), ALL, START)
            .await
            .unwrap();
        let ReplayOutcome::AlreadyPending(delivery) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(delivery, look(store, scene.delivery(event)).await);
    }
    assert_eq!(
        (
            store.count("outbox", "").await,
            store.count("retries", "").await
        ),
        (1, 1)
    );
}

pub async fn twenty_replays_at_once_are_one(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let attempt = Some(seed::attempt(1, 204, START));
    scene
        .settle(
            store,
            scene.settlement(event, Source::Outbox, attempt, Next::Delivered),
        )
        .await;
    let id = scene.delivery(event);
    let outcomes = twenty_at_once(|_| {
        let store = store.shared();
        async move { store.replay(id, ALL, START).await.unwrap() }
    })
    .await;
    let due = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, ReplayOutcome::Due(_)))
        .count();
    let pending = |outcome: &&ReplayOutcome| matches!(outcome, ReplayOutcome::AlreadyPending(_));
    assert_eq!((due, outcomes.iter().filter(pending).count()), (1, 19));
    assert_eq!(waiting(store, &scene).await, [(event, 1, 1)]);
    assert_eq!(store.attempts(id, ALL).await.unwrap().unwrap().len(), 1);
}

pub async fn nothing_is_replayed_while_its_subscription_cannot_get_it(store: &TestStore) {
    let scene = Scene::new(store).await;
    let [waiting, done] = [scene.event(store).await, scene.event(store).await];
    let attempt = Some(seed::attempt(1, 204, START));
    scene
        .settle(
            store,
            scene.settlement(done, Source::Outbox, attempt, Next::Delivered),
        )
        .await;
    let (id, delivery) = (scene.subscription.id, scene.delivery(done));

    store.pause_subscription(id, ALL, START).await.unwrap();
    let outcome = store.replay(delivery, ALL, START).await.unwrap();
    assert!(matches!(outcome, ReplayOutcome::Held), "{outcome:?}");
    store
        .park(&scene.lease, &seed::outbox(store).await, START)
        .await
        .unwrap();
    let outcome = store
        .replay(scene.delivery(waiting), ALL, START)
        .await
        .unwrap();
    assert!(matches!(outcome, ReplayOutcome::Held), "{outcome:?}");

    store
        .disable_subscription(id, "410 Gone", START)
        .await
        .unwrap();
    for event in [waiting, done] {
        let outcome = store
            .replay(scene.delivery(event), ALL, START)
            .await
            .unwrap();
        assert!(
            matches!(outcome, ReplayOutcome::SubscriptionDisabled),
            "{outcome:?}"
        );
    }

    store.resume_subscription(id, ALL, START).await.unwrap();
    due(store
        .replay(scene.delivery(waiting), ALL, START)
        .await
        .unwrap());

    store.delete_subscription(id, ALL, START).await.unwrap();
    let outcome = store.replay(delivery, ALL, START).await.unwrap();
    assert!(
        matches!(outcome, ReplayOutcome::SubscriptionGone),
        "{outcome:?}"
    );
    assert_eq!(
        look(store, delivery).await.status,
        DeliveryStatus::Delivered
    );
    assert_eq!(store.count("retries", "").await, 0);
}

pub async fn what_is_no_longer_kept_is_not_replayed(store: &TestStore) {
    let scene = Scene::new(store).await;
    let event = scene.event(store).await;
    let attempt = Some(seed::attempt(1, 204, START));
    scene
        .settle(
            store,
            scene.settlement(event, Source::Outbox, attempt, Next::Delivered),
        )
        .await;
    store
        .execute(&format!("delete from events where id = {}", event.get()))
        .await;
    let outcome = store
        .replay(scene.delivery(event), ALL, START)
        .await
        .unwrap();
    assert!(
        matches!(outcome, ReplayOutcome::PayloadExpired),
        "{outcome:?}"
    );
    assert_eq!(store.count("retries", "").await, 0);
}

pub async fn an_unknown_delivery_is_not_replayed(store: &TestStore) {
    let scene = Scene::new(store).await;
    let unknown = DeliveryId {
        event: EventId::new(7),
        subscription: scene.subscription.id,
    };
    let outcome = store.replay(unknown, ALL, START).await.unwrap();
    assert!(matches!(outcome, ReplayOutcome::NotFound), "{outcome:?}");
}

fn due(outcome: ReplayOutcome) -> Delivery {
    match outcome {
        ReplayOutcome::Due(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

fn is_live(status: DeliveryStatus) -> bool {
    matches!(status, DeliveryStatus::Pending | DeliveryStatus::Retrying)
}

/// What waits: event, attempts made, start of the round.
async fn waiting(store: &TestStore, scene: &Scene) -> Vec<(EventId, u16, u16)> {
    let key = (scene.subscription.lane, scene.subscription.id);
    let rows = store
        .due(&[key], START + TimeDelta::days(1), 100)
        .await
        .unwrap();
    rows.iter()
        .map(|row| (row.delivery.event, row.attempts_made, row.round_start))
        .collect()
}
