//! What the receiver gets.

use bytes::Bytes;
use http::HeaderMap;
use ringback_egress::Post;

use crate::lab::{AMPLE, BODY, Receiver, answer, egress, opening_loopback, post, target};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_request_goes_out_byte_for_byte_and_with_nothing_added() {
    let receiver = Receiver::answering(OK).await;
    let path = "/x/%2F..%2Fy/a%20b//.?sig=A%2Bb%3d%3D&sig=2&e=&t='(~)";
    let exchange = post(
        &egress(opening_loopback()),
        &receiver.url(&format!("{path}#part")),
    )
    .await;
    assert_eq!(answer(exchange).status, 200);

    let body = String::from_utf8_lossy(BODY);
    let expected = format!(
        "POST {path} HTTP/1.1\r\n\
         content-type: application/json\r\n\
         webhook-id: evt_02xk6m3q9s0w1\r\n\
         host: {}\r\n\
         content-length: {}\r\n\
         \r\n\
         {body}",
        receiver.address,
        BODY.len(),
    );
    assert_eq!(receiver.requests(), [expected]);
}

#[tokio::test]
async fn the_request_line_and_host_are_as_in_the_url() {
    let receiver = Receiver::answering(OK).await;
    let egress = egress(opening_loopback());
    let port = receiver.address.port();
    let cases = [
        (
            format!("http://127.0.0.1:{port}"),
            "POST / HTTP/1.1",
            format!("127.0.0.1:{port}"),
        ),
        (
            format!("http://127.0.0.1:{port}?q"),
            "POST /?q HTTP/1.1",
            format!("127.0.0.1:{port}"),
        ),
        (
            format!("http://R.Localhost.:{port}/"),
            "POST / HTTP/1.1",
            format!("R.Localhost.:{port}"),
        ),
    ];
    for (url, line, host) in cases {
        assert_eq!(answer(post(&egress, &url).await).status, 200, "{url}");
        let request = receiver.requests().pop().unwrap();
        assert!(
            request.starts_with(&format!("{line}\r\n")),
            "{url}: {request}"
        );
        assert!(
            request.contains(&format!("\r\nhost: {host}\r\n")),
            "{url}: {request}"
        );
    }
}

#[tokio::test]
async fn an_empty_body_has_a_length_too() {
    let receiver = Receiver::answering(OK).await;
    let (headers, body) = (HeaderMap::new(), Bytes::new());
    let target = target(&receiver.url("/"));
    let post = Post {
        target,
        headers,
        body,
        timeout: AMPLE,
    };
    answer(egress(opening_loopback()).post(post).await);
    let request = receiver.requests().pop().unwrap();
    assert!(request.contains("\r\ncontent-length: 0\r\n"), "{request}");
}

#[test]
fn what_may_be_secret_never_prints() {
    let mut headers = HeaderMap::new();
    headers.insert("x-key", "canary".parse().unwrap());
    let target = target("https://r.example/?sig=canary");
    let post = Post {
        target,
        headers,
        body: Bytes::from("canary"),
        timeout: AMPLE,
    };
    let shown = format!("{post:?} {:?}", egress(opening_loopback()));
    assert!(
        shown.contains("x-key") && !shown.contains("canary"),
        "{shown}"
    );
}
