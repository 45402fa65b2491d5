use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use ringback_model::{AttemptError, DeliveryId, Lane, Scope};
use ringback_store::{AttemptAnswer, AttemptRecord, Hint, Hints, Next, Outbox, Settlement, Source};
use serde_json::{Value, json};

use crate::service::{Service, names};

/// An application, a subscription with headers of its own, and one delivery.
async fn delivery(service: &Service) -> DeliveryId {
    service.app("billing").await;
    let body = json!({
        "url": "https://r.example/hooks?sig=canary", "headers": { "x-env": "canary" },
    });
    let created = service
        .post("/v1/apps/billing/subscriptions", body)
        .send()
        .await;
    let subscription = created.expect(StatusCode::CREATED).text("id");
    let event = service.event("billing").await;
    DeliveryId {
        event: event.parse().unwrap(),
        subscription: subscription.parse().unwrap(),
    }
}

fn record(number: u16, service: &Service) -> AttemptRecord {
    AttemptRecord {
        number,
        started_at: service.clock.now(),
        subscription_version: 1,
        error: Some(AttemptError::HttpStatus),
        remote_addr: Some("203.0.113.7:443".parse().unwrap()),
        dns_ms: Some(1),
        connect_ms: Some(2),
        tls_ms: None,
        first_byte_ms: Some(8),
        total_ms: 9,
        answer: Some(AttemptAnswer {
            status_code: 503,
            headers: vec![("server".to_owned(), b"nginx".to_vec())],
            body: Bytes::from_static(b"busy"),
            truncated: false,
        }),
    }
}

async fn settle(service: &Service, id: DeliveryId, source: Source, attempt: u16, next: Next) {
    let settlement = Settlement {
        lane: Lane::of(id.subscription),
        delivery: id,
        app: service
            .get("/v1/apps/billing")
            .send()
            .await
            .text("id")
            .parse()
            .unwrap(),
        event_type: "order.paid".parse().unwrap(),
        source,
        attempt: Some(record(attempt, service)),
        next,
    };
    let lease = service.lease().await;
    service
        .store
        .settle(&lease, &[settlement], service.clock.now())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_delivery_shows_where_it_is() {
    let service = Service::new().await;
    let id = delivery(&service).await;
    let path = format!("/v1/deliveries/{id}");
    let read = async || {
        service
            .get(&path)
            .send()
            .await
            .expect(StatusCode::OK)
            .json()
    };
    let app = service.get("/v1/apps/billing").send().await.text("id");
    let mut expected = json!({
        "id": id.to_string(), "app": app, "subscription": id.subscription.to_string(),
        "event": id.event.to_string(), "event_type": "order.paid", "status": "pending",
        "attempts": 0, "next_attempt_at": read().await["next_attempt_at"], "last_attempt": null,
        "error": null, "created_at": "2026-01-05T09:00:00.000Z", "settled_at": null,
    });
    assert_eq!(read().await, expected);

    let due_at = service.clock.now() + Duration::from_secs(5);
    settle(&service, id, Source::Outbox, 1, Next::Retry { due_at }).await;
    expected["status"] = json!("retrying");
    expected["attempts"] = json!(1);
    expected["next_attempt_at"] = json!("2026-01-05T09:00:05.000Z");
    expected["last_attempt"] = json!({ "number": 1, "status_code": 503, "error": "http_status" });
    expected["error"] = json!("http_status");
    assert_eq!(read().await, expected);

    let tag = service.get(&path).send().await.header("etag").to_owned();
    let fresh = service
        .get(&path)
        .header("if-none-match", &tag)
        .send()
        .await;
    fresh.expect(StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn an_attempt_shows_all_but_secrets() {
    let service = Service::new().await;
    let id = delivery(&service).await;
    let due_at = service.clock.now() + Duration::from_secs(5);
    settle(&service, id, Source::Outbox, 1, Next::Retry { due_at }).await;
    let path = format!("/v1/deliveries/{id}/attempts");
    let list = service.get(&path).send().await.expect(StatusCode::OK);
    assert!(!String::from_utf8_lossy(&list.body).contains("canary"));
    let pair = &id.to_string()[4..];
    let mut expected = json!({
        "id": format!("att_{pair}0001"), "number": 1, "started_at": "2026-01-05T09:00:00.000Z",
        "outcome": "failed", "status_code": 503, "error": "http_status",
        "remote_addr": "203.0.113.7:443",
        "timings_ms": { "dns": 1, "connect": 2, "tls": null, "first_byte": 8, "total": 9 },
        "request": {
            "url": "https://r.example/hooks?…",
            "headers": {
                "content-type": "application/json", "ringback-attempt": "1",
                "user-agent": concat!("Ringback/", env!("CARGO_PKG_VERSION")),
                "webhook-id": id.event.to_string(), "webhook-timestamp": "1767603600",
                "x-env": "***",
            },
        },
        "response": { "headers": { "server": "nginx" }, "body": "busy", "truncated": false },
    });
    assert_eq!(
        list.json(),
        json!({ "data": [expected], "next_cursor": null })
    );
    let reader = service.key(&[Scope::DeliveriesRead], None).await;
    expected["response"]["body"] = Value::Null;
    assert_eq!(
        service.get(&path).key(&reader).send().await.json()["data"][0],
        expected
    );
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let service = Service::new().await;
    let first = delivery(&service).await;
    let due_at = service.clock.now() + Duration::from_secs(5);
    settle(&service, first, Source::Outbox, 1, Next::Retry { due_at }).await;
    for _ in 0..3 {
        service.event("billing").await;
    }
    let count = async |query: &str| {
        let list = service.get(&format!("/v1/deliveries{query}")).send().await;
        list.expect(StatusCode::OK).json()["data"]
            .as_array()
            .unwrap()
            .len()
    };
    let cases = [
        ("", 4),
        ("?app=billing", 4),
        (&*format!("?subscription={}", first.subscription), 4),
        (&*format!("?event={}", first.event), 1),
        ("?status=retrying", 1),
        ("?status=pending", 3),
        ("?status=dead", 0),
        ("?event_type=order.*", 4),
        ("?event_type=refund.*", 0),
        ("?code=503", 1),
        ("?code=5xx", 1),
        ("?code=4xx", 0),
        ("?error=http_status", 1),
        ("?error=timeout", 0),
        ("?label=a:b", 0),
        ("?since=2026-01-05T09:00:00Z&until=1s", 0),
    ];
    for (query, expected) in cases {
        assert_eq!(count(query).await, expected, "{query}");
    }

    let pages = "/v1/deliveries?status=pending&limit=2";
    let (mut path, mut cursor, mut seen) = (pages.to_owned(), String::new(), Vec::new());
    loop {
        let page = service
            .get(&path)
            .send()
            .await
            .expect(StatusCode::OK)
            .json();
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 2);
        seen.extend(
            data.iter()
                .map(|delivery| delivery["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = next.to_owned();
        path = format!("{pages}&cursor={cursor}");
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    let other = format!("/v1/deliveries?status=dead&cursor={cursor}");
    service
        .get(&other)
        .send()
        .await
        .problem(400, "cursor_mismatch");
    for bad in [
        "?subscription=x",
        "?event=x",
        "?status=failed",
        "?code=6xx",
        "?error=x",
        "?since=x",
    ] {
        service
            .get(&format!("/v1/deliveries{bad}"))
            .send()
            .await
            .problem(400, "bad_parameter");
    }
}

#[tokio::test]
async fn a_replay_makes_it_due_now_unless_it_cannot_be_sent() {
    let service = Service::new().await;
    let id = delivery(&service).await;
    let path = format!("/v1/deliveries/{id}");
    let replay = || service.post(&format!("{path}/replay"), json!({}));
    // Its first attempt is still to come.
    assert_eq!(
        replay().send().await.expect(StatusCode::ACCEPTED).json()["status"],
        "pending"
    );

    settle(&service, id, Source::Outbox, 1, Next::Delivered).await;
    let mut hints = service.store.listen();
    let due = replay().send().await.expect(StatusCode::ACCEPTED);
    assert_eq!(due.header("location"), path);
    assert_eq!(due.json()["next_attempt_at"], "2026-01-05T09:00:00.000Z");
    let lane = Lane::of(id.subscription);
    assert_eq!(
        hints.recv().await.unwrap(),
        Hint::Due(lane, id.subscription)
    );

    let source = Source::Retries {
        attempts_made: 1,
        round_start: 1,
    };
    settle(&service, id, source, 2, Next::Delivered).await;
    let subscription = format!("/v1/subscriptions/{}", id.subscription);
    service
        .delete(&subscription)
        .send()
        .await
        .expect(StatusCode::NO_CONTENT);
    replay().send().await.problem(409, "subscription_gone");
}

#[tokio::test]
async fn what_is_held_is_not_replayed() {
    let service = Service::new().await;
    service.app("billing").await;
    let id = service.subscription("billing").await;
    let pause = format!("/v1/subscriptions/{id}/pause");
    service
        .post(&pause, json!({}))
        .send()
        .await
        .expect(StatusCode::OK);
    let event = service.event("billing").await;
    let listed = service
        .get("/v1/deliveries?status=held")
        .send()
        .await
        .json();
    let delivery = &listed["data"][0];
    assert_eq!(delivery["event"], event);
    assert_eq!(delivery["next_attempt_at"], Value::Null);
    let path = format!("/v1/deliveries/{}/replay", delivery["id"].as_str().unwrap());
    service
        .post(&path, json!({}))
        .send()
        .await
        .problem(409, "held");
}

#[tokio::test]
async fn a_delivery_is_cancelled_once() {
    let service = Service::new().await;
    let id = delivery(&service).await;
    let mut hints = service.store.listen();
    let cancel = || service.post(&format!("/v1/deliveries/{id}/cancel"), json!({}));
    let cancelled = cancel().send().await.expect(StatusCode::OK).json();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["settled_at"], "2026-01-05T09:00:00.000Z");
    assert_eq!(names(&cancelled).len(), 12);
    assert_eq!(hints.recv().await.unwrap(), Hint::Withdrawn(id));
    cancel().send().await.problem(409, "settled");
}
