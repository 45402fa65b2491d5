//! How much one application may bring in.

use std::time::Duration;

use http::StatusCode;
use ringback_model::{Quotas, Scope};
use serde_json::{Value, json};

use crate::service::{Answer, Service};

const SECOND: Duration = Duration::from_secs(1);

async fn emit(service: &Service, app: &str, fields: Value) -> Answer {
    let mut body = json!({ "app": app, "type": "order.paid", "data": { "total": 1 } });
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    service.post("/v1/events", body).send().await
}

async fn grant(service: &Service, app: &str, quotas: Value) -> Answer {
    let path = format!("/v1/apps/{app}");
    let patch = service.patch(&path, json!({ "quotas": quotas }));
    patch.send().await.expect(StatusCode::OK)
}

/// Checks that it is refused for this quota; answers `retry-after`.
fn refused(answer: Answer, code: &str) -> u64 {
    let retry_after = answer.header("retry-after").parse().unwrap();
    let problem = answer.problem(429, code);
    assert_eq!(problem["type"], "/problems/quota-exceeded");
    assert_eq!(problem["errors"][0]["code"], code, "{problem}");
    retry_after
}

#[tokio::test]
async fn quotas_are_merged_and_shown_with_what_holds() {
    let defaults = Quotas {
        events_per_s: Some(7.5),
        ..Quotas::default()
    };
    let service = Service::with_quotas(defaults).await;
    let body = json!({ "slug": "billing", "quotas": { "stored_bytes": 1_000 } });
    let created = service.post("/v1/apps", body).send().await;
    let app = created.expect(StatusCode::CREATED).json();
    let own = |rate: Value, pending: Value, bytes: Value| json!({ "events_per_s": rate, "pending_deliveries": pending, "stored_bytes": bytes });
    let none = Value::Null;
    assert_eq!(app["quotas"], own(none.clone(), none.clone(), json!(1_000)));
    assert_eq!(
        app["effective_quotas"],
        own(json!(7.5), none.clone(), json!(1_000))
    );

    let patch = json!({ "events_per_s": 20, "stored_bytes": null });
    let app = grant(&service, "billing", patch).await.json();
    assert_eq!(app["quotas"], own(json!(20), none.clone(), none.clone()));
    let app = grant(&service, "billing", Value::Null).await.json();
    assert_eq!(app["quotas"], own(none.clone(), none.clone(), none.clone()));
    let read = service.get("/v1/apps/billing").send().await;
    assert_eq!(read.json(), app);

    for wrong in [
        json!({ "events_per_s": 0 }),
        json!({ "pending_deliveries": 0 }),
        json!({ "stored_bytes": 9_007_199_254_740_992_u64 }),
    ] {
        let patch = json!({ "quotas": wrong });
        let answer = service.patch("/v1/apps/billing", patch).send().await;
        answer.problem(422, "out_of_range");
    }
}

/// An application's own admin must not grant itself more.
#[tokio::test]
async fn only_keys_of_the_operator_change_quotas() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    let bound = service
        .key(&[Scope::Admin], Some(app.parse().unwrap()))
        .await;
    for quotas in [Value::Null, json!({}), json!({ "events_per_s": 1 })] {
        let patch = service.patch("/v1/apps/billing", json!({ "quotas": quotas }));
        patch.key(&bound).send().await.problem(403, "bound_key");
    }
    let rename = service.patch("/v1/apps/billing", json!({ "name": "Billing" }));
    rename.key(&bound).send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn who_brings_in_events_too_fast_is_told_when_to_come_again() {
    let service = Service::new().await;
    service.app("billing").await;
    service.app("shipping").await;
    grant(&service, "billing", json!({ "events_per_s": 1 })).await;
    for _ in 0..2 {
        emit(&service, "billing", json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
    }
    let answer = emit(&service, "billing", json!({})).await;
    let problem = answer.json();
    assert_eq!(problem["errors"][0]["pointer"], "/app", "{problem}");
    assert_eq!(
        problem["detail"],
        "the application may bring in 1 events per second: 0 more may come now"
    );
    assert_eq!(refused(answer, "quota_events_per_s"), 1);
    emit(&service, "shipping", json!({}))
        .await
        .expect(StatusCode::ACCEPTED);

    service.pass(SECOND).await;
    emit(&service, "billing", json!({}))
        .await
        .expect(StatusCode::ACCEPTED);
    emit(&service, "billing", json!({}))
        .await
        .problem(429, "quota_events_per_s");
    // Another quota holds at once.
    grant(&service, "billing", Value::Null).await;
    emit(&service, "billing", json!({}))
        .await
        .expect(StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_batch_larger_than_the_rate_passes_and_is_paid_back() {
    let service = Service::new().await;
    service.app("billing").await;
    grant(&service, "billing", json!({ "events_per_s": 10 })).await;
    let event = json!({ "app": "billing", "type": "order.paid", "data": 1 });
    let batch = json!({ "events": vec![event; 500] });
    let post = || service.post("/v1/events/batch", batch.clone()).send();
    post().await.expect(StatusCode::ACCEPTED);
    let answer = post().await;
    assert_eq!(answer.json()["errors"][0]["pointer"], "/events/0/app");
    assert_eq!(refused(answer, "quota_events_per_s"), 50);
    let wait = refused(
        emit(&service, "billing", json!({})).await,
        "quota_events_per_s",
    );
    assert_eq!(wait, 49); // 48.1 s
    service.pass(SECOND * 49).await;
    emit(&service, "billing", json!({}))
        .await
        .expect(StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_is_on_disk_is_answered_as_before_also_over_quota() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    service.subscription(&app).await;
    let mine = json!({ "id": "order-1042" });
    let first = emit(&service, "billing", mine.clone()).await;
    let first = first.expect(StatusCode::ACCEPTED).text("id");
    let body = json!({ "app": "billing", "type": "order.paid", "data": 1 });
    let keyed = || {
        service
            .post("/v1/events", body.clone())
            .header("idempotency-key", "k")
    };
    let answered = keyed().send().await.expect(StatusCode::ACCEPTED).text("id");

    grant(&service, "billing", json!({ "pending_deliveries": 2 })).await;
    let answer = emit(&service, "billing", json!({})).await;
    assert_eq!(refused(answer, "quota_pending_deliveries"), 5);
    let again = emit(&service, "billing", mine)
        .await
        .expect(StatusCode::ACCEPTED);
    assert_eq!(
        (again.text("id"), &again.json()["duplicate"]),
        (first, &json!(true))
    );
    let again = keyed().send().await.expect(StatusCode::ACCEPTED);
    assert_eq!(again.text("id"), answered);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let other = emit(
        &service,
        "billing",
        json!({ "id": "order-1042", "data": 2 }),
    )
    .await;
    other.problem(409, "id_reused");
    let fresh = emit(&service, "billing", json!({ "id": "order-1043" })).await;
    fresh.problem(429, "quota_pending_deliveries");
}

#[tokio::test]
async fn a_request_that_comes_twice_counts_once() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    service.subscription(&app).await;
    grant(
        &service,
        "billing",
        json!({ "pending_deliveries": 2, "stored_bytes": 100 }),
    )
    .await;
    for _ in 0..20 {
        let again = emit(&service, "billing", json!({ "id": "order-1042" })).await;
        again.expect(StatusCode::ACCEPTED);
    }
    emit(&service, "billing", json!({}))
        .await
        .expect(StatusCode::ACCEPTED);
    let over = emit(&service, "billing", json!({})).await;
    over.problem(429, "quota_pending_deliveries");
}

#[tokio::test]
async fn refusals_are_counted_by_quota() {
    let service = Service::new().await;
    service.app("billing").await;
    grant(&service, "billing", json!({ "stored_bytes": 1 })).await;
    emit(&service, "billing", json!({}))
        .await
        .expect(StatusCode::ACCEPTED);
    let over = emit(&service, "billing", json!({})).await;
    assert_eq!(refused(over, "quota_stored_bytes"), 3600);
    let metrics = service.get("/metrics").from("127.0.0.1:1").send().await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let line = r#"ringback_events_refused_total{reason="quota_stored_bytes"} 1"#;
    assert!(text.contains(line), "{text}");
}
