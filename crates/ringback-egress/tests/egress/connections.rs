//! Connections: made once, used again, closed in time.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use ringback_egress::EgressConfig;
use ringback_model::AttemptError;
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::Notify};

use crate::lab::{Receiver, answer, egress, opening_loopback, post, read_request};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_connection_is_used_again_and_then_has_no_steps_to_time() {
    let receiver = Receiver::answering(OK).await;
    let egress = egress(opening_loopback());
    let first = post(&egress, &receiver.url("/")).await;
    let second = post(&egress, &receiver.url("/other")).await;

    assert_eq!(receiver.accepted(), 1);
    assert!(first.timings.connect_ms.is_some() && first.timings.first_byte_ms.is_some());
    assert_eq!((first.timings.dns_ms, first.timings.tls_ms), (None, None));
    assert!(second.timings.connect_ms.is_none() && second.timings.first_byte_ms.is_some());
    for exchange in [first, second] {
        assert_eq!(exchange.remote_addr, Some(receiver.address));
        assert!(exchange.timings.first_byte_ms <= Some(exchange.timings.total_ms));
    }
}

/// The receiver closes after every answer without saying so, as a server does when it
/// was idle for long enough.
#[tokio::test]
async fn a_connection_that_was_closed_while_idle_fails_no_request() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let closed = Arc::new(Notify::new());
    let announce = Arc::clone(&closed);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            drop(stream);
            announce.notify_one();
        }
    });
    let egress = egress(opening_loopback());
    for _ in 0..20 {
        assert_eq!(answer(post(&egress, &url).await).status, 200);
        closed.notified().await;
        // So that this end hears of it, too: the runtime looks, the connection wakes.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let closed = Arc::new(Notify::new());
    let announce = Arc::clone(&closed);
    let receiver = Receiver::start(move |mut stream, _| {
        let announce = Arc::clone(&announce);
        async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK).await.unwrap();
            }
            announce.notify_one();
        }
    })
    .await;
    let idle_timeout = Duration::from_millis(100);
    let egress = egress(EgressConfig {
        idle_timeout,
        ..opening_loopback()
    });
    answer(post(&egress, &receiver.url("/")).await);
    tokio::time::timeout(Duration::from_secs(5), closed.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn nobody_listening_is_connect_refused() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let exchange = post(&egress(opening_loopback()), &format!("http://{address}/")).await;
    assert_eq!(exchange.remote_addr, Some(address));
    assert!(exchange.timings.connect_ms.is_some());
    assert_eq!(
        exchange.result.unwrap_err().error,
        AttemptError::ConnectRefused
    );
}

/// Only one of the addresses of `localhost` is listened on.
#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        return; // a machine without IPv6
    };
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
    });
    let url = format!("http://localhost:{}/", address.port());
    let exchange = post(&egress(opening_loopback()), &url).await;
    assert_eq!(exchange.remote_addr, Some(address));
    assert_eq!(answer(exchange).status, 200);
}
