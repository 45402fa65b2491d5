use std::time::Duration;

use http::StatusCode;
use ringback_store::{Hint, Hints};
use serde_json::{Value, json};

use crate::service::{Service, names};

const PATH: &str = "/v1/apps/billing/subscriptions";

async fn create(service: &Service, body: Value) -> Value {
    service
        .post(PATH, body)
        .send()
        .await
        .expect(StatusCode::CREATED)
        .json()
}

#[tokio::test]
async fn a_subscription_has_every_field_and_shows_its_secret_once() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    let body = json!({
        "url": "https://billing.example/hooks", "event_types": ["order.*", "refund.created"],
        "payload_filter": null, "headers": { "X-Env": "prod", "x-api-key": "canary" },
        "description": "d", "labels": { "a": "b" },
        "retry": { "schedule_s": [1, 5] }, "timeout_s": 1.5, "max_in_flight": 3,
        "rate_per_s": 2.5, "ordering": "fifo",
    });
    let created = service
        .post(PATH, body)
        .send()
        .await
        .expect(StatusCode::CREATED);
    assert_eq!(created.header("cache-control"), "no-store");
    let mut view = created.json();
    let secret = view.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"));
    let id = view["id"].as_str().unwrap().to_owned();
    let expected = json!({
        "id": id, "app": app, "url": "https://billing.example/hooks",
        "event_types": ["order.*", "refund.created"], "payload_filter": null,
        "headers": { "x-env": "prod", "x-api-key": "***" }, "description": "d",
        "labels": { "a": "b" }, "retry": { "schedule_s": [1.0, 5.0] }, "timeout_s": 1.5,
        "max_in_flight": 3, "rate_per_s": 2.5, "ordering": "fifo", "status": "active",
        "status_reason": null,
        "health": {"state": "healthy", "failing_since": null, "disables_at": null},
        "created_at": "2026-01-05T09:00:00.000Z", "updated_at": "2026-01-05T09:00:00.000Z",
    });
    assert_eq!(view, expected);

    let path = format!("/v1/subscriptions/{id}");
    assert_eq!(created.header("location"), path);
    let read = service.get(&path).send().await.expect(StatusCode::OK);
    assert_eq!(read.json(), expected);
    assert_eq!(read.header("etag"), created.header("etag"));
    assert_eq!(
        service.get(PATH).send().await.json()["data"],
        json!([expected])
    );
    let shown = service
        .get(&format!("{path}/secret"))
        .send()
        .await
        .expect(StatusCode::OK);
    assert_eq!(shown.header("cache-control"), "no-store");
    let expected = json!({ "secrets": [{ "secret": secret, "expires_at": null }] });
    assert_eq!(shown.json(), expected);
}

#[tokio::test]
async fn what_is_left_out_has_its_default() {
    let service = Service::new().await;
    service.app("billing").await;
    let view = create(
        &service,
        json!({ "url": "https://r.example/", "event_types": [] }),
    )
    .await;
    assert_eq!(view["event_types"], json!(["*"]));
    assert_eq!(view["retry"], json!({ "preset": "standard" }));
    assert_eq!(view["timeout_s"], json!(15));
    assert_eq!(view["max_in_flight"], 10);
    assert_eq!(view["headers"], json!({}));
    let other = create(&service, json!({ "url": "https://r.example/" })).await;
    assert_ne!(view["secret"], other["secret"]);
}

/// Numbers keep their digits, also where floats would lose them.
#[tokio::test]
async fn a_filter_reads_back_as_it_was_written_until_it_is_removed() {
    let service = Service::new().await;
    service.app("billing").await;
    let filter = r#"{"data.total":{"gte":1.10},"data.id":9007199254740993,"data.x":1E+30}"#;
    let body = format!(r#"{{"url":"https://r.example/","payload_filter": {filter} }}"#);
    let created = service.post(PATH, json!({})).body(body).send().await;
    let created = created.expect(StatusCode::CREATED);
    let path = format!("/v1/subscriptions/{}", created.text("id"));
    let shown = async |expected: &str| {
        for path in [&*path, PATH] {
            let answer = service.get(path).send().await;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let expected = format!(r#""payload_filter":{expected},"#);
            assert!(text.contains(&expected), "{text}");
        }
    };
    shown(filter).await;
    let cases = [
        (r#"{"description":"d"}"#, filter),
        (
            r#"{"payload_filter":{ "type" : "a.b" }}"#,
            r#"{"type":"a.b"}"#,
        ),
        (r#"{"payload_filter":null}"#, "null"),
    ];
    for (patch, expected) in cases {
        let patched = service.patch(&path, json!({})).body(patch).send().await;
        patched.expect(StatusCode::OK);
        shown(expected).await;
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_at_its_place() {
    let service = Service::new().await;
    service.app("billing").await;
    let long = format!("https://r.example/{}", "x".repeat(10_000));
    let cases = [
        (json!({ "url": "http://r.example/" }), "/url", "scheme"),
        (json!({ "url": "file:///etc/passwd" }), "/url", "scheme"),
        (json!({ "url": "https://" }), "/url", "host"),
        (json!({ "url": "" }), "/url", "relative"),
        (json!({ "url": long }), "/url", "too_long"),
        (
            json!({ "url": "https://127.0.0.1/" }),
            "/url",
            "blocked_address",
        ),
        (
            json!({ "url": "https://[fd00::1]/" }),
            "/url",
            "blocked_address",
        ),
        (
            json!({ "url": "https://169.254.169.254/" }),
            "/url",
            "blocked_address",
        ),
        (
            json!({ "url": "https://localhost/" }),
            "/url",
            "blocked_address",
        ),
        (
            json!({ "event_types": ["a", "a..b"] }),
            "/event_types/1",
            "bad_event_type",
        ),
        (
            json!({ "secret": "whsec_c2hvcnQ=" }),
            "/secret",
            "bad_secret",
        ),
        (
            json!({ "headers": { "Host": "x" } }),
            "/headers/Host",
            "header_reserved",
        ),
        (
            json!({ "headers": { "x-a": "***" } }),
            "/headers/x-a",
            "masked_value",
        ),
        (
            json!({ "retry": { "preset": "never" } }),
            "/retry/preset",
            "wrong_type",
        ),
        (
            json!({ "retry": { "schedule_s": [-1] } }),
            "/retry",
            "bad_retry",
        ),
        (json!({ "timeout_s": 31 }), "/timeout_s", "out_of_range"),
        (
            json!({ "max_in_flight": 0 }),
            "/max_in_flight",
            "out_of_range",
        ),
        (json!({ "description": "a\0" }), "/description", "nul"),
        (json!({ "labels": { "a": "\0" } }), "/labels/a", "nul"),
        (
            json!({ "payload_filter": { "data.a": { "gte": [] } } }),
            "/payload_filter/data.a/gte",
            "wrong_type",
        ),
        (
            json!({ "payload_filter": { "any": [{ "total": 1 }] } }),
            "/payload_filter/any/0/total",
            "bad_path",
        ),
        (
            json!({ "payload_filter": [] }),
            "/payload_filter",
            "wrong_type",
        ),
        (json!({ "rate_per_s": 0 }), "/rate_per_s", "out_of_range"),
        (json!({ "ordering": "lifo" }), "/ordering", "bad_ordering"),
        (json!({ "colour": "red" }), "/colour", "unknown_field"),
    ];
    let existing = create(&service, json!({ "url": "https://r.example/" })).await;
    let existing = format!("/v1/subscriptions/{}", existing["id"].as_str().unwrap());
    for (fault, pointer, code) in cases {
        let mut body = json!({ "url": "https://r.example/" });
        body.as_object_mut()
            .unwrap()
            .extend(fault.as_object().unwrap().clone());
        let problem = service.post(PATH, body).send().await.problem(422, code);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{fault}");
        assert_eq!(problem["errors"].as_array().unwrap().len(), 1, "{fault}");
        if fault.get("secret").is_none() {
            let problem = service
                .patch(&existing, fault)
                .send()
                .await
                .problem(422, code);
            assert_eq!(problem["errors"][0]["pointer"], pointer);
        }
    }
    let text = service.get(PATH).send().await.json();
    assert_eq!(text["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_patch_merges_and_null_sets_the_default() {
    let service = Service::new().await;
    service.app("billing").await;
    let body = json!({
        "url": "https://r.example/", "headers": { "x-a": "1", "x-b": "2" },
        "labels": { "a": "1", "b": "2" }, "timeout_s": 5, "retry": { "preset": "fast" },
    });
    let created = create(&service, body).await;
    let path = format!("/v1/subscriptions/{}", created["id"].as_str().unwrap());
    service.pass(Duration::from_secs(1)).await;
    let patch = json!({
        "headers": { "X-A": null, "x-c": "3" }, "labels": { "b": null }, "timeout_s": null,
        "retry": { "schedule_s": [] },
    });
    let changed = service
        .patch(&path, patch)
        .send()
        .await
        .expect(StatusCode::OK)
        .json();
    assert_eq!(changed["headers"], json!({ "x-b": "2", "x-c": "3" }));
    assert_eq!(changed["labels"], json!({ "a": "1" }));
    assert_eq!(changed["timeout_s"], json!(15));
    assert_eq!(changed["retry"], json!({ "schedule_s": [] }));
    assert_eq!(changed["url"], created["url"]);
    assert_eq!(changed["updated_at"], "2026-01-05T09:00:01.000Z");

    let cleared = json!({ "headers": null, "event_types": null });
    let cleared = service
        .patch(&path, cleared)
        .send()
        .await
        .expect(StatusCode::OK)
        .json();
    assert_eq!(cleared["headers"], json!({}));
    assert_eq!(cleared["event_types"], json!(["*"]));
}

#[tokio::test]
async fn pausing_resuming_and_deleting_are_seen_and_told() {
    let service = Service::new().await;
    service.app("billing").await;
    let id = service.subscription("billing").await;
    let path = format!("/v1/subscriptions/{id}");
    let mut hints = service.store.listen();
    let act = |verb: &str| service.post(&format!("{path}/{verb}"), json!({}));
    let before = service.get(&path).send().await.header("etag").to_owned();
    service.pass(Duration::from_secs(1)).await;

    let paused = act("pause").send().await.expect(StatusCode::OK);
    assert_eq!(paused.json()["status"], "paused");
    assert_ne!(paused.header("etag"), before);
    assert_eq!(
        hints.recv().await.unwrap(),
        Hint::Subscription(id.parse().unwrap())
    );
    // A body is not needed, and an unknown field of it not ignored.
    let resumed = service
        .call(http::Method::POST, &format!("{path}/resume"))
        .send()
        .await;
    assert_eq!(resumed.expect(StatusCode::OK).json()["status"], "active");
    let refused = service
        .post(&format!("{path}/pause"), json!({ "reason": "x" }))
        .send()
        .await;
    refused.problem(422, "unknown_field");

    service
        .delete(&path)
        .send()
        .await
        .expect(StatusCode::NO_CONTENT);
    for verb in ["pause", "resume", "rotate-secret"] {
        act(verb).send().await.problem(404, "not_found");
    }
    assert_eq!(service.get(PATH).send().await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_rotated_secret_overlaps_with_the_old_one() {
    let service = Service::new().await;
    service.app("billing").await;
    let created = create(&service, json!({ "url": "https://r.example/" })).await;
    let path = format!("/v1/subscriptions/{}", created["id"].as_str().unwrap());
    let rotate = |body| service.post(&format!("{path}/rotate-secret"), body);
    let rotated = rotate(json!({ "overlap_s": 60 }))
        .send()
        .await
        .expect(StatusCode::OK);
    assert_eq!(rotated.header("cache-control"), "no-store");
    let rotated = rotated.json();
    assert_eq!(names(&rotated), ["previous_expires_at", "secret"]);
    assert_eq!(rotated["previous_expires_at"], "2026-01-05T09:01:00.000Z");
    let expected = json!({ "secrets": [
        { "secret": rotated["secret"], "expires_at": null },
        { "secret": created["secret"], "expires_at": "2026-01-05T09:01:00.000Z" },
    ] });
    let secrets = format!("{path}/secret");
    assert_eq!(service.get(&secrets).send().await.json(), expected);
    service.pass(Duration::from_secs(60)).await;
    let left = service.get(&secrets).send().await.json();
    assert_eq!(left["secrets"].as_array().unwrap().len(), 1);

    let given = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let rotated = rotate(json!({ "secret": given })).send().await.json();
    assert_eq!(rotated["secret"], given);
    assert_eq!(rotated["previous_expires_at"], "2026-01-06T09:01:00.000Z");
    rotate(json!({ "overlap_s": -1 }))
        .send()
        .await
        .problem(422, "out_of_range");
}
