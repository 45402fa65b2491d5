//! Days end; what still waits, and what is dead, outlives them.

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{DeadReason, DeliveryId, DeliveryStatus, EventId, SubscriptionId};
use ringback_store::{
    CancelOutcome, Delivery, DeliveryFilter, Event, EventFilter, Next, ReplayOutcome, Source,
    Within,
};

use super::scene::{Scene, look};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;
/// A cursor before all deliveries.
const TOP: DeliveryId = DeliveryId {
    event: EventId::MAX,
    subscription: SubscriptionId::MAX,
};
/// The day after the thirtieth.
const ENDED: TimeDelta = TimeDelta::days(31);
/// A first attempt that failed, with the next in a year.
const LATER: TimeDelta = TimeDelta::days(365);

pub async fn what_arrived_is_gone_when_its_day_ends(store: &TestStore) {
    let scene = Scene::new(store).await;
    let delivered = arrived(store, &scene, START).await;
    let cancelled = scene.delivery(labelled(store, &scene).await);
    store.cancel(cancelled, ALL, START).await.unwrap();
    let next_day = arrived(store, &scene, START + TimeDelta::hours(24)).await;

    // To the end of its day, and thirty more.
    let end = seed::instant("2026-02-05T00:00:00Z");
    store
        .end_days(end - TimeDelta::milliseconds(1))
        .await
        .unwrap();
    assert_eq!(
        look(store, delivered).await.status,
        DeliveryStatus::Delivered
    );
    store.end_days(end).await.unwrap();

    for gone in [delivered, cancelled] {
        assert!(store.delivery(gone, ALL).await.unwrap().is_none());
        assert!(store.attempts(gone, ALL).await.unwrap().is_none());
        assert!(store.event(gone.event, ALL).await.unwrap().is_none());
        assert!(store.payloads(&[gone.event]).await.unwrap().is_empty());
        let outcome = store.replay(gone, ALL, end).await.unwrap();
        assert!(matches!(outcome, ReplayOutcome::NotFound), "{outcome:?}");
    }
    assert_eq!(deliveries(store, |_| {}).await, [next_day]);
    assert_eq!(events(store, None).await, [next_day.event]);
    assert_eq!(events(store, Some("order")).await, []);
    for (table, rows) in [
        ("events", 1),
        ("event_labels", 0),
        ("deliveries", 1),
        ("attempts", 1),
    ] {
        assert_eq!(store.count(table, "").await, rows, "{table}");
    }
}

pub async fn what_waits_outlives_its_day_and_is_still_delivered(store: &TestStore) {
    let scene = Scene::new(store).await;
    let unsent = scene.delivery(labelled(store, &scene).await);
    let retrying = waits(store, &scene, START).await;
    let bystander = arrived(store, &scene, START).await;
    let (now, before) = (START + ENDED, look(store, retrying).await);
    store.end_days(now).await.unwrap();

    assert!(store.delivery(bystander, ALL).await.unwrap().is_none());
    assert_eq!(look(store, retrying).await, before);
    let pending = look(store, unsent).await;
    assert_eq!(
        (pending.status, pending.attempts),
        (DeliveryStatus::Pending, 0)
    );
    assert_eq!(
        store
            .event(unsent.event, ALL)
            .await
            .unwrap()
            .unwrap()
            .labels["order"],
        "1042"
    );
    assert_eq!(attempts(store, retrying).await, [1]);
    let payloads = store.payloads(&[unsent.event, retrying.event]).await;
    assert_eq!(payloads.unwrap().len(), 2);

    let key = (scene.subscription.lane, scene.subscription.id);
    let due = store.due(&[key], now + LATER, 10).await.unwrap();
    assert_eq!(due.len(), 2, "{due:?}");
    for row in due {
        let source = Source::Retries {
            attempts_made: row.attempts_made,
            round_start: row.round_start,
        };
        let number = row.attempts_made + 1;
        let done = scene.settlement(
            row.delivery.event,
            source,
            Some(seed::attempt(number, 204, now)),
            Next::Delivered,
        );
        // Twice: the same result may come again.
        for _ in 0..2 {
            let done = std::slice::from_ref(&done);
            store.settle(&scene.lease, done, now).await.unwrap();
        }
        let delivered = look(store, row.delivery).await;
        let (status, made) = (delivered.status, delivered.attempts);
        assert_eq!((status, made), (DeliveryStatus::Delivered, number));
    }
    assert_eq!(attempts(store, retrying).await, [1, 2]);

    store.end_days(now).await.unwrap();
    nothing_is_left(store, &[unsent, retrying]).await;
}

pub async fn what_failed_again_after_its_day_waits_on_and_dies_as_always(store: &TestStore) {
    let scene = Scene::new(store).await;
    let id = waits(store, &scene, START).await;
    let now = START + TimeDelta::days(40);
    store.end_days(now).await.unwrap();

    let due_at = now + TimeDelta::hours(1);
    let again = scene.settlement(
        id.event,
        from_retries(1, 0),
        Some(seed::attempt(2, 503, now)),
        Next::Retry { due_at },
    );
    store.settle(&scene.lease, &[again], now).await.unwrap();
    let delivery = look(store, id).await;
    assert_eq!(
        (delivery.status, delivery.next_attempt_at),
        (DeliveryStatus::Retrying, Some(due_at))
    );
    let last = scene.settlement(
        id.event,
        from_retries(2, 0),
        Some(seed::attempt(3, 500, due_at)),
        Next::Dead(DeadReason::OutOfAttempts),
    );
    store.settle(&scene.lease, &[last], due_at).await.unwrap();
    assert_eq!(look(store, id).await.status, DeliveryStatus::Dead);
    assert_eq!(attempts(store, id).await, [1, 2, 3]);

    // From when it died, since that was later.
    let end = due_at + TimeDelta::days(30);
    store
        .end_days(end - TimeDelta::milliseconds(1))
        .await
        .unwrap();
    assert_eq!(look(store, id).await.status, DeliveryStatus::Dead);
    store.end_days(end).await.unwrap();
    nothing_is_left(store, &[id]).await;
}

pub async fn a_dead_letter_outlives_its_day_and_can_be_replayed(store: &TestStore) {
    let scene = Scene::new(store).await;
    let id = scene.delivery(labelled(store, &scene).await);
    died(store, &scene, id.event).await;
    let bystander = arrived(store, &scene, START).await;
    let (now, before) = (START + ENDED, look(store, id).await);
    store.end_days(now).await.unwrap();
    let fresh = arrived(store, &scene, now).await;

    assert!(store.delivery(bystander, ALL).await.unwrap().is_none());
    assert_eq!(look(store, id).await, before);
    assert_eq!(attempts(store, id).await, [1, 2]);
    assert_eq!(deliveries(store, |_| {}).await, [fresh, id]);
    for change in [
        (|filter| filter.event_type = Some("order.*".parse().unwrap())) as fn(&mut DeliveryFilter),
        |filter| filter.until = Some(START + TimeDelta::hours(1)),
        |filter| filter.status = Some(DeliveryStatus::Dead),
        |filter| filter.label = Some(("order".to_owned(), "1042".to_owned())),
    ] {
        let found = deliveries(store, change).await;
        assert!(found.contains(&id), "{found:?}");
    }
    let of_event = deliveries(store, |filter| filter.event = Some(id.event)).await;
    assert_eq!(of_event, [id]);
    for narrow in [true, false] {
        let found = deliveries(store, |filter| {
            filter.subscription = Some(id.subscription);
            filter.error = narrow.then_some(ringback_model::AttemptError::HttpStatus);
        })
        .await;
        assert_eq!(found.last(), Some(&id));
    }
    assert_eq!(events(store, None).await, [fresh.event, id.event]);
    assert_eq!(events(store, Some("order")).await, [id.event]);

    let outcome = store.replay(id, ALL, now).await.unwrap();
    assert!(matches!(outcome, ReplayOutcome::Due(_)), "{outcome:?}");
    let outcome = store.replay(id, ALL, now).await.unwrap();
    assert!(
        matches!(outcome, ReplayOutcome::AlreadyPending(_)),
        "{outcome:?}"
    );
    store.end_days(now).await.unwrap();
    assert!(look(store, id).await.settled_at.is_none());
    let done = scene.settlement(
        id.event,
        from_retries(2, 2),
        Some(seed::attempt(3, 204, now)),
        Next::Delivered,
    );
    store.settle(&scene.lease, &[done], now).await.unwrap();
    assert_eq!(attempts(store, id).await, [1, 2, 3]);
    assert_eq!(look(store, id).await.status, DeliveryStatus::Delivered);

    store.end_days(now).await.unwrap();
    assert!(store.delivery(id, ALL).await.unwrap().is_none());
    assert_eq!(events(store, None).await, [fresh.event]);
    assert_eq!(events(store, Some("order")).await, []);
}

pub async fn a_dead_letter_goes_after_as_long_again(store: &TestStore) {
    let scene = Scene::new(store).await;
    let id = scene.delivery(labelled(store, &scene).await);
    died(store, &scene, id.event).await;
    let end = seed::instant("2026-03-07T00:00:00Z");
    for days in [31, 45, 60] {
        store.end_days(START + TimeDelta::days(days)).await.unwrap();
        assert_eq!(look(store, id).await.status, DeliveryStatus::Dead);
    }
    let last_hour = end - TimeDelta::minutes(59);
    let outcome = store.replay(id, ALL, last_hour).await.unwrap();
    assert!(
        matches!(outcome, ReplayOutcome::PayloadExpired),
        "{outcome:?}"
    );
    store.end_days(end).await.unwrap();
    nothing_is_left(store, &[id]).await;
}

pub async fn only_the_deliveries_that_wait_or_are_dead_outlive_their_day(store: &TestStore) {
    let scene = Scene::new(store).await;
    let other = seed::subscription(store, scene.app, START).await;
    let event = scene.event(store).await;
    died(store, &scene, event).await;
    let attempt = Some(seed::attempt(1, 204, START));
    let done = seed::settlement(event, &other, Source::Outbox, attempt, Next::Delivered);
    store.settle(&scene.lease, &[done], START).await.unwrap();

    store.end_days(START + ENDED).await.unwrap();
    let other = seed::delivery(event, &other);
    assert!(store.delivery(other, ALL).await.unwrap().is_none());
    assert_eq!(deliveries(store, |_| {}).await, [scene.delivery(event)]);
}

pub async fn what_outlives_its_day_can_be_withdrawn(store: &TestStore) {
    let scene = Scene::new(store).await;
    let [one, disabled] = [
        waits(store, &scene, START).await,
        waits(store, &scene, START).await,
    ];
    let now = START + ENDED;
    store.end_days(now).await.unwrap();
    // One of another day, so that both places are looked in.
    let fresh = waits(store, &scene, now).await;

    let outcome = store.cancel(one, ALL, now).await.unwrap();
    assert!(matches!(outcome, CancelOutcome::Cancelled(_)));
    let cancelled = look(store, one).await;
    assert_eq!(
        (cancelled.status, cancelled.attempts),
        (DeliveryStatus::Cancelled, 1)
    );
    let late = scene.settlement(
        one.event,
        from_retries(1, 0),
        Some(seed::attempt(2, 503, now)),
        Next::Retry {
            due_at: now + LATER,
        },
    );
    store.settle(&scene.lease, &[late], now).await.unwrap();
    assert_eq!(look(store, one).await.status, DeliveryStatus::Cancelled);
    assert_eq!(attempts(store, one).await, [1, 2]);

    store
        .disable_subscription(scene.subscription.id, "410 Gone", now)
        .await
        .unwrap();
    for id in [disabled, fresh] {
        let dead = look(store, id).await;
        assert_eq!(
            (dead.status, dead.dead_reason),
            (DeliveryStatus::Dead, Some(DeadReason::SubscriptionDisabled))
        );
    }
    assert_eq!(store.count("retries", "").await, 0);
    store.end_days(now).await.unwrap();
    assert_eq!(deliveries(store, |_| {}).await, [fresh, disabled]);
}

pub async fn ending_days_again_changes_nothing(store: &TestStore) {
    let scene = Scene::new(store).await;
    arrived(store, &scene, START).await;
    waits(store, &scene, START).await;
    let dead = labelled(store, &scene).await;
    died(store, &scene, dead).await;
    let now = START + ENDED;
    store.end_days(now).await.unwrap();
    let first = (deliveries(store, |_| {}).await, events(store, None).await);
    assert_eq!(first.0.len(), 2);
    let done = super::scene::at_once(4, |_| {
        let store = store.shared();
        async move { store.end_days(now).await }
    })
    .await;
    done.into_iter().for_each(|result| result.unwrap());
    let again = (deliveries(store, |_| {}).await, events(store, None).await);
    assert_eq!(again, first);
    assert_eq!(attempts(store, scene.delivery(dead)).await, [1, 2]);
}

pub async fn pages_go_on_into_what_outlived_its_day(store: &TestStore) {
    let scene = Scene::new(store).await;
    let mut expected = Vec::new();
    for _ in 0..3 {
        expected.push(waits(store, &scene, START).await);
    }
    let now = START + ENDED;
    store.end_days(now).await.unwrap();
    for _ in 0..2 {
        expected.push(arrived(store, &scene, now).await);
    }
    expected.reverse();
    for limit in 1..=6 {
        assert_eq!(paged_deliveries(store, limit).await, expected, "{limit}");
        let wanted: Vec<EventId> = expected.iter().map(|id| id.event).collect();
        assert_eq!(paged_events(store, limit).await, wanted, "{limit}");
    }
}

/// It could be gone before it is sent.
pub async fn nothing_is_replayed_in_its_last_hour(store: &TestStore) {
    let scene = Scene::new(store).await;
    let id = arrived(store, &scene, START).await;
    let end = seed::instant("2026-02-05T00:00:00Z");
    for minutes in [60, 59, 0, -30] {
        let now = end - TimeDelta::minutes(minutes);
        let outcome = store.replay(id, ALL, now).await.unwrap();
        assert!(
            matches!(outcome, ReplayOutcome::PayloadExpired),
            "{outcome:?}"
        );
    }
    assert_eq!(store.count("retries", "").await, 0);
    // What waits may be brought forward at any time: it keeps its event.
    let waiting = waits(store, &scene, START).await;
    let outcome = store.replay(waiting, ALL, end).await.unwrap();
    assert!(matches!(outcome, ReplayOutcome::Due(_)), "{outcome:?}");

    let in_time = end - TimeDelta::minutes(61);
    let outcome = store.replay(id, ALL, in_time).await.unwrap();
    assert!(matches!(outcome, ReplayOutcome::Due(_)), "{outcome:?}");
    store.end_days(end).await.unwrap();
    assert_eq!(look(store, id).await.attempts, 2);
    assert_eq!(store.payloads(&[id.event]).await.unwrap().len(), 1);
}

pub async fn accepting_and_settling_go_on_while_days_end(store: &TestStore) {
    let scene = Scene::new(store).await;
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(waits(store, &scene, START).await);
        arrived(store, &scene, START).await;
    }
    let now = START + ENDED;
    let tending = tokio::spawn({
        let store = store.shared();
        async move { store.end_days(now).await }
    });
    let mut fresh = Vec::new();
    for id in &waiting {
        let done = scene.settlement(
            id.event,
            from_retries(1, 0),
            Some(seed::attempt(2, 500, now)),
            Next::Dead(DeadReason::OutOfAttempts),
        );
        store.settle(&scene.lease, &[done], now).await.unwrap();
        fresh.push(arrived(store, &scene, now).await);
    }
    tending.await.unwrap().unwrap();
    store.end_days(now).await.unwrap();
    for id in waiting {
        let dead = look(store, id).await;
        assert_eq!((dead.status, dead.attempts), (DeliveryStatus::Dead, 2));
        assert_eq!(attempts(store, id).await, [1, 2]);
        assert!(store.event(id.event, ALL).await.unwrap().is_some());
    }
    for id in fresh {
        assert_eq!(look(store, id).await.status, DeliveryStatus::Delivered);
    }
}

fn from_retries(attempts_made: u16, round_start: u16) -> Source {
    Source::Retries {
        attempts_made,
        round_start,
    }
}

/// A delivery that took two attempts, the first at `at`.
async fn arrived(store: &TestStore, scene: &Scene, at: DateTime<Utc>) -> DeliveryId {
    let id = waits(store, scene, at).await;
    let attempt = Some(seed::attempt(2, 204, at));
    let done = scene.settlement(id.event, from_retries(1, 0), attempt, Next::Delivered);
    store.settle(&scene.lease, &[done], at).await.unwrap();
    id
}

/// A delivery whose first attempt failed, with long to go to its next.
async fn waits(store: &TestStore, scene: &Scene, at: DateTime<Utc>) -> DeliveryId {
    store.tend(at).await.unwrap();
    let event = seed::event(store, scene.app, at).await;
    let attempt = Some(seed::attempt(1, 503, at));
    let due_at = at + LATER;
    let failed = scene.settlement(event, Source::Outbox, attempt, Next::Retry { due_at });
    store.settle(&scene.lease, &[failed], at).await.unwrap();
    scene.delivery(event)
}

/// Has an event die of its second attempt.
async fn died(store: &TestStore, scene: &Scene, event: EventId) {
    let results = [
        (Source::Outbox, 1, Next::Retry { due_at: START }),
        (from_retries(1, 0), 2, Next::Dead(DeadReason::OutOfAttempts)),
    ];
    for (source, number, next) in results {
        let attempt = Some(seed::attempt(number, 503, START));
        let settlement = scene.settlement(event, source, attempt, next);
        scene.settle(store, settlement).await;
    }
}

/// An event with the label `order: 1042`.
async fn labelled(store: &TestStore, scene: &Scene) -> EventId {
    let mut event = seed::new_event(store, scene.app, "order.paid", START).await;
    event.labels = [("order".to_owned(), "1042".to_owned())].into();
    seed::accept(store, event, START).await.id
}

async fn attempts(store: &TestStore, id: DeliveryId) -> Vec<u16> {
    let attempts = store.attempts(id, ALL).await.unwrap().unwrap();
    attempts.iter().map(|one| one.record.number).collect()
}

async fn nothing_is_left(store: &TestStore, ids: &[DeliveryId]) {
    for &id in ids {
        assert!(store.delivery(id, ALL).await.unwrap().is_none());
        assert!(store.event(id.event, ALL).await.unwrap().is_none());
    }
    let mut tables = vec![
        "events",
        "event_labels",
        "deliveries",
        "attempts",
        "retries",
    ];
    if store.is_postgres() {
        tables.extend(["kept_events", "kept_event_labels"]);
        tables.extend(["kept_deliveries", "kept_attempts"]);
    }
    for table in tables {
        assert_eq!(store.count(table, "").await, 0, "{table}");
    }
}

fn any_delivery() -> DeliveryFilter {
    DeliveryFilter {
        within: ALL,
        app: None,
        subscription: None,
        event: None,
        status: None,
        event_type: None,
        label: None,
        status_code: None,
        error: None,
        since: None,
        until: None,
    }
}

fn any_event() -> EventFilter {
    EventFilter {
        within: ALL,
        app: None,
        event_type: None,
        label: None,
        since: None,
        until: None,
    }
}

/// All that a filter leaves, of each application and of all.
async fn deliveries(store: &TestStore, change: impl Fn(&mut DeliveryFilter)) -> Vec<DeliveryId> {
    let mut filter = any_delivery();
    change(&mut filter);
    let page = store.deliveries(&filter, TOP, 100).await;
    let ids = |items: &[Delivery]| items.iter().map(|one| one.id).collect();
    ids(&page.unwrap().items)
}

async fn events(store: &TestStore, label: Option<&str>) -> Vec<EventId> {
    let filter = EventFilter {
        label: label.map(|name| (name.to_owned(), "1042".to_owned())),
        ..any_event()
    };
    let page = store.events(&filter, EventId::MAX, 100).await.unwrap();
    let ids = |items: &[Event]| items.iter().map(|one| one.id).collect();
    ids(&page.items)
}

async fn paged_deliveries(store: &TestStore, limit: u32) -> Vec<DeliveryId> {
    let (mut ids, mut before) = (Vec::new(), TOP);
    loop {
        let page = store.deliveries(&any_delivery(), before, limit).await;
        let page = page.unwrap();
        ids.extend(page.items.iter().map(|one| one.id));
        match page.next {
            Some(next) => before = next,
            None => return ids,
        }
    }
}

async fn paged_events(store: &TestStore, limit: u32) -> Vec<EventId> {
    let (mut ids, mut before) = (Vec::new(), EventId::MAX);
    loop {
        let page = store.events(&any_event(), before, limit).await.unwrap();
        ids.extend(page.items.iter().map(|one| one.id));
        match page.next {
            Some(next) => before = next,
            None => return ids,
        }
    }
}
