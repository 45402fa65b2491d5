//! What an operator may choose.

use std::{net::SocketAddr, time::Duration};

use ringback_model::TargetPolicy;
use rustls::pki_types::CertificateDer;

/// How requests are made.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// Which targets are called. Its addresses are judged at every connection.
    pub targets: TargetPolicy,
    /// Whom to ask for addresses; the system's choice if empty.
    pub dns_servers: Vec<SocketAddr>,
    /// Certificate authorities to trust beside the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// How long connecting may take, and asking for addresses before.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How many unused connections are kept per scheme, host and port.
    pub max_idle_per_host: usize,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self {
            targets: TargetPolicy::default(),
            dns_servers: Vec::new(),
            extra_roots: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            // Apache, Node and uvicorn close after five seconds. A request that meets
            // their closing is lost, and nobody knows whether it was handled.
            idle_timeout: Duration::from_secs(4),
            max_idle_per_host: 100,
        }
    }
}

/// Requests cannot be made as configured.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// One of [`EgressConfig::extra_roots`] is no certificate.
    #[error("cannot trust an additional certificate authority: {0}")]
    Root(#[source] rustls::Error),
    /// The TLS library was built without a version that we need.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] rustls::Error),
}
