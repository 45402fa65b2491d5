//! Every refusal is a problem document.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use crate::service::Service;

#[tokio::test]
async fn faults_of_the_request_itself() {
    let service = Service::new().await;
    let nowhere = service
        .get("/v1/nothing")
        .send()
        .await
        .problem(404, "no_route");
    assert_eq!(nowhere["type"], "/problems/not-found");
    assert_eq!(nowhere["errors"], json!([]));

    let wrong = service.call(Method::PUT, "/v1/apps").send().await;
    assert_eq!(wrong.header("allow"), "POST,GET,HEAD");
    wrong.problem(405, "method_not_allowed");

    let post = || service.call(Method::POST, "/v1/apps");
    post().body("{").send().await.problem(400, "malformed_body");
    post()
        .body("{\"slug\":\"a\"} x")
        .send()
        .await
        .problem(400, "malformed_body");
    post()
        .body("\u{feff}{}")
        .send()
        .await
        .problem(400, "malformed_body");
    post()
        .body("{}")
        .header("content-type", "text/plain")
        .send()
        .await
        .problem(415, "unsupported_media_type");
    post()
        .body("{}")
        .without("content-type")
        .send()
        .await
        .problem(415, "unsupported_media_type");
    post()
        .body(vec![b' '; 1024 * 1024 + 1])
        .send()
        .await
        .problem(413, "too_large");
    service
        .get("/v1/apps?colour=red")
        .send()
        .await
        .problem(400, "unknown_parameter");
    service
        .get("/v1/apps/x?colour=red")
        .send()
        .await
        .problem(400, "unknown_parameter");
    service
        .get("/v1/apps?limit=1&limit=2")
        .send()
        .await
        .problem(400, "bad_parameter");
    service
        .get("/v1/apps?cursor=x")
        .send()
        .await
        .problem(400, "bad_cursor");
    service
        .get("/v1/deliveries?status=done")
        .send()
        .await
        .problem(400, "bad_parameter");
    service
        .get("/v1/apps/%FF")
        .send()
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn faults_of_fields_say_where() {
    let service = Service::new().await;
    service.app("billing").await;
    let cases = [
        (json!({}), vec!["/slug"]),
        (json!({ "slug": 7 }), vec!["/slug"]),
        (json!({ "slug": "a", "nmae": "b" }), vec!["/nmae"]),
        (
            json!({ "slug": "No", "name": "a\0" }),
            vec!["/slug", "/name"],
        ),
        (
            json!({ "slug": "a", "metadata": { "a": "b\0" } }),
            vec!["/metadata/a"],
        ),
    ];
    for (body, pointers) in cases {
        let refused = service.post("/v1/apps", body.clone()).send().await;
        let problem = refused.expect(StatusCode::UNPROCESSABLE_ENTITY).json();
        let errors = problem["errors"].as_array().unwrap();
        let found: Vec<_> = errors
            .iter()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(found, pointers, "{body}");
    }
    let taken = service
        .post("/v1/apps", json!({ "slug": "billing" }))
        .send()
        .await;
    assert_eq!(
        taken.problem(409, "slug_taken")["errors"][0]["pointer"],
        "/slug"
    );
}

#[tokio::test]
async fn every_type_has_a_page() {
    let service = Service::new().await;
    let problem = service
        .get("/v1/apps/nobody")
        .send()
        .await
        .problem(404, "not_found");
    let page = service
        .get(problem["type"].as_str().unwrap())
        .without("authorization");
    let page = page.send().await.expect(StatusCode::OK);
    assert!(page.header("content-type").starts_with("text/plain"));
    service
        .get("/problems/none")
        .send()
        .await
        .problem(404, "no_route");
}

#[tokio::test]
async fn a_requests_id_is_taken_over_and_shown() {
    let service = Service::new().await;
    let answer = service
        .get("/livez")
        .header("x-request-id", "mine-1")
        .send()
        .await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    let answer = service
        .get("/livez")
        .header("x-request-id", "not mine")
        .send()
        .await;
    assert!(answer.header("x-request-id").starts_with("req_"));
}

#[tokio::test]
async fn health_and_documentation_need_no_key() {
    let service = Service::new().await;
    for path in ["/livez", "/readyz", "/openapi.json", "/docs"] {
        let answer = service.get(path).without("authorization").send().await;
        let answer = answer.expect(StatusCode::OK);
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(
            answer
                .header("content-security-policy")
                .starts_with("default-src 'none'")
        );
    }
}

#[tokio::test]
async fn without_its_lease_a_node_is_not_ready_and_makes_nothing() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    service.clock.advance(Duration::from_secs(8));
    let refused = service.get("/readyz").send().await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(503, "lease_lost");
    let event = json!({ "app": app, "type": "a", "data": 1 });
    service
        .post("/v1/events", event)
        .send()
        .await
        .problem(503, "lease_lost");
    service
        .post("/v1/apps", json!({ "slug": "b" }))
        .send()
        .await
        .problem(503, "lease_lost");
    service.get("/livez").send().await.expect(StatusCode::OK);
}
