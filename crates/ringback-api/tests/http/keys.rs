use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::service::{Service, names};

#[tokio::test]
async fn a_key_is_shown_once_works_and_stops_working() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    let body =
        json!({ "name": "producer", "scopes": ["events:write", "replay"], "app": "billing" });
    let created = service
        .post("/v1/keys", body)
        .send()
        .await
        .expect(StatusCode::CREATED);
    assert_eq!(created.header("cache-control"), "no-store");
    let view = created.json();
    assert_eq!(
        names(&view),
        ["app", "created_at", "id", "key", "name", "scopes"]
    );
    assert_eq!(view["app"], app);
    assert_eq!(view["scopes"], json!(["events:write", "replay"]));
    let key = view["key"].as_str().unwrap();
    assert!(key.starts_with("rbk_") && key.len() == 53);

    let listed = service.get("/v1/keys").send().await.expect(StatusCode::OK);
    assert_eq!(
        names(&listed.json()["data"][0]),
        ["app", "created_at", "id", "name", "scopes"]
    );

    let emit = || service.post("/v1/events", json!({ "app": app, "type": "a", "data": 1 }));
    emit().key(key).send().await.expect(StatusCode::ACCEPTED);
    service
        .delete(created.header("location"))
        .send()
        .await
        .expect(StatusCode::NO_CONTENT);
    emit().key(key).send().await.problem(401, "unauthorized");
    service
        .delete(created.header("location"))
        .send()
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn a_key_revoked_elsewhere_stops_working_within_five_seconds() {
    let service = Service::new().await;
    let body = json!({ "name": "k", "scopes": ["subscriptions:read"] });
    let created = service.post("/v1/keys", body).send().await.json();
    let (id, key) = (
        created["id"].as_str().unwrap(),
        created["key"].as_str().unwrap(),
    );
    service
        .get("/v1/apps")
        .key(key)
        .send()
        .await
        .expect(StatusCode::OK);
    let within = ringback_store::Within::Everything;
    let now = service.clock.now();
    ringback_store::Registry::revoke_key(&*service.store, id.parse().unwrap(), within, now)
        .await
        .unwrap();
    service.pass(Duration::from_secs(5)).await;
    service
        .get("/v1/apps")
        .key(key)
        .send()
        .await
        .problem(401, "unauthorized");
}

#[tokio::test]
async fn a_key_needs_scopes_that_exist() {
    let service = Service::new().await;
    let create = |scopes| service.post("/v1/keys", json!({ "name": "k", "scopes": scopes }));
    let refused = create(json!(["events:write", "events:read"])).send().await;
    assert_eq!(
        refused.problem(422, "unknown_scope")["errors"][0]["pointer"],
        "/scopes/1"
    );
    create(json!([])).send().await.problem(422, "empty");
    let unknown = json!({ "name": "k", "scopes": ["replay"], "app": "nobody" });
    service
        .post("/v1/keys", unknown)
        .send()
        .await
        .problem(404, "not_found");
}
