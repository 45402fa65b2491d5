//! Certificates: only good ones will do.

use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Authority, Identity},
};
use serde_json::json;

use super::APP;
use crate::harness::Server;

on_both_databases! {
    only_a_good_certificate_is_trusted,
}

/// In the query of the URLs, which is never told.
const TOKEN: &str = "canary-query";

/// Case 25, TLS. The authority is trusted by `SSL_CERT_FILE`, so it takes a process of its
/// own.
async fn only_a_good_certificate_is_trusted(store: TestStore) {
    let authority = Authority::shared();
    let file = authority.pem_file();
    let server = Server::spawn_with_env(
        store.url(),
        &[],
        &[
            ("SSL_CERT_FILE", file.to_str().unwrap()),
            ("RUST_LOG", "info,ringback_dispatcher=debug"),
        ],
    );
    server.api.app(APP).await;
    let bad = [
        Receiver::start_tls(authority, Identity::Expired).await,
        Receiver::start_tls(authority, Identity::SelfSigned).await,
        Receiver::start_tls(authority, Identity::WrongHost).await,
        Receiver::start().await, // speaks no TLS at all
    ];
    // In the same order, as the log says.
    let reasons = [
        "has expired",
        "not from a trusted authority",
        "for another name",
        "closed during the TLS handshake",
    ];
    let good = Receiver::start_tls(authority, Identity::Good).await;
    let mut refused = Vec::new();
    for receiver in &bad {
        let url = format!("https://{}/hooks?token={TOKEN}", receiver.address());
        let fields = json!({"retry": {"schedule_s": [0.1]}});
        refused.push(server.api.subscribe(APP, &url, fields).await.id);
    }
    let trusted = server
        .api
        .subscribe(APP, &good.url("/"), json!({}))
        .await
        .id;

    let event = server.api.emit(APP, "order.paid", json!({})).await;
    server.api.delivery_in("delivered", &event, &trusted).await;
    for ((subscription, receiver), reason) in refused.iter().zip(&bad).zip(reasons) {
        let delivery = server.api.delivery_in("dead", &event, subscription).await;
        let attempts = server.api.attempts(&delivery).await;
        let errors: Vec<_> = attempts.iter().map(|attempt| &attempt["error"]).collect();
        assert_eq!(errors, ["tls", "tls"]);
        assert_eq!(attempts[0]["remote_addr"], receiver.address().to_string());
        assert_eq!(receiver.count(), 0, "it was sent without trust");
        let id = delivery["id"].as_str().unwrap();
        let log = server.log();
        let about = log.iter().filter(|line| line.contains(id));
        let told = about.filter(|line| line.contains("attempted") && line.contains(reason));
        assert_eq!(told.count(), 2, "{reason}: {log:#?}");
        assert!(!log.iter().any(|line| line.contains(TOKEN)), "{log:#?}");
    }
}
