//! TLS: whom to trust, and what to say of those that are not.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore,
    crypto::ring,
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsConnector;

use crate::{EgressError, Failure};

/// TLS 1.2 and 1.3 with the system's certificate authorities and `extra`.
pub(crate) fn connector(extra: &[CertificateDer<'static>]) -> Result<TlsConnector, EgressError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "cannot read certificate authorities");
    }
    roots.add_parsable_certificates(native.certs);
    for root in extra {
        roots.add(root.clone()).map_err(EgressError::Root)?;
    }
    if roots.is_empty() {
        tracing::warn!("no certificate authority is trusted, so every call by https will fail");
    }
    // Named here and not installed for the process: another crate cannot change it.
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(EgressError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// What a handshake failed of.
pub(crate) fn failure(error: &io::Error) -> Failure {
    match inside(error) {
        Some(error) => Failure::tls(detail(error)),
        None => Failure::tls("the connection closed during the TLS handshake".to_owned()),
    }
}

/// The TLS error that an I/O error wraps, which `source` would step over.
pub(crate) fn inside(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// A sentence for customers.
pub(crate) fn detail(error: &Error) -> String {
    let text = match error {
        Error::InvalidCertificate(fault) => certificate_detail(fault),
        Error::InvalidMessage(_) => "the receiver does not speak TLS on this port",
        Error::PeerIncompatible(_) => "the receiver knows no TLS version or cipher that is safe",
        Error::AlertReceived(alert) => {
            return format!("the receiver broke off the TLS handshake: {alert:?}");
        }
        _ => "the TLS handshake failed",
    };
    text.to_owned()
}

fn certificate_detail(fault: &CertificateError) -> &'static str {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the receiver's certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the receiver's certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the receiver's certificate is for another name"
        }
        CertificateError::UnknownIssuer => {
            "the receiver's certificate is not from a trusted authority, or its chain is incomplete"
        }
        CertificateError::Revoked => "the receiver's certificate has been revoked",
        _ => "the receiver's certificate is not valid",
    }
}
