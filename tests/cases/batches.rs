//! A batch is accepted as a whole, or not at all.

use ringback_testkit::{Receiver, TestStore};
use serde_json::{Value, json};

use super::{APP, emit, faults, service, subscribe};

on_both_databases! {
    all_events_of_a_batch_are_accepted_in_order,
    one_bad_event_refuses_its_whole_batch_and_is_pointed_at,
}

async fn all_events_of_a_batch_are_accepted_in_order(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let events: Vec<Value> = (0..5)
        .map(|number| event(json!({"data": number})))
        .collect();
    let batch = json!({"events": events});
    let answer = ringback.api.post("/v1/events/batch", batch).await;
    assert_eq!(answer.status, 202);

    let answer = answer.json();
    let accepted = answer["data"].as_array().unwrap();
    assert_eq!(accepted.len(), 5);
    for (number, one) in accepted.iter().enumerate() {
        assert_eq!(
            (&one["deliveries"], &one["duplicate"]),
            (&json!(1), &json!(false))
        );
        let id = one["id"].as_str().unwrap();
        let shown = ringback.api.get(&format!("/v1/events/{id}")).await.ok();
        assert_eq!(shown["data"], number);
        ringback.delivery_in("delivered", id, &subscription).await;
    }
    assert!(accepted.is_sorted_by_key(|one| one["id"].as_str()));
    ringback.finish().await;
}

async fn one_bad_event_refuses_its_whole_batch_and_is_pointed_at(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    subscribe(&ringback, &receiver, json!({})).await;
    let taken = event(json!({"id": "taken"}));
    ringback.api.post("/v1/events", taken).await.ok();
    receiver.wait_for(1).await;

    let cases = [
        (
            json!({"type": "not a type"}),
            422,
            ("/events/2/type", "bad_event_type"),
        ),
        (
            json!({"typ": "order.paid"}),
            422,
            ("/events/2/typ", "unknown_field"),
        ),
        (
            json!({"labels": {"a:b": "c"}}),
            422,
            ("/events/2/labels/a:b", "bad_name"),
        ),
        (
            json!({"app": "nobody"}),
            404,
            ("/events/2/app", "not_found"),
        ),
        (
            json!({"id": "taken", "data": "another"}),
            409,
            ("/events/2/id", "id_reused"),
        ),
        (
            json!({"id": "first", "data": "another"}),
            409,
            ("/events/2/id", "id_reused"),
        ),
        (
            json!({"data": "x".repeat(256 * 1024)}),
            413,
            ("/events/2/data", "too_large"),
        ),
    ];
    for (bad, status, fault) in cases {
        let batch =
            json!({"events": [event(json!({"id": "first"})), event(json!({})), event(bad)]});
        let answer = ringback.api.post("/v1/events/batch", batch).await;
        let problem = answer.json();
        assert_eq!(
            (answer.status, faults(&problem)),
            (status, vec![fault]),
            "{problem}"
        );
    }
    let two =
        json!({"events": [event(json!({"type": ""})), event(json!({})), event(json!({"id": ""}))]});
    let problem = ringback.api.post("/v1/events/batch", two).await.json();
    let expected = [
        ("/events/0/type", "bad_event_type"),
        ("/events/2/id", "empty"),
    ];
    assert_eq!(faults(&problem), expected);
    for batch in [
        json!({"events": []}),
        json!({"events": vec![event(json!({})); 501]}),
    ] {
        let problem = ringback.api.post("/v1/events/batch", batch).await.json();
        assert_eq!(faults(&problem), [("/events", "bad_count")]);
    }

    let last = emit(&ringback).await;
    let requests = receiver.wait_for(2).await;
    assert_eq!(requests[1].webhook_id(), last);
    assert_eq!(
        ringback
            .api
            .all(&format!("/v1/events?app={APP}"))
            .await
            .len(),
        2
    );
    ringback.finish().await;
}

/// An event that is good but for these fields.
fn event(fields: Value) -> Value {
    let mut event = json!({"app": APP, "type": "order.paid", "data": 1});
    for (name, value) in fields.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}
