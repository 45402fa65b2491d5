//! `/metrics` tells what happened, to the last event, and nothing about whom.

use std::time::Duration;

use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Gate, Reply},
};
use serde_json::json;

use super::{APP, emit, service};
use crate::harness::Ringback;

on_both_databases! {
    what_became_of_deliveries_is_counted,
    what_holds_deliveries_back_is_shown,
    what_has_been_due_longest_is_shown_and_what_is_held_is_not,
    what_clients_asked_for_is_counted_by_route,
}

/// What `/metrics` shows.
struct Shown(String);

impl Shown {
    async fn of(ringback: &Ringback) -> Self {
        let answer = ringback.api.get("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(
            answer.headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        Self(answer.text)
    }

    /// The value of a line, named as it stands there.
    fn value(&self, series: &str) -> Option<f64> {
        let name = format!("ringback_{series} ");
        let value = self.0.lines().find_map(|line| line.strip_prefix(&name))?;
        Some(value.parse().unwrap())
    }

    fn values(&self, expected: &[(&str, f64)]) {
        for (series, value) in expected {
            assert_eq!(self.value(series), Some(*value), "{series} in\n{}", self.0);
        }
    }
}

/// What `/metrics` shows when so much time has passed that the store is read again.
async fn shown_later(ringback: &Ringback, time: Duration) -> Shown {
    ringback.later(time).await;
    Shown::of(ringback).await
}

/// Two events for each of: a receiver that takes them, one that takes them the second
/// time, one that never does, one that wants no more, and a name that nobody knows.
async fn what_became_of_deliveries_is_counted(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.script(|request| match request.target.as_str() {
        "/taken" => Reply::status(200),
        "/second" if request.header("ringback-attempt") == Some("2") => Reply::status(204),
        "/gone" => Reply::status(410),
        _ => Reply::status(503),
    });
    let mut subscriptions = Vec::new();
    for (url, schedule_s, event_types, end) in [
        (receiver.url("/taken"), json!([]), "order.*", "delivered"),
        (receiver.url("/second"), json!([60]), "order.*", "delivered"),
        (receiver.url("/never"), json!([]), "order.*", "dead"),
        (
            "http://nowhere.invalid:8080/".to_owned(),
            json!([]),
            "order.*",
            "dead",
        ),
        (receiver.url("/gone"), json!([60]), "end", "dead"),
    ] {
        let fields = json!({
            "event_types": [event_types],
            "retry": {"schedule_s": schedule_s},
        });
        let subscription = ringback.api.subscribe(APP, &url, fields).await;
        subscriptions.push((subscription.id, event_types, end));
    }
    let mut events = Vec::new();
    for event_type in ["order.paid", "order.sent", "end"] {
        let data = json!({"total": 1});
        events.push((event_type, ringback.api.emit(APP, event_type, data).await));
    }
    let again = json!({"app": APP, "type": "nobody.wants", "data": 1, "id": "one"});
    for _ in 0..2 {
        ringback.api.post("/v1/events", again.clone()).await.ok();
    }
    let other = json!({"app": APP, "type": "nobody.wants", "data": 2, "id": "one"});
    assert_eq!(ringback.api.post("/v1/events", other).await.status, 409);

    for (_, event) in &events[..2] {
        let second = &subscriptions[1].0;
        ringback.delivery_in("retrying", event, second).await;
    }
    let before = shown_later(&ringback, Duration::from_secs(6)).await;
    before.values(&[
        (r#"deliveries{state="retrying"}"#, 2.0),
        (r#"deliveries{state="pending"}"#, 0.0),
        ("delivery_oldest_due_age_seconds", 0.0), // not due yet
    ]);
    ringback.later(Duration::from_secs(70)).await;
    for (subscription, event_types, end) in &subscriptions {
        for (event_type, event) in &events {
            if event_types.starts_with(&event_type[..3]) {
                ringback.delivery_in(end, event, subscription).await;
            }
        }
    }

    let shown = shown_later(&ringback, Duration::from_secs(6)).await;
    let attempts = |outcome: &str, error: &str, class: &str| {
        let labels = format!(r#"outcome="{outcome}",error="{error}",status_class="{class}""#);
        shown.value(&format!("delivery_attempts_total{{{labels}}}"))
    };
    assert_eq!(attempts("delivered", "none", "2xx"), Some(4.0));
    // Two first attempts of `/second`, two of `/never`.
    assert_eq!(attempts("failed", "http_status", "5xx"), Some(4.0));
    assert_eq!(attempts("failed", "http_status", "4xx"), Some(1.0));
    assert_eq!(attempts("failed", "dns", "none"), Some(2.0));
    assert_eq!(attempts("failed", "timeout", "none"), Some(0.0));
    shown.values(&[
        (r#"events_accepted_total{result="accepted"}"#, 4.0),
        (r#"events_accepted_total{result="duplicate"}"#, 1.0),
        (r#"events_refused_total{reason="conflict"}"#, 1.0),
        ("deliveries_accepted_total", 9.0),
        (r#"deliveries_settled_total{result="delivered"}"#, 4.0),
        (r#"deliveries_settled_total{result="dead"}"#, 5.0),
        (r#"deliveries_settled_total{result="cancelled"}"#, 0.0),
        (
            r#"delivery_attempt_duration_seconds_count{outcome="delivered"}"#,
            4.0,
        ),
        (
            r#"delivery_attempt_duration_seconds_count{outcome="failed"}"#,
            7.0,
        ),
        (
            r#"delivery_end_to_end_seconds_count{result="delivered",attempts_bucket="1"}"#,
            2.0,
        ),
        (
            r#"delivery_end_to_end_seconds_count{result="delivered",attempts_bucket="2-5"}"#,
            2.0,
        ),
        (
            r#"delivery_end_to_end_seconds_bucket{result="delivered",attempts_bucket="2-5",le="10"}"#,
            0.0, // its minute is in it
        ),
        (
            r#"delivery_end_to_end_seconds_count{result="dead",attempts_bucket="1"}"#,
            5.0,
        ),
        (r#"deliveries{state="retrying"}"#, 0.0),
        (r#"subscriptions{state="active"}"#, 4.0),
        (r#"subscriptions{state="disabled"}"#, 1.0),
        ("delivery_attempts_in_flight", 0.0),
        ("deliveries_queued", 0.0),
        ("lanes_owned", 256.0),
    ]);
    assert!(shown.0.contains("\nringback_build_info{version=\""));
    ringback.finish().await;
}

/// Five that got no answer open a breaker; what comes then waits, and after a minute most
/// of it is put aside.
async fn what_holds_deliveries_back_is_shown(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.always(Reply::reset());
    let fields = json!({
        "event_types": ["order.*"],
        "retry": {"schedule_s": [86_400]},
        "max_in_flight": 50,
    });
    let subscription = ringback
        .api
        .subscribe(APP, &receiver.url("/"), fields)
        .await
        .id;
    let calm = Shown::of(&ringback).await;
    calm.values(&[
        ("subscriptions_breaker_open", 0.0),
        ("subscriptions_failing", 0.0),
        (r#"subscriptions_waiting{reason="time"}"#, 0.0),
        (r#"subscriptions_waiting{reason="host"}"#, 0.0),
        ("deliveries_parked_total", 0.0),
        ("delivery_slow_attempts_in_flight", 0.0),
    ]);
    for _ in 0..5 {
        let event = emit(&ringback).await;
        ringback
            .delivery_in("retrying", &event, &subscription)
            .await;
    }
    for _ in 0..30 {
        emit(&ringback).await;
    }
    ringback
        .eventually("what came waits for a probe", async || {
            let shown = Shown::of(&ringback).await;
            let found = [
                "subscriptions_breaker_open",
                r#"subscriptions_waiting{reason="time"}"#,
                "deliveries_queued",
            ];
            let found = found.map(|series| shown.value(series));
            if found == [Some(1.0), Some(1.0), Some(30.0)] {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
    ringback
        .eventually("it is put aside, and known to fail", async || {
            let shown = shown_later(&ringback, Duration::from_secs(6)).await;
            let parked = shown.value("deliveries_parked_total");
            let failing = shown.value("subscriptions_failing");
            if parked > Some(0.0) && failing == Some(1.0) {
                Ok(())
            } else {
                Err((parked, failing))
            }
        })
        .await;
    receiver.always(Reply::status(204));
    ringback
        .eventually("all is well again", async || {
            let shown = shown_later(&ringback, Duration::from_secs(60)).await;
            let found = ["subscriptions_breaker_open", "subscriptions_failing"];
            let found = found.map(|series| shown.value(series));
            let delivered = shown.value(r#"deliveries_settled_total{result="delivered"}"#);
            if found == [Some(0.0); 2] && delivered == Some(30.0) {
                Ok(())
            } else {
                Err((found, delivered))
            }
        })
        .await;
    ringback.finish().await;
}

/// The figure that an operator's alert hangs on.
async fn what_has_been_due_longest_is_shown_and_what_is_held_is_not(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.always(Reply::status(200).behind(&gate));
    let fields = json!({"event_types": ["order.*"], "max_in_flight": 1});
    ringback
        .api
        .subscribe(APP, &receiver.url("/"), fields)
        .await;
    let paused = json!({"event_types": ["order.*"]});
    let paused = ringback
        .api
        .subscribe(APP, &receiver.url("/"), paused)
        .await;
    let pause = format!("/v1/subscriptions/{}/pause", paused.id);
    ringback.api.post(&pause, json!({})).await.ok();

    // The first is under way, the second waits for it.
    for _ in 0..2 {
        emit(&ringback).await;
    }
    receiver.wait_for(1).await;
    let shown = shown_later(&ringback, Duration::from_secs(8)).await;
    let age = shown.value("delivery_oldest_due_age_seconds").unwrap();
    assert!((8.0..9.0).contains(&age), "{age}");
    shown.values(&[
        (r#"deliveries{state="pending"}"#, 2.0),
        (r#"deliveries{state="held"}"#, 2.0),
        (r#"subscriptions{state="paused"}"#, 1.0),
        ("delivery_attempts_in_flight", 1.0),
        ("deliveries_queued", 1.0),
    ]);

    gate.open();
    receiver.wait_for(2).await;
    ringback
        .eventually("all is settled that is not held", async || {
            let shown = shown_later(&ringback, Duration::from_secs(6)).await;
            let settled = shown.value(r#"deliveries_settled_total{result="delivered"}"#);
            let age = shown.value("delivery_oldest_due_age_seconds");
            if (settled, age) == (Some(2.0), Some(0.0)) {
                Ok(())
            } else {
                Err((settled, age))
            }
        })
        .await;
    ringback.finish().await;
}

async fn what_clients_asked_for_is_counted_by_route(store: TestStore) {
    let ringback = service(store).await;
    for _ in 0..3 {
        ringback.api.get("/v1/apps/none").await;
    }
    ringback.api.get("/nothing/here?and=more").await;
    ringback.api.delete("/v1/events").await;
    let stranger = ringback.api.with_key("rbk_stranger");
    assert_eq!(stranger.get("/v1/apps").await.status, 401);

    let shown = Shown::of(&ringback).await;
    let requests = |method: &str, route: &str, class: &str| {
        let labels = format!(r#"method="{method}",route="{route}",status_class="{class}""#);
        shown.value(&format!(
            "http_server_request_duration_seconds_count{{{labels}}}"
        ))
    };
    assert_eq!(requests("POST", "/v1/apps", "2xx"), Some(1.0));
    assert_eq!(requests("GET", "/v1/apps/{app}", "4xx"), Some(3.0));
    assert_eq!(requests("GET", "/v1/apps", "4xx"), Some(1.0));
    assert_eq!(requests("none", "none", "4xx"), Some(2.0));
    assert!(!shown.0.contains("nothing/here"), "{}", shown.0);
    ringback.finish().await;
}
