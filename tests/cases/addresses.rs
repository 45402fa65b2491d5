//! Addresses that are not called: refused when registered, and again when sent to.

use std::net::{IpAddr, SocketAddr};

use ringback_model::TargetPolicy;
use ringback_testkit::{TestStore, receiver::Canary};
use serde_json::json;

use super::{APP, emit, faults};
use crate::harness::{Api, NameServer, Ringback};

on_both_databases! {
    a_url_that_leads_inside_is_refused,
    a_url_that_leads_inside_is_not_called_although_it_is_stored,
    a_name_that_leads_inside_is_not_called,
}

/// Of the conformance case, and other ways to write the like.
const INSIDE: [&str; 14] = [
    "127.0.0.1",
    "[::1]",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "[fd00::1]",
    "[fe80::1]",
    "localhost",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "receiver",
    "db.internal",
];
const OUTSIDE: &str = "https://hooks.r.example/";

/// Case 39, registering.
async fn a_url_that_leads_inside_is_refused(store: TestStore) {
    let ringback = guarded(store, Vec::new()).await;
    let path = format!("/v1/apps/{APP}/subscriptions");
    let outside = ringback.api.subscribe(APP, OUTSIDE, json!({})).await.id;
    for host in INSIDE {
        let body = json!({"url": format!("https://{host}:8443/hooks")});
        let change = format!("/v1/subscriptions/{outside}");
        for refused in [
            ringback.api.post(&path, body.clone()).await,
            ringback.api.patch(&change, body).await,
        ] {
            let problem = refused.json();
            assert_eq!(refused.status, 422, "{host}: {problem}");
            assert_eq!(faults(&problem), [("/url", "blocked_address")], "{host}");
        }
    }
    assert_eq!(ringback.api.all(&path).await.len(), 1);
    let shown = ringback
        .api
        .get(&format!("/v1/subscriptions/{outside}"))
        .await
        .ok();
    assert_eq!(shown["url"], OUTSIDE);
}

/// Case 39, delivering: the row is put in by SQL.
async fn a_url_that_leads_inside_is_not_called_although_it_is_stored(store: TestStore) {
    let ringback = guarded(store, Vec::new()).await;
    let [v4, v6] = canaries().await;
    let hosts = [
        "127.0.0.1",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ];
    let mut subscriptions = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        let canary = if host.starts_with("[::1") { &v6 } else { &v4 };
        let registered = format!("{OUTSIDE}{number}");
        subscriptions.push(ringback.api.subscribe(APP, &registered, json!({})).await.id);
        let url = format!("https://{host}:{}/", canary.address().port());
        let put = format!("set url = '{url}' where url = '{registered}'");
        ringback
            .store
            .execute(&format!("update ringback.subscription_versions {put}"))
            .await;
    }

    are_blocked(&ringback, &subscriptions).await;
    none_was_reached([v4, v6]).await;
    ringback.finish().await;
}

/// Case 39, by way of DNS: one forbidden address is enough.
async fn a_name_that_leads_inside_is_not_called(store: TestStore) {
    let [v4, v6]: [IpAddr; 2] = [[127, 0, 0, 1].into(), "::1".parse().unwrap()];
    let public: IpAddr = [93, 184, 215, 14].into();
    let answers: [(&str, &[IpAddr]); 4] = [
        ("four.r.example", &[v4]),
        ("six.r.example", &[v6]),
        ("mixed.r.example", &[public, v4]),
        ("both.r.example", &[public, v6]),
    ];
    let names = NameServer::start(&answers).await;
    let ringback = guarded(store, vec![names.address()]).await;
    let canaries = canaries().await;
    let mut subscriptions = Vec::new();
    for (name, addresses) in answers {
        let canary = &canaries[usize::from(addresses.contains(&v6))];
        let url = format!("https://{name}:{}/", canary.address().port());
        subscriptions.push(ringback.api.subscribe(APP, &url, json!({})).await.id);
    }

    are_blocked(&ringback, &subscriptions).await;
    for (name, _) in answers {
        assert!(names.was_asked_for(name), "{name}");
    }
    none_was_reached(canaries).await;
    ringback.finish().await;
}

/// A service as shipped.
async fn guarded(store: TestStore, dns_servers: Vec<SocketAddr>) -> Ringback {
    let ringback = Ringback::start_with(store, TargetPolicy::default(), |config| {
        config.egress.dns_servers = dns_servers;
    })
    .await;
    ringback.api.app(APP).await;
    ringback
}

async fn canaries() -> [Canary; 2] {
    [
        Canary::start_at(([127, 0, 0, 1], 0).into()).await,
        Canary::start_at("[::1]:0".parse().unwrap()).await,
    ]
}

async fn are_blocked(ringback: &Ringback, subscriptions: &[String]) {
    let event = emit(ringback).await;
    for subscription in subscriptions {
        let delivery = ringback.delivery_in("retrying", &event, subscription).await;
        assert_eq!(delivery["error"], "blocked_address");
        let attempt = ringback.api.attempts(&delivery).await.remove(0);
        assert_eq!(attempt["error"], "blocked_address");
        assert_eq!(
            attempt["remote_addr"],
            json!(null),
            "it would map our network"
        );
    }
}

/// None but us, who shows that it would have counted.
async fn none_was_reached(canaries: [Canary; 2]) {
    for canary in canaries {
        assert_eq!(canary.accepted(), 0);
        let api = Api::new(format!("http://{}", canary.address()), String::new());
        assert!(api.try_send("GET", "/", &[], None).await.is_none());
        assert!(canary.accepted() > 0);
    }
}
