//! What is emitted inside the database, and how it is accepted.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{AppId, DeadReason, EventId, Failing, SubscriptionStatus};
use ringback_store::{
    AcceptItem, AcceptOutcome, DeadLetter, EmittedId, EmittedRow, EventFilter, HealthChange,
    NewEvent, Next, Source, SubscriptionKind, Within,
};

use super::scene::Scene;
use crate::{
    TestStore,
    seed::{self, START},
};

/// Emits an event as whoever writes SQL can, with any type.
async fn emit(store: &TestStore, app: AppId, event_type: &str) {
    emit_sized(store, app, event_type, 2).await;
}

/// Its data is a JSON number with so many digits.
async fn emit_sized(store: &TestStore, app: AppId, event_type: &str, digits: u32) {
    let data = if store.is_postgres() {
        format!("convert_to(repeat('1', {digits}), 'UTF8')")
    } else {
        format!("cast(replace(hex(zeroblob({digits} / 2)), '0', '1') as blob)")
    };
    let app = app.get();
    store
        .execute(&format!(
            "insert into ringback.emitted (app_id, type, data) values ({app}, '{event_type}', {data})"
        ))
        .await;
}

async fn emitted(store: &TestStore) -> Vec<EmittedRow> {
    store.emitted(EmittedId::MIN, &[], 1000).await.unwrap().rows
}

async fn types(store: &TestStore, after: EmittedId, except: &[EmittedId], limit: u32) -> String {
    let page = store.emitted(after, except, limit).await.unwrap();
    let types: Vec<_> = page.rows.iter().map(|row| &*row.event_type).collect();
    types.join(" ") + if page.has_more { " …" } else { "" }
}

/// The event that becomes of a row.
async fn event_of(store: &TestStore, row: &EmittedRow) -> NewEvent {
    seed::new_event(store, row.app, &row.event_type, START).await
}

fn item(event: NewEvent, row: &EmittedRow) -> AcceptItem {
    AcceptItem {
        emitted: Some(row.id),
        ..seed::item(event)
    }
}

async fn events(store: &TestStore) -> Vec<EventId> {
    let filter = EventFilter {
        within: Within::Everything,
        app: None,
        event_type: None,
        label: None,
        since: None,
        until: None,
    };
    let page = store.events(&filter, EventId::MAX, 200).await.unwrap();
    page.items.iter().map(|event| event.id).collect()
}

pub async fn what_is_emitted_is_read_oldest_first(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    for event_type in ["a", "b", "c"] {
        emit(store, app, event_type).await;
    }
    let rows = emitted(store).await;
    let first = &rows[0];
    assert_eq!((first.app, &*first.event_type), (app, "a"));
    assert_eq!(&*first.data, b"11");
    assert_eq!((&first.external_id, &first.labels), (&None, &None));
    let [a, b] = [rows[0].id, rows[1].id];
    let cases = [
        (EmittedId::MIN, vec![], 9, "a b c"),
        (EmittedId::MIN, vec![], 2, "a b …"),
        (a, vec![], 9, "b c"),
        (EmittedId::MIN, vec![b], 9, "a c"),
        (a, vec![b], 1, "c …"),
    ];
    for (after, except, limit, expected) in cases {
        assert_eq!(types(store, after, &except, limit).await, expected);
        assert_eq!(types(store, after, &except, limit).await, expected);
    }
}

pub async fn all_that_came_with_an_emitted_event_is_read(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    emit(store, app, "a").await;
    let time = if store.is_postgres() {
        "'2026-01-05T10:00:00.120Z'"
    } else {
        "1767607200120"
    };
    store
        .execute(&format!(
            "update ringback.emitted set external_id = 'order-1042', traceparent = 'trace', \
             labels = '{{\"a\":\"b\"}}', ordering_key = 'key', deliver_at = {time}"
        ))
        .await;
    let row = &emitted(store).await[0];
    assert_eq!(row.external_id.as_deref(), Some("order-1042"));
    assert_eq!(row.traceparent.as_deref(), Some("trace"));
    assert_eq!(row.labels.as_deref(), Some(r#"{"a":"b"}"#));
    assert_eq!(row.ordering_key.as_deref(), Some("key"));
    assert_eq!(
        row.deliver_at,
        Some(seed::instant("2026-01-05T10:00:00.120Z"))
    );
}

pub async fn a_page_ends_with_the_row_that_fills_it(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    for event_type in ["a", "b", "c"] {
        emit_sized(store, app, event_type, 3_000_000).await;
    }
    assert_eq!(types(store, EmittedId::MIN, &[], 9).await, "a b …");
}

pub async fn accepting_an_emitted_event_deletes_its_row(store: &TestStore) {
    let scene = Scene::new(store).await;
    for _ in 0..3 {
        emit(store, scene.app, "order.paid").await;
    }
    let rows = emitted(store).await;
    let mut items = Vec::new();
    for row in &rows[..2] {
        items.push(item(event_of(store, row).await, row));
    }
    // With others in the same commit.
    let other = seed::new_event(store, scene.app, "order.paid", START).await;
    items.push(seed::item(other));
    let outcomes = store.accept(items, START).await.unwrap();
    for outcome in outcomes {
        assert!(
            matches!(outcome, Ok(AcceptOutcome::Accepted(_))),
            "{outcome:?}"
        );
    }
    assert_eq!(events(store).await.len(), 3);
    assert_eq!(seed::outbox(store).await.len(), 3);
    assert_eq!(emitted(store).await, rows[2..]);
}

pub async fn a_row_is_one_event_however_often_it_is_brought(store: &TestStore) {
    let scene = Scene::new(store).await;
    for _ in 0..2 {
        emit(store, scene.app, "order.paid").await;
    }
    let rows = emitted(store).await;
    let event = event_of(store, &rows[0]).await;
    let again = item(seed::copy(store, &event), &rows[0]);
    let both = vec![item(event, &rows[0]), again.clone()];
    let outcomes = store.accept(both, START).await.unwrap();
    assert!(matches!(outcomes[0], Ok(AcceptOutcome::Accepted(_))));
    assert!(matches!(outcomes[1], Ok(AcceptOutcome::Taken)));
    assert_eq!(
        seed::accept_item(store, again, START).await,
        AcceptOutcome::Taken
    );
    assert_eq!(events(store).await.len(), 1);
    assert_eq!(seed::outbox(store).await.len(), 1);
    assert_eq!(emitted(store).await, rows[1..]);
}

pub async fn what_another_took_writes_nothing_and_keeps_no_id(store: &TestStore) {
    let scene = Scene::new(store).await;
    emit(store, scene.app, "order.paid").await;
    let row = emitted(store).await.remove(0);
    assert_eq!(store.discard_emitted(&[row.id]).await.unwrap(), [row.id]);
    let mut event = event_of(store, &row).await;
    event.external = Some(seed::external("order-1042", 1));
    let other = NewEvent {
        external: Some(seed::external("order-1042", 2)),
        ..seed::copy(store, &event)
    };
    let outcome = seed::accept_item(store, item(event, &row), START).await;
    assert_eq!(outcome, AcceptOutcome::Taken);
    assert_eq!(store.count("ringback.idempotency", "").await, 0);
    assert!(events(store).await.is_empty() && seed::outbox(store).await.is_empty());
    seed::accept(store, other, START).await;
}

pub async fn twenty_who_bring_one_row_make_one_event(store: &TestStore) {
    let scene = Scene::new(store).await;
    emit(store, scene.app, "order.paid").await;
    let row = emitted(store).await.remove(0);
    let event = event_of(store, &row).await;
    let callers: Vec<_> = (0..20)
        .map(|number| {
            let mut event = seed::copy(store, &event);
            // Some with an id of their own, which must not be lost with the row.
            event.external = (number % 2 == 0).then(|| seed::external("order-1042", 1));
            let (store, item) = (store.shared(), item(event, &row));
            tokio::spawn(async move { store.accept(vec![item], START).await.unwrap().remove(0) })
        })
        .collect();
    let mut accepted = 0;
    for caller in callers {
        match caller.await.unwrap().unwrap() {
            AcceptOutcome::Accepted(one) if !one[0].duplicate => accepted += 1,
            AcceptOutcome::Accepted(_) | AcceptOutcome::Taken => {}
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(accepted, 1);
    assert_eq!(
        (events(store).await.len(), seed::outbox(store).await.len()),
        (1, 1)
    );
    assert!(emitted(store).await.is_empty());
}

pub async fn what_was_matched_before_a_change_keeps_its_row(store: &TestStore) {
    let scene = Scene::new(store).await;
    emit(store, scene.app, "order.paid").await;
    let row = emitted(store).await.remove(0);
    let stale = event_of(store, &row).await;
    let later = seed::subscription(store, scene.app, START).await;
    let outcome = seed::accept_item(store, item(stale, &row), START).await;
    assert_eq!(outcome, AcceptOutcome::Stale);
    assert_eq!(emitted(store).await, std::slice::from_ref(&row));
    let event = event_of(store, &row).await;
    seed::accept_item(store, item(event, &row), START).await;
    let outbox = seed::outbox(store).await;
    let outbox: BTreeSet<_> = outbox.iter().map(|key| key.delivery.subscription).collect();
    assert_eq!(outbox, BTreeSet::from([scene.subscription.id, later.id]));
}

pub async fn what_came_before_keeps_its_row_until_it_is_discarded(store: &TestStore) {
    let scene = Scene::new(store).await;
    for _ in 0..3 {
        emit(store, scene.app, "order.paid").await;
    }
    let rows = emitted(store).await;
    let mut items = Vec::new();
    for (row, body) in rows.iter().zip([1, 1, 2]) {
        let mut event = event_of(store, row).await;
        event.external = Some(seed::external("order-1042", body));
        items.push(item(event, row));
    }
    let outcomes = store.accept(items, START).await.unwrap();
    let duplicates: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome.as_ref().unwrap() {
            AcceptOutcome::Accepted(accepted) => Some(accepted[0].duplicate),
            AcceptOutcome::IdReused(0) => None,
            outcome => panic!("{outcome:?}"),
        })
        .collect();
    assert_eq!(duplicates, [Some(false), Some(true), None]);
    assert_eq!(events(store).await.len(), 1);
    assert_eq!(emitted(store).await, rows[1..]);
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let discarded = store.discard_emitted(&ids).await.unwrap();
    assert_eq!(
        BTreeSet::from_iter(discarded),
        BTreeSet::from([ids[1], ids[2]])
    );
    assert!(emitted(store).await.is_empty());
}

pub async fn a_row_that_is_written_later_has_a_higher_id(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let mut last = EmittedId::MIN;
    for _ in 0..3 {
        emit(store, app, "a").await;
        let row = emitted(store).await.remove(0);
        assert!(row.id > last);
        last = row.id;
        // Nothing is left of it.
        store.discard_emitted(&[row.id]).await.unwrap();
    }
}

pub async fn disabling_emits_one_event_in_its_commit(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let config = seed::config("https://user@receiver.example/hooks?sig=secret");
    let subscription = seed::subscription_with(store, app, config, START).await;
    for _ in 0..3 {
        seed::event(store, app, START).await;
    }
    for _ in 0..2 {
        store
            .disable_subscription(subscription.id, "410 Gone", START)
            .await
            .unwrap();
    }
    let rows = emitted(store).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].app, &*rows[0].event_type),
        (app, "ringback.subscription.disabled")
    );
    let expected = format!(
        r#"{{"subscription":"{}","url":"https://receiver.example/hooks","reason":"410 Gone","dead_deliveries":3,"at":"2026-01-05T09:00:00.000Z"}}"#,
        subscription.id
    );
    assert_eq!(String::from_utf8_lossy(&rows[0].data), expected);

    // Enabled and disabled again is another event.
    store
        .resume_subscription(subscription.id, Within::Everything, START)
        .await
        .unwrap();
    store
        .disable_subscription(subscription.id, "failing", START)
        .await
        .unwrap();
    assert_eq!(emitted(store).await.len(), 2);
}

pub async fn disabling_a_callbacks_subscription_emits_nothing(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let mut hidden =
        seed::new_subscription(store, app, seed::config("https://receiver.example/"), START);
    hidden.kind = SubscriptionKind::Callback;
    let hidden = store
        .create_subscription(hidden, START)
        .await
        .unwrap()
        .unwrap();
    store
        .disable_subscription(hidden.id, "410 Gone", START)
        .await
        .unwrap();
    let disabled = store
        .subscription(hidden.id, Within::Everything)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(disabled.status, SubscriptionStatus::Disabled);
    assert!(emitted(store).await.is_empty());
}

pub async fn a_warning_is_emitted_once_with_what_records_it(store: &TestStore) {
    let scene = Scene::new(store).await;
    let record = async |warned: u8, since: DateTime<Utc>| {
        let change = HealthChange {
            lane: scene.subscription.lane,
            subscription: scene.subscription.id,
            failing: Some(Failing { since, warned }),
        };
        let changes = [change];
        store
            .record_health(&scene.lease, &changes, START)
            .await
            .unwrap();
    };
    for warned in [0, 0, 50, 50, 90, 90] {
        record(warned, START).await;
    }
    let rows = emitted(store).await;
    let expected = |percent: u8| {
        format!(
            r#"{{"subscription":"{}","url":"https://receiver.example/hooks","failing_since":"2026-01-05T09:00:00.000Z","disables_at":"2026-01-10T09:00:00.000Z","percent":{percent}}}"#,
            scene.subscription.id
        )
    };
    let data: Vec<_> = rows
        .iter()
        .map(|row| String::from_utf8(row.data.to_vec()).unwrap())
        .collect();
    assert_eq!(data, [expected(50), expected(90)]);
    assert_eq!(rows[0].event_type, "ringback.subscription.failing");
    assert_eq!(rows[0].app, scene.app);

    // It worked in between, and who owned it before says nothing.
    record(50, START + TimeDelta::days(9)).await;
    assert_eq!(emitted(store).await.len(), 3);
    let later = START + TimeDelta::days(10);
    seed::owner(store, "node-2", later).await;
    record(70, START + TimeDelta::days(9)).await;
    assert_eq!(emitted(store).await.len(), 3);
}

pub async fn a_dead_letter_is_reported_if_it_is_one(store: &TestStore) {
    let scene = Scene::new(store).await;
    let [dead, pending, cancelled] = [
        scene.event(store).await,
        scene.event(store).await,
        scene.event(store).await,
    ];
    let attempt = seed::attempt(1, 503, START);
    let next = Next::Dead(DeadReason::OutOfAttempts);
    let settlement = scene.settlement(dead, Source::Outbox, Some(attempt.clone()), next);
    scene.settle(store, settlement).await;
    store
        .cancel(scene.delivery(cancelled), Within::Everything, START)
        .await
        .unwrap();
    let letter = |event, attempts| DeadLetter {
        app: scene.app,
        delivery: scene.delivery(event),
        event_type: "order.paid".parse().unwrap(),
        attempts,
        error: attempt.error,
        dead_reason: DeadReason::OutOfAttempts,
        at: START,
    };
    let letters = [
        letter(pending, 1),
        letter(dead, 1),
        letter(cancelled, 0),
        letter(dead, 2),
    ];
    store.report_dead(&letters).await.unwrap();
    store.report_dead(&letters[1..2]).await.unwrap();

    let rows = emitted(store).await;
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].app, &*rows[0].event_type),
        (scene.app, "ringback.delivery.dead")
    );
    assert_eq!(rows[0].data, letter(dead, 1).event().data());
    // Under one id, so that the second is a duplicate.
    assert_eq!(rows[0].external_id, Some(letter(dead, 1).event_id()));
    assert_eq!(
        (&rows[1].external_id, &rows[1].data),
        (&rows[0].external_id, &rows[0].data)
    );
}
