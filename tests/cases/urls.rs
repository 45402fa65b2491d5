//! URLs: which are taken, and that they go out as they came.

use ringback_model::TargetPolicy;
use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Authority, Identity},
};
use serde_json::json;

use super::{APP, faults};
use crate::harness::{NameServer, Ringback, Server};

on_both_databases! {
    a_url_that_is_not_fit_to_be_called_is_refused_with_what_would_be_right,
    plain_http_is_taken_only_where_it_was_opened,
    a_url_goes_out_byte_for_byte,
}

/// Case 41.
async fn a_url_that_is_not_fit_to_be_called_is_refused_with_what_would_be_right(store: TestStore) {
    let ringback = Ringback::start_with(store, TargetPolicy::default(), |_| {}).await;
    ringback.api.app(APP).await;
    let long = format!("https://r.example/{}", "x".repeat(10_000));
    let cases = [
        ("http://r.example/canary", "scheme", "https://"),
        ("ftp://r.example/canary", "scheme", "https://"),
        ("file:///etc/canary", "scheme", "https://"),
        ("gopher://r.example/canary", "scheme", "https://"),
        ("https:///canary", "host", "billing.example"),
        ("https://", "host", "billing.example"),
        ("/canary", "relative", "https://"),
        ("canary", "relative", "https://"),
        ("https://user:canary@r.example/", "userinfo", "header"),
        ("https://r.example/can ary", "characters", "percent-encoded"),
        (&long, "too_long", "2048"),
    ];
    for (url, code, help) in cases {
        let path = format!("/v1/apps/{APP}/subscriptions");
        let answer = ringback.api.post(&path, json!({"url": url})).await;
        let problem = answer.json();
        assert_eq!(answer.status, 422, "{url}: {problem}");
        assert_eq!(faults(&problem), [("/url", code)], "{url}");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(help), "{url}: {detail}");
        assert!(
            !answer.text.contains("canary"),
            "{url} is repeated: {problem}"
        );
    }
}

async fn plain_http_is_taken_only_where_it_was_opened(store: TestStore) {
    let policy = TargetPolicy {
        allow_http: true,
        ..TargetPolicy::default()
    };
    let ringback = Ringback::start_with(store, policy, |_| {}).await;
    ringback.api.app(APP).await;
    ringback
        .api
        .subscribe(APP, "http://r.example/hooks", json!({}))
        .await;
    let path = format!("/v1/apps/{APP}/subscriptions");
    let inside = ringback
        .api
        .post(&path, json!({"url": "http://10.0.0.1/"}))
        .await;
    assert_eq!(faults(&inside.json()), [("/url", "blocked_address")]);
}

/// Case 42.
async fn a_url_goes_out_byte_for_byte(store: TestStore) {
    let name = "hooks.r.example";
    let names = NameServer::start(&[(name, &[[127, 0, 0, 1].into()])]).await;
    let authority = Authority::shared();
    let receiver = Receiver::start_tls(authority, Identity::Good).await;
    let file = authority.pem_file();
    let server = Server::spawn_with_env(
        store.url(),
        &["--egress-dns", &names.address().to_string()],
        &[("SSL_CERT_FILE", file.to_str().unwrap())],
    );
    server.api.app(APP).await;

    let target = "/x/%2F..%2Fy/a%20b?sig=A%2Bb%3d%3D&sig=2&e=&t='(~)";
    let url = receiver.url_by_name(name, &format!("{target}#frag"));
    let subscription = server.api.subscribe(APP, &url, json!({})).await.id;
    let shown = server
        .api
        .get(&format!("/v1/subscriptions/{subscription}"))
        .await
        .ok();
    assert_eq!(shown["url"], url);

    let event = server.api.emit(APP, "order.paid", json!({})).await;
    let request = receiver.wait_for(1).await.remove(0);
    assert_eq!((&*request.method, &*request.target), ("POST", target));
    let host = format!("{name}:{}", receiver.address().port());
    assert_eq!(request.values("host").collect::<Vec<_>>(), [host]);
    server
        .api
        .delivery_in("delivered", &event, &subscription)
        .await;
}
