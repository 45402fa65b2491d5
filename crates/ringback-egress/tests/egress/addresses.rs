//! Addresses: asked for, judged, dialled.

use std::{net::IpAddr, time::Duration};

use ringback_egress::{EgressConfig, Failure};
use ringback_model::AttemptError;

use crate::lab::{
    Canary, NameServer, Receiver, answer, egress, error, opening, opening_loopback, post,
    post_within,
};

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Asks `server`, and calls the addresses of `open`.
fn asking(server: &NameServer, open: &[&str]) -> EgressConfig {
    let (targets, dns_servers) = (opening(open), vec![server.address]);
    EgressConfig {
        targets,
        dns_servers,
        ..EgressConfig::default()
    }
}

#[tokio::test]
async fn a_forbidden_literal_is_never_dialled() {
    let canary = Canary::at([127, 0, 0, 1]);
    let port = canary.port();
    let egress = egress(EgressConfig::default());
    for host in ["127.0.0.1", "localhost", "a.localhost", "0.0.0.0"] {
        // The target was admitted under another policy, and stored.
        let exchange = post(&egress, &format!("http://{host}:{port}/")).await;
        assert_eq!(
            (exchange.remote_addr, exchange.timings.connect_ms),
            (None, None)
        );
        assert_eq!(error(exchange), AttemptError::BlockedAddress, "{host}");
    }
    assert!(canary.is_untouched());
}

#[tokio::test]
async fn a_name_leads_to_its_address() {
    let receiver = Receiver::answering(OK).await;
    let server = NameServer::start(|_| Some(vec![ip("127.0.0.1")])).await;
    let egress = egress(asking(&server, &["127.0.0.0/8"]));
    let url = format!("http://r.example:{}/", receiver.address.port());
    let exchange = post(&egress, &url).await;
    assert_eq!(exchange.remote_addr, Some(receiver.address));
    assert!(exchange.timings.dns_ms.is_some());
    assert_eq!(answer(exchange).status, 200);
    // Once for each kind of address, and without any search domain.
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn one_forbidden_address_refuses_the_name() {
    let canary = Canary::at([127, 0, 0, 1]);
    let url = format!("http://r.example:{}/", canary.port());
    let answers = [
        vec!["127.0.0.1"],
        vec!["127.0.0.2", "127.0.0.1"],
        vec!["127.0.0.1", "127.0.0.2"],
        vec!["127.0.0.2", "::1"],
        vec!["127.0.0.2", "::ffff:127.0.0.1"],
        vec!["127.0.0.2", "fd00:ec2::254"],
        vec!["169.254.169.254"],
        vec!["0.0.0.0"],
        vec!["64:ff9b::7f00:1"],
    ];
    for addresses in answers {
        let answer: Vec<_> = addresses.iter().map(|address| ip(address)).collect();
        let server = NameServer::start(move |_| Some(answer.clone())).await;
        let exchange = post(&egress(asking(&server, &["127.0.0.2/32"])), &url).await;
        assert_eq!(
            error(exchange),
            AttemptError::BlockedAddress,
            "{addresses:?}"
        );
    }
    assert!(canary.is_untouched());
}

#[tokio::test]
async fn all_forbidden_targets_look_the_same() {
    let server = NameServer::start(|_| Some(vec![ip("10.0.0.1")])).await;
    let egress = egress(asking(&server, &[]));
    let mut seen: Vec<Failure> = Vec::new();
    for url in [
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:9/",
        "http://localhost/",
        "https://r.example/",
    ] {
        let exchange = post(&egress, url).await;
        assert_eq!(
            (exchange.remote_addr, exchange.timings.dns_ms),
            (None, None),
            "{url}"
        );
        seen.push(exchange.result.unwrap_err());
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

/// DNS rebinding: an address that may be called first, and one that may not later.
#[tokio::test]
async fn a_name_that_changes_its_address_is_judged_anew() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    // The same port, so that a slip would be heard.
    let server = NameServer::start(|asked| {
        let is_open = asked % 2 == 0;
        Some(vec![ip(if is_open { "127.0.0.1" } else { "127.0.0.3" })])
    })
    .await;
    let egress = egress(asking(&server, &["127.0.0.1/32"]));
    for trial in 0..100 {
        let exchange = post(&egress, &format!("http://r.example:{port}/")).await;
        if trial % 2 == 0 {
            assert_eq!(answer(exchange).status, 200, "trial {trial}");
        } else {
            assert_eq!(
                error(exchange),
                AttemptError::BlockedAddress,
                "trial {trial}"
            );
        }
    }
    assert_eq!(receiver.accepted(), 50);
    assert_eq!(server.asked(), 200);
}

#[tokio::test]
async fn a_name_without_address_is_a_dns_error() {
    for answer in [None, Some(vec![])] {
        let server = NameServer::start(move |_| answer.clone()).await;
        let exchange = post(&egress(asking(&server, &[])), "https://r.example/").await;
        assert!(exchange.timings.dns_ms.is_some());
        let failure = exchange.result.unwrap_err();
        assert_eq!(failure.error, AttemptError::Dns);
        assert_eq!(failure.detail, "the name has no address");
    }
}

#[tokio::test]
async fn silent_name_servers_are_a_dns_error_within_the_connect_timeout() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = EgressConfig {
        dns_servers: vec![silent.local_addr().unwrap()],
        connect_timeout: Duration::from_millis(200),
        ..opening_loopback()
    };
    let exchange = post(&egress(config), "https://r.example/").await;
    assert!(exchange.timings.total_ms < 1000, "{:?}", exchange.timings);
    let failure = exchange.result.unwrap_err();
    assert_eq!(failure.error, AttemptError::Dns);
    assert_eq!(failure.detail, "the name servers gave no answer");
}

#[tokio::test]
async fn what_takes_longer_than_the_whole_attempt_is_a_timeout() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let dns_servers = vec![silent.local_addr().unwrap()];
    let egress = egress(EgressConfig {
        dns_servers,
        ..opening_loopback()
    });
    let limit = Duration::from_millis(100);
    let failure = post_within(&egress, "https://r.example/", limit)
        .await
        .result
        .unwrap_err();
    assert_eq!(failure.error, AttemptError::Timeout);
    assert_eq!(failure.detail, "no connection within 0.1 s");
}
