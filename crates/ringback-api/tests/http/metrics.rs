//! Who may read `/metrics`.

use http::StatusCode;
use ringback_model::Scope;

use crate::service::Service;

const HERE: &str = "127.0.0.1:40000";
const ELSEWHERE: &str = "192.0.2.7:40000";

#[tokio::test]
async fn this_machine_needs_no_key() {
    let service = Service::new().await;
    for (peer, key) in [(HERE, None), ("[::1]:1", None), (HERE, Some("rbk_wrong"))] {
        let mut call = service.get("/metrics").without("authorization").from(peer);
        if let Some(key) = key {
            call = call.key(key);
        }
        let answer = call.send().await.expect(StatusCode::OK);
        assert!(answer.header("content-type").starts_with("text/plain"));
        let text = std::str::from_utf8(&answer.body).unwrap();
        assert!(text.contains("ringback_delivery_oldest_due_age_seconds 0.0"));
        assert!(text.contains("ringback_db_pool_connections{state="));
    }
}

#[tokio::test]
async fn others_need_an_admins_key() {
    let service = Service::new().await;
    let reader = service.key(&[Scope::DeliveriesRead], None).await;
    let metrics = || service.get("/metrics").from(ELSEWHERE);
    let no_key = metrics().without("authorization").send().await;
    no_key.problem(401, "unauthorized");
    let missing_scope = metrics().key(&reader).send().await;
    missing_scope.problem(403, "missing_scope");
    metrics().send().await.expect(StatusCode::OK);
}

/// A proxy on this machine calls from loopback on behalf of anybody.
#[tokio::test]
async fn who_comes_through_a_proxy_needs_a_key_too() {
    let service = Service::new().await;
    for header in ["x-forwarded-for", "forwarded", "via", "x-real-ip"] {
        let call = service.get("/metrics").without("authorization");
        let answer = call.from(HERE).header(header, "192.0.2.7").send().await;
        answer.problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn who_cannot_be_told_needs_a_key() {
    let service = Service::new().await;
    let call = service.get("/metrics").without("authorization");
    call.send().await.problem(401, "unauthorized");
}

/// The scope of one application's key says nothing about the others'.
#[tokio::test]
async fn an_applications_own_admin_may_not_read_what_is_of_all() {
    let service = Service::new().await;
    let app = service.app("billing").await.parse().unwrap();
    let bound = service.key(&[Scope::Admin], Some(app)).await;
    let call = service.get("/metrics").from(ELSEWHERE).key(&bound);
    call.send().await.problem(403, "bound_key");
}
