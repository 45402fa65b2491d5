//! Receivers that answer too much, too slowly, or nonsense.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ringback_model::AttemptError;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

use crate::lab::{
    AMPLE, Canary, Receiver, SHORT, answer, egress, error, opening_loopback, post, post_within,
};

#[tokio::test]
async fn answers_of_every_status_are_answers() {
    let egress = egress(opening_loopback());
    let cases: [(&str, u16, &str); _] = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            101,
            "",
        ),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", 410, ""),
        (
            "HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            500,
            "no",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n",
            202,
            "",
        ),
    ];
    for (bytes, status, body) in cases {
        let receiver = Receiver::answering(bytes).await;
        let answer = answer(post(&egress, &receiver.url("/")).await);
        assert_eq!(
            (answer.status, &*answer.body),
            (status, body.as_bytes()),
            "{bytes}"
        );
        assert!(!answer.truncated);
    }
}

#[tokio::test]
async fn an_answer_may_end_with_its_connection() {
    let receiver = Receiver::then(async |mut stream: TcpStream| {
        let _ = stream
            .write_all(b"HTTP/1.0 200 OK\r\nx-from: 1996\r\n\r\nold")
            .await;
    })
    .await;
    let answer = answer(post(&egress(opening_loopback()), &receiver.url("/")).await);
    assert_eq!(answer.body, Bytes::from("old"));
    assert_eq!(answer.headers, [("x-from".to_owned(), b"1996".to_vec())]);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let canary = Canary::at([127, 0, 0, 1]);
    let location = format!("http://127.0.0.1:{}/", canary.port());
    for status in [301, 302, 303, 307, 308] {
        let bytes =
            format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::answering(bytes).await;
        let answer = answer(post(&egress(opening_loopback()), &receiver.url("/")).await);
        assert_eq!(answer.status, status);
    }
    assert!(canary.is_untouched());
}

#[tokio::test]
async fn a_body_is_kept_up_to_16_kib() {
    let egress = egress(opening_loopback());
    for (length, kept) in [(16_384, 16_384), (16_385, 16_384), (65_536, 16_384)] {
        let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        bytes.resize(bytes.len() + length, b'x');
        let receiver = Receiver::answering(bytes).await;
        for _ in 0..2 {
            let answer = answer(post(&egress, &receiver.url("/")).await);
            assert_eq!((answer.body.len(), answer.truncated), (kept, length > kept));
        }
        // It was read to its end, so the connection was kept.
        assert_eq!(receiver.accepted(), 1, "{length}");
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_off_and_the_status_stands() {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let receiver = Receiver::then(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = [b"400\r\n".as_slice(), &[b'x'; 1024], b"\r\n"].concat();
            let mut result = stream.write_all(head).await;
            while result.is_ok() {
                result = stream.write_all(&chunk).await;
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let exchange = post(&egress(opening_loopback()), &receiver.url("/")).await;
    assert!(exchange.timings.total_ms < 2000);
    let answer = answer(exchange);
    assert_eq!(
        (answer.status, answer.body.len(), answer.truncated),
        (200, 16_384, true)
    );
}

/// Else a receiver could answer in the place of the next request's.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_thrown_away() {
    let asked = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let receiver = Receiver::answering(asked.to_owned() + &asked.replace("200", "410")).await;
    let egress = egress(opening_loopback());
    for _ in 0..5 {
        assert_eq!(answer(post(&egress, &receiver.url("/")).await).status, 200);
    }
}

#[tokio::test]
async fn nothing_is_decompressed() {
    let bytes =
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\0\x01\x02";
    let receiver = Receiver::answering(bytes).await;
    let answer = answer(post(&egress(opening_loopback()), &receiver.url("/")).await);
    assert_eq!(answer.body, Bytes::from("\x1f\0\x01\x02"));
}

#[tokio::test]
async fn heads_are_limited_in_bytes_and_in_headers() {
    let headers = |count: usize| {
        let headers: String = (0..count).map(|n| format!("x-{n}: y\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{headers}\r\n")
    };
    let long = format!(
        "HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n",
        "y".repeat(200_000)
    );
    let egress = egress(opening_loopback());
    for (bytes, expected) in [
        (headers(101), Some(AttemptError::TooLarge)),
        (long, Some(AttemptError::TooLarge)),
        (
            format!(
                "{}HTTP/1.1",
                headers(99).replace("x-0: y", "content-length: 0")
            ),
            None,
        ),
    ] {
        let receiver = Receiver::answering(bytes).await;
        let result = post(&egress, &receiver.url("/")).await.result;
        assert_eq!(result.err().map(|failure| failure.error), expected);
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    let egress = egress(opening_loopback());
    for bytes in [
        "hello\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\x15\x03\x01\0\x02\x02\x46",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZ\r\n",
    ] {
        let receiver = Receiver::answering(bytes).await;
        let exchange = post(&egress, &receiver.url("/")).await;
        assert_eq!(error(exchange), AttemptError::Protocol, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_reset() {
    let egress = egress(opening_loopback());
    for bytes in [
        "",
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n123",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n123",
    ] {
        let receiver = Receiver::then(async move |mut stream: TcpStream| {
            let _ = stream.write_all(bytes.as_bytes()).await;
        })
        .await;
        let exchange = post(&egress, &receiver.url("/")).await;
        assert_eq!(exchange.remote_addr, Some(receiver.address), "{bytes:?}");
        assert_eq!(error(exchange), AttemptError::Reset, "{bytes:?}");
    }
}

#[tokio::test]
async fn slowness_ends_at_the_deadline_wherever_it_is() {
    let egress = egress(opening_loopback());
    let cases = [
        ("", ""), // silent
        ("", "\r\n"),
        ("HTTP/1.1 200 OK\r\nx: ", "y"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", "z"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "1\r\nz\r\n",
        ),
    ];
    for (start, drop) in cases {
        let receiver = Receiver::then(async move |mut stream: TcpStream| {
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            let mut result = stream.write_all(start.as_bytes()).await;
            while result.is_ok() {
                pace.tick().await;
                result = stream.write_all(drop.as_bytes()).await;
            }
        })
        .await;
        let begun = Instant::now();
        let exchange = post_within(&egress, &receiver.url("/"), SHORT).await;
        let late = begun.elapsed() - SHORT;
        assert!(
            late < Duration::from_millis(500),
            "{start:?} took {late:?} more"
        );
        assert_eq!(exchange.remote_addr, Some(receiver.address));
        let failure = exchange.result.unwrap_err();
        assert_eq!(failure.error, AttemptError::Timeout, "{start:?}");
        assert_eq!(failure.detail, "no complete answer within 0.3 s");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_interim_answers_ends_at_the_deadline() {
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let receiver = Receiver::then(move |mut stream| {
        let ended = ended.clone();
        async move {
            let flood = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
            while stream.write_all(&flood).await.is_ok() {}
            let _ = ended.send(()).await;
        }
    })
    .await;
    let exchange = post_within(&egress(opening_loopback()), &receiver.url("/"), SHORT).await;
    assert!(exchange.timings.total_ms < 800, "{:?}", exchange.timings);
    assert_eq!(error(exchange), AttemptError::Timeout);
    // The connection is closed as well, so that the flood costs nothing more.
    tokio::time::timeout(AMPLE, end.recv()).await.unwrap();
}
