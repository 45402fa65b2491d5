//! The accept loop, through real connections.

use std::{net::SocketAddr, time::Duration};

use ringback_api::ApiConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::service::Service;

async fn serve(service: &Service) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(service.api.clone().serve(listener, shutdown.clone()));
    (address, shutdown, serving)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test calls the service that it started"
)]
async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Reads until the other end closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let service = Service::new().await;
    let (address, shutdown, serving) = serve(&service).await;
    let mut stream = connect(address).await;
    let request = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(request).await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        // The rest of the answer, up to its body.
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\nok\n") {
            seen.push(stream.read_u8().await.unwrap());
        }
    }
    shutdown.cancel();
    serving.await.unwrap();
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn who_never_ends_its_headers_is_cut_off() {
    let service = Service::new().await;
    let (address, ..) = serve(&service).await;
    let mut stream = connect(address).await;
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        .await
        .unwrap();
    // Time runs only while everybody waits for it.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    rest(stream).await;
    assert!(started.elapsed() >= ApiConfig::default().header_timeout);
}

#[tokio::test]
async fn who_never_ends_its_body_is_told_so() {
    let service = Service::new().await;
    let (address, ..) = serve(&service).await;
    let mut stream = connect(address).await;
    let head = format!(
        "POST /v1/apps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 10\r\n\r\n{{",
        service.admin
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    // The key is looked up in real time first.
    tokio::task::yield_now().await;
    service.get("/v1/apps").send().await;
    tokio::time::pause();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
}

#[tokio::test]
async fn a_request_that_is_under_way_is_finished_on_shutdown() {
    let service = Service::new().await;
    let (address, shutdown, serving) = serve(&service).await;
    let mut stream = connect(address).await;
    let body = r#"{"slug":"billing"}"#;
    let head = format!(
        "POST /v1/apps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        service.admin,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on[..12], b"HTTP/1.1 100");
    shutdown.cancel();
    stream.write_all(body.as_bytes()).await.unwrap();
    assert!(rest(stream).await.starts_with("HTTP/1.1 201"));
    serving.await.unwrap();
}

#[tokio::test]
async fn a_request_with_too_many_headers_is_refused() {
    let service = Service::new().await;
    let (address, ..) = serve(&service).await;
    let mut stream = connect(address).await;
    let headers: String = (0..101)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect();
    let request = format!("GET /livez HTTP/1.1\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), rest(stream))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}
