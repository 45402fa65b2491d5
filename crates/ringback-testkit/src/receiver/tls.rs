//! Certificates for receivers: good ones, and every kind of bad one.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// A certificate authority of the tests' own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// Which certificate a receiver shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A good one, for `127.0.0.1`, `localhost`, and names below that and `r.example`.
    Good,
    /// One that ended in 2020.
    Expired,
    /// A good one, for another host.
    WrongHost,
    /// One that vouches for itself.
    SelfSigned,
}

impl Authority {
    /// The one that the tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Authority> = LazyLock::new(Authority::new);
        &SHARED
    }

    fn new() -> Self {
        let mut params = named("Ringback test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(PEM), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// The file for `SSL_CERT_FILE`, which lasts as long as this process.
    pub fn pem_file(&self) -> std::path::PathBuf {
        Path::new(self.folder.path()).join(PEM)
    }

    pub(super) fn acceptor(&self, identity: Identity) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let here = ["127.0.0.1", "localhost", "*.localhost", "*.r.example"];
        let certificate = match identity {
            Identity::Good => named("good", &here).signed_by(&key, &self.issuer),
            Identity::Expired => {
                let mut params = named("expired", &here);
                params.not_after = date_time_ymd(2020, 1, 1);
                params.signed_by(&key, &self.issuer)
            }
            Identity::WrongHost => named("other", &["other.example"]).signed_by(&key, &self.issuer),
            Identity::SelfSigned => named("self-signed", &here).self_signed(&key),
        };
        acceptor(certificate.unwrap().der().clone(), &key)
    }
}

const PEM: &str = "authority.pem";

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
