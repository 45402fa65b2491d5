//! Certificates, good and bad.

use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use ringback_egress::EgressConfig;
use ringback_model::AttemptError;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::lab::{
    Receiver, SHORT, answer, egress, error, opening_loopback, post, post_within, read_request,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A certificate authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names to refuse");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random numbers");
        Self(CertifiedIssuer::self_signed(params, key).expect("a sound certificate"))
    }

    fn trusting(&self) -> EgressConfig {
        let extra_roots = vec![self.0.der().clone()];
        EgressConfig {
            extra_roots,
            ..opening_loopback()
        }
    }

    /// Serves with a certificate for `name`, after `change`.
    async fn receiver(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Receiver {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("random numbers");
        let certificate = params
            .signed_by(&key, &self.0)
            .expect("a sound certificate");
        serving(certificate.der().clone(), &key).await
    }
}

async fn serving(certificate: CertificateDer<'static>, key: &KeyPair) -> Receiver {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Receiver::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            while read_request(&mut stream).await.is_some() {
                let _ = stream.write_all(OK).await;
            }
        }
    })
    .await
}

fn https(receiver: &Receiver, host: &str) -> String {
    format!("https://{host}:{}/", receiver.address.port())
}

#[tokio::test]
async fn a_good_certificate_is_trusted_and_its_handshake_timed() {
    let authority = Authority::new("ours");
    let egress = egress(authority.trusting());
    for (name, host) in [("r.localhost", "R.Localhost."), ("127.0.0.1", "127.0.0.1")] {
        let receiver = authority.receiver(name, |_| ()).await;
        let first = post(&egress, &https(&receiver, host)).await;
        assert!(first.timings.tls_ms.is_some(), "{:?}", first.timings);
        let second = post(&egress, &https(&receiver, host)).await;
        assert_eq!(second.timings.tls_ms, None);
        for exchange in [first, second] {
            assert_eq!(answer(exchange).body, &b"ok"[..]);
        }
        assert_eq!(receiver.accepted(), 1);
    }
}

#[tokio::test]
async fn bad_certificates_are_tls_errors_that_say_what_is_bad() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("a stranger"));
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["r.localhost".to_owned()]).unwrap();
    let own = own.self_signed(&own_key).unwrap();
    let past = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    let cases = [
        (
            authority.receiver("r.localhost", past).await,
            "the receiver's certificate has expired",
        ),
        (
            authority.receiver("r.localhost", future).await,
            "the receiver's certificate is not valid yet",
        ),
        (
            authority.receiver("other.example", |_| ()).await,
            "the receiver's certificate is for another name",
        ),
        (
            stranger.receiver("r.localhost", |_| ()).await,
            "the receiver's certificate is not from a trusted authority, or its chain is incomplete",
        ),
        (
            serving(own.der().clone(), &own_key).await,
            "the receiver's certificate is not from a trusted authority, or its chain is incomplete",
        ),
    ];
    let egress = egress(authority.trusting());
    for (receiver, expected) in cases {
        let exchange = post(&egress, &https(&receiver, "r.localhost")).await;
        assert_eq!(exchange.remote_addr, Some(receiver.address), "{expected}");
        let failure = exchange.result.unwrap_err();
        assert_eq!(
            (failure.error, &*failure.detail),
            (AttemptError::Tls, expected)
        );
    }
}

#[tokio::test]
async fn plain_text_where_tls_is_expected_is_a_tls_error() {
    let egress = egress(opening_loopback());
    let plain = Receiver::start(async |mut stream: TcpStream, _| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        read_request(&mut stream).await;
    })
    .await;
    let closing = Receiver::start(async |stream: TcpStream, _| drop(stream)).await;
    for (receiver, expected) in [
        (plain, "the receiver does not speak TLS on this port"),
        (closing, "the connection closed during the TLS handshake"),
    ] {
        let failure = post(&egress, &https(&receiver, "127.0.0.1"))
            .await
            .result
            .unwrap_err();
        assert_eq!(
            (failure.error, &*failure.detail),
            (AttemptError::Tls, expected)
        );
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_at_the_deadline() {
    let receiver = Receiver::start(async |mut stream: TcpStream, _| {
        read_request(&mut stream).await; // which never comes, being encrypted
    })
    .await;
    let exchange = post_within(
        &egress(opening_loopback()),
        &https(&receiver, "127.0.0.1"),
        SHORT,
    )
    .await;
    let late = Duration::from_millis(exchange.timings.total_ms.into()).saturating_sub(SHORT);
    assert!(late < Duration::from_millis(500), "{late:?}");
    assert_eq!(error(exchange), AttemptError::Timeout);
}
