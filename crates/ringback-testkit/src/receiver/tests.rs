#![expect(clippy::disallowed_methods, reason = "a test dials its own receiver")]

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;

/// Sends bytes, and answers all that comes back until the connection ends.
async fn exchange(receiver: &Receiver, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(receiver.address()).await?;
    stream.write_all(bytes).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

const POST: &str = "POST /x/%2F..?a='b'&&c HTTP/1.1\r\nHost: r\r\nwebhook-id: evt_1\r\n\
                    Webhook-Id:  evt_2\r\nconnection: close\r\ncontent-length: 3\r\n\r\na\0b";

#[tokio::test]
async fn a_request_is_kept_as_it_came() {
    let receiver = Receiver::start().await;
    let answer = exchange(&receiver, POST.as_bytes()).await.unwrap();
    assert_eq!(answer, "HTTP/1.1 204 x\r\n\r\n");
    let request = receiver.wait_for(1).await.remove(0);
    assert_eq!(
        (&*request.method, &*request.target),
        ("POST", "/x/%2F..?a='b'&&c")
    );
    let names: Vec<_> = request
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "Host",
            "webhook-id",
            "Webhook-Id",
            "connection",
            "content-length"
        ]
    );
    assert_eq!(
        request.values("WEBHOOK-ID").collect::<Vec<_>>(),
        ["evt_1", "evt_2"]
    );
    assert_eq!(&*request.body, b"a\0b");
}

#[tokio::test]
async fn a_chunked_body_is_put_together() {
    let receiver = Receiver::start().await;
    let post = "POST / HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
    exchange(&receiver, post.as_bytes()).await.unwrap();
    assert_eq!(receiver.requests()[0].body, "abc0123456789");
}

#[tokio::test]
async fn replies_come_from_the_queue_and_then_from_the_script() {
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(503).header("retry-after", "3").body("busy")]);
    receiver.script(|request| Reply::status(if request.target == "/" { 200 } else { 404 }));
    let answer = exchange(&receiver, POST.as_bytes()).await.unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 503 x\r\nretry-after: 3\r\ncontent-length: 4\r\n\r\nbusy"
    );
    let answer = exchange(&receiver, POST.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let receiver = Receiver::start().await;
    let keep = POST.replace("connection: close\r\n", "");
    exchange(&receiver, [&*keep, &*keep, POST].concat().as_bytes())
        .await
        .unwrap();
    let connections: Vec<_> = receiver
        .requests()
        .iter()
        .map(|one| one.connection)
        .collect();
    assert_eq!((connections, receiver.connections()), (vec![0, 0, 0], 1));
}

#[tokio::test]
async fn a_reply_waits_behind_its_gate() {
    let receiver = Arc::new(Receiver::start().await);
    let gate = Gate::shut();
    receiver.always(Reply::status(200).behind(&gate));
    let sender = Arc::clone(&receiver);
    let answer = tokio::spawn(async move { exchange(&sender, POST.as_bytes()).await });
    receiver.wait_for(1).await;
    assert!(!answer.is_finished());
    gate.open();
    assert!(answer.await.unwrap().unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn receivers_misbehave_as_they_are_told() {
    let receiver = Receiver::start().await;
    receiver.next([
        Reply::reset(),
        Reply::raw_then_close("garbage"),
        Reply::never(),
    ]);
    let reset = exchange(&receiver, POST.as_bytes()).await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(
        exchange(&receiver, POST.as_bytes()).await.unwrap(),
        "garbage"
    );

    let mut stream = TcpStream::connect(receiver.address()).await.unwrap();
    stream.write_all(POST.as_bytes()).await.unwrap();
    receiver.wait_for(3).await;
    // Only the sender's own end ends it.
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn certificates_are_as_good_as_they_are_called() {
    let authority = Authority::shared();
    let cases = [
        (Identity::Good, true),
        (Identity::Expired, false),
        (Identity::WrongHost, false),
        (Identity::SelfSigned, false),
    ];
    for (identity, good) in cases {
        let receiver = Receiver::start_tls(authority, identity).await;
        let stream = TcpStream::connect(receiver.address()).await.unwrap();
        let connected = connector(authority)
            .connect("127.0.0.1".try_into().unwrap(), stream)
            .await;
        assert_eq!(connected.is_ok(), good, "{identity:?}");
        if let Ok(mut stream) = connected {
            stream.write_all(POST.as_bytes()).await.unwrap();
            receiver.wait_for(1).await;
        }
    }
}

#[tokio::test]
async fn a_canary_counts_who_connects() {
    let canary = Canary::start_at(([127, 0, 0, 1], 0).into()).await;
    assert_eq!(canary.accepted(), 0);
    let mut stream = TcpStream::connect(canary.address()).await.unwrap();
    // It hangs up once it has counted.
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(canary.accepted(), 1);
}

/// Trusts what `SSL_CERT_FILE` would have it trust.
fn connector(authority: &Authority) -> TlsConnector {
    let pem = std::fs::read(authority.pem_file()).unwrap();
    let root = rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
