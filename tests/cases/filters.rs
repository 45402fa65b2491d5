//! A subscription gets the events it wants, by type and by what is in them.

use ringback_testkit::{Receiver, TestStore};
use serde_json::{Value, json};

use super::{APP, faults, service};
use crate::harness::Ringback;

on_both_databases! {
    a_subscription_gets_the_types_it_chose,
    a_filter_lets_through_what_matches_and_nothing_else,
    numbers_are_compared_to_the_last_digit,
    a_changed_filter_decides_about_every_event_after_it,
    a_subscription_among_many_filtered_ones_is_found,
    a_filter_at_fault_is_refused_at_its_place,
    nobody_can_emit_the_services_own_events,
}

/// Case 31.
async fn a_subscription_gets_the_types_it_chose(store: TestStore) {
    let ringback = service(store).await;
    let (some, all) = (Receiver::start().await, Receiver::start().await);
    let fields = json!({"event_types": ["a.b"]});
    ringback.api.subscribe(APP, &some.url("/"), fields).await;
    ringback.api.subscribe(APP, &all.url("/"), json!({})).await;
    let mut sent = Vec::new();
    for event_type in ["a.b", "a.c", "a.b"] {
        sent.push(ringback.api.emit(APP, event_type, json!({})).await);
    }
    let (some, all) = (some.wait_for(2).await, all.wait_for(3).await);
    let mut found: Vec<_> = some.iter().map(|request| request.webhook_id()).collect();
    found.sort();
    assert_eq!(found, [&*sent[0], &*sent[2]]);
    let mut found: Vec<_> = all.iter().map(|request| request.webhook_id()).collect();
    found.sort();
    assert_eq!(found, sent);
    ringback.finish().await;
}

async fn a_filter_lets_through_what_matches_and_nothing_else(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let filters = [
        json!({"data.total": {"gte": 1, "lt": 10}}),
        json!({"labels.region": {"in": ["eu", "us"]}}),
        json!({"any": [{"type": "order.paid"}, {"data.items.0.sku": {"prefix": "A-"}}]}),
        json!({"not": {"data.test": true}}),
        json!({"data.note": {"exists": false}}),
    ];
    for filter in filters {
        let fields = json!({"payload_filter": filter});
        ringback
            .api
            .subscribe(APP, &receiver.url("/"), fields)
            .await;
    }
    let cases = [
        (json!({"data": {"total": 1.5}}), 3),
        (json!({"data": {"total": "1.5"}}), 2),
        (json!({"data": {"total": 10, "note": null}}), 1),
        (json!({"data": 7, "labels": {"region": "eu"}}), 3),
        (
            json!({"data": {"test": true}, "labels": {"region": "asia"}}),
            1,
        ),
        (json!({"data": {"items": [{"sku": "A-7"}]}}), 3),
        (
            json!({"data": {"test": true, "note": ""}, "type": "order.paid"}),
            1,
        ),
        (json!({"data": {"test": true, "note": ""}}), 0),
    ];
    let mut sum = 0;
    for (fields, expected) in cases {
        assert_eq!(deliveries(&ringback, &fields).await, expected, "{fields}");
        sum += expected;
    }
    receiver.wait_for(sum as usize).await;
    ringback.finish().await;
    assert_eq!(receiver.count(), sum as usize);
}

async fn numbers_are_compared_to_the_last_digit(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let filter = r#"{"any":[{"data":1.10},{"data":9007199254740993},{"data":{"gt":1e308}}]}"#;
    let url = receiver.url("/");
    let body = format!(r#"{{"url":"{url}","payload_filter":{filter}}}"#);
    let path = format!("/v1/apps/{APP}/subscriptions");
    ringback.api.post_raw(&path, body).await.ok();
    let cases = [
        ("1.1", 1),
        ("11e-1", 1),
        ("1.1000000000000000001", 0),
        ("9007199254740993", 1),
        ("9007199254740992", 0),
        ("1e308", 0),
        ("1.00000000000000000001e308", 1),
        ("1e400", 1),
        (r#""1.1""#, 0),
    ];
    for (data, expected) in cases {
        let body = format!(r#"{{"app":"{APP}","type":"a","data":{data}}}"#);
        let accepted = ringback.api.post_raw("/v1/events", body).await.ok();
        assert_eq!(accepted["deliveries"], expected, "{data}");
    }
    ringback.finish().await;
}

/// An event that is accepted after a change was answered is matched with what it left.
async fn a_changed_filter_decides_about_every_event_after_it(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let fields = json!({"payload_filter": {"data.n": 0}});
    let url = receiver.url("/");
    let id = ringback.api.subscribe(APP, &url, fields).await.id;
    let path = format!("/v1/subscriptions/{id}");
    for number in 0..5 {
        let patch = json!({"payload_filter": {"data.n": number}});
        ringback.api.patch(&path, patch).await.ok();
        for (n, expected) in [(number, 1), (number + 1, 0)] {
            let fields = json!({"data": {"n": n}});
            assert_eq!(deliveries(&ringback, &fields).await, expected);
        }
    }
    let patch = json!({"payload_filter": null});
    let patched = ringback.api.patch(&path, patch).await.ok();
    assert_eq!(patched["payload_filter"], Value::Null);
    assert_eq!(deliveries(&ringback, &json!({"data": 7})).await, 1);
    ringback.api.delete(&path).await.ok();
    assert_eq!(deliveries(&ringback, &json!({"data": 7})).await, 0);
    ringback.finish().await;
}

async fn a_subscription_among_many_filtered_ones_is_found(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let mut made = Vec::new();
    for customer in 0..40 {
        let filter = json!({"data.country": "DE", "data.customer": customer});
        let fields = json!({"payload_filter": filter});
        let url = receiver.url(&format!("/{customer}"));
        made.push(ringback.api.subscribe(APP, &url, fields).await.id);
    }
    let gone = format!("/v1/subscriptions/{}", made[7]);
    ringback.api.delete(&gone).await.ok();
    let event = |customer: i32| json!({"data": {"customer": customer, "country": "DE"}});
    for (customer, expected) in [(0, 1), (39, 1), (7, 0), (40, 0)] {
        assert_eq!(deliveries(&ringback, &event(customer)).await, expected);
    }
    let requests = receiver.wait_for(2).await;
    let mut targets: Vec<_> = requests.iter().map(|request| &*request.target).collect();
    targets.sort_unstable();
    assert_eq!(targets, ["/0", "/39"]);
    ringback.finish().await;
}

async fn a_filter_at_fault_is_refused_at_its_place(store: TestStore) {
    let ringback = service(store).await;
    let cases = [
        (json!({}), "/payload_filter", "empty"),
        (json!({"total": 1}), "/payload_filter/total", "bad_path"),
        (
            json!({"data.total": {"above": 1}}),
            "/payload_filter/data.total/above",
            "unknown_operator",
        ),
        (
            json!({"any": [{"data.a": {"in": "x"}}]}),
            "/payload_filter/any/0/data.a/in",
            "wrong_type",
        ),
    ];
    for (filter, pointer, code) in cases {
        let body = json!({"url": "https://r.example/", "payload_filter": filter});
        let path = format!("/v1/apps/{APP}/subscriptions");
        let answer = ringback.api.post(&path, body).await;
        assert_eq!(answer.status, 422);
        assert_eq!(faults(&answer.json()), [(pointer, code)]);
    }
    ringback.finish().await;
}

async fn nobody_can_emit_the_services_own_events(store: TestStore) {
    let ringback = service(store).await;
    let event = json!({"app": APP, "type": "ringback.subscription.disabled", "data": {}});
    let answer = ringback.api.post("/v1/events", event.clone()).await;
    assert_eq!(answer.status, 422);
    assert_eq!(faults(&answer.json()), [("/type", "reserved_event_type")]);
    let batch = json!({"events": [event]});
    let answer = ringback.api.post("/v1/events/batch", batch).await;
    let expected = [("/events/0/type", "reserved_event_type")];
    assert_eq!(faults(&answer.json()), expected);
    ringback.finish().await;
}

/// Emits an event with these fields; answers how many deliveries it has.
async fn deliveries(ringback: &Ringback, fields: &Value) -> u64 {
    let mut event = json!({"app": APP, "type": "order.made", "data": null});
    for (name, value) in fields.as_object().unwrap() {
        event[name] = value.clone();
    }
    let accepted = ringback.api.post("/v1/events", event).await.ok();
    accepted["deliveries"].as_u64().unwrap()
}
