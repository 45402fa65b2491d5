use http::StatusCode;
use serde_json::{Value, json};

use crate::service::{Call, Service};

fn with_key<'a>(call: Call<'a>, key: &str) -> Call<'a> {
    call.header("idempotency-key", key)
}

#[tokio::test]
async fn a_post_that_is_sent_again_is_answered_the_same_and_does_nothing() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    let sub = service.subscription("billing").await;
    let evt = service.event("billing").await;
    let dlv = format!("dlv_{}{}", &evt[4..], &sub[4..]);
    let cases = [
        ("/v1/apps".to_owned(), json!({ "slug": "shipping" })),
        (
            format!("/v1/apps/{app}/subscriptions"),
            json!({ "url": "https://r.example/" }),
        ),
        (format!("/v1/subscriptions/{sub}/pause"), json!({})),
        (format!("/v1/subscriptions/{sub}/resume"), json!({})),
        (format!("/v1/subscriptions/{sub}/rotate-secret"), json!({})),
        (
            "/v1/events".to_owned(),
            json!({ "app": app, "type": "a", "data": 1 }),
        ),
        (
            "/v1/events/batch".to_owned(),
            json!({ "events": [{ "app": app, "type": "a", "data": 1 }] }),
        ),
        (format!("/v1/deliveries/{dlv}/replay"), json!({})),
        (format!("/v1/deliveries/{dlv}/cancel"), json!({})),
        (
            "/v1/keys".to_owned(),
            json!({ "name": "k", "scopes": ["replay"] }),
        ),
    ];
    for (number, (path, body)) in cases.into_iter().enumerate() {
        let send = |body: Value| with_key(service.post(&path, body), &format!("key-{number}"));
        let first = send(body.clone()).send().await;
        assert!(first.status.is_success(), "{path}: {first:?}");
        assert!(
            !first.headers.contains_key("idempotency-replayed"),
            "{path}"
        );
        let again = send(body.clone()).send().await;
        assert_eq!(
            (again.status, &again.body),
            (first.status, &first.body),
            "{path}"
        );
        assert_eq!(again.header("idempotency-replayed"), "true", "{path}");
        for name in ["location", "etag", "content-type"] {
            assert_eq!(again.headers.get(name), first.headers.get(name), "{path}");
        }
        let mut other = body;
        other["other"] = json!(1);
        let refused = send(other).send().await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
    let events = service.get("/v1/events?type=a").send().await.json();
    assert_eq!(events["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_key_is_good_for_one_request_of_one_caller() {
    let service = Service::new().await;
    service.app("billing").await;
    let emit = |data: i64| {
        let body = json!({ "app": "billing", "type": "a", "data": data });
        with_key(service.post("/v1/events", body), "k")
    };
    emit(1).send().await.expect(StatusCode::ACCEPTED);
    emit(2).send().await.problem(422, "idempotency_key_reused");
    let other_path = with_key(service.post("/v1/apps", json!({ "slug": "x" })), "k");
    other_path
        .send()
        .await
        .problem(422, "idempotency_key_reused");
    let other = service.key(&[ringback_model::Scope::Admin], None).await;
    emit(2)
        .key(&other)
        .send()
        .await
        .expect(StatusCode::ACCEPTED);
    for bad in ["", "two words", &"x".repeat(256)] {
        let refused = with_key(service.post("/v1/apps", json!({ "slug": "y" })), bad)
            .send()
            .await;
        refused.problem(400, "bad_idempotency_key");
    }
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_not_remembered() {
    let service = Service::new().await;
    service.app("billing").await;
    let create = || with_key(service.post("/v1/apps", json!({ "slug": "billing" })), "k");
    create().send().await.problem(409, "slug_taken");
    service
        .delete("/v1/apps/billing")
        .send()
        .await
        .expect(StatusCode::NO_CONTENT);
    create().send().await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_refusal_that_stays_is_remembered_as_it_was() {
    let service = Service::new().await;
    let create = || with_key(service.post("/v1/apps", json!({ "slug": "No Slug" })), "k");
    let first = create()
        .send()
        .await
        .expect(StatusCode::UNPROCESSABLE_ENTITY);
    let again = create()
        .send()
        .await
        .expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn while_the_first_runs_the_second_is_told_to_wait() {
    use ringback_store::{BegunRequest, IdempotencyKey, Registry};
    use sha2::{Digest, Sha256};

    let service = Service::new().await;
    let body = json!({ "slug": "billing" });
    let keys = service.get("/v1/keys").send().await.json();
    let key = IdempotencyKey {
        api_key: keys["data"][0]["id"].as_str().unwrap().parse().unwrap(),
        key_hash: Sha256::digest("k").into(),
        body_hash: Sha256::digest(format!("POST\0/v1/apps\0{body}")).into(),
    };
    let begun = service
        .store
        .begin_request(key, service.clock.now())
        .await
        .unwrap();
    assert!(matches!(begun, BegunRequest::New));
    let second = with_key(service.post("/v1/apps", body), "k").send().await;
    assert_eq!(second.header("retry-after"), "1");
    second.problem(409, "still_running");
}
