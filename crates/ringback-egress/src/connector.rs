//! Makes connections: resolve, judge, dial, shake hands.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper_util::rt::TokioIo;
use ringback_model::{AddressPolicy, Verdict};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tower::Service;

use crate::{
    EgressConfig, EgressError, Failure,
    dial::dial,
    dns::Resolver,
    host::Host,
    link::{Link, Wire, millis},
    tls,
};

/// The longest that any connection may take to be made. The request it was begun for
/// may be served by another in the meantime, so that its own limit does not hold here.
const LONGEST: Duration = Duration::from_secs(30);

/// Connects to what a URI names, unless the policy forbids its address.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Inner>);

struct Inner {
    policy: AddressPolicy,
    resolver: Resolver,
    tls: TlsConnector,
    connect_timeout: Duration,
}

/// No connection was made.
#[derive(Debug)]
pub(crate) struct ConnectError {
    pub(crate) failure: Failure,
    pub(crate) link: Link,
}

impl Connector {
    pub(crate) fn new(config: &EgressConfig) -> Result<Self, EgressError> {
        Ok(Self(Arc::new(Inner {
            policy: config.targets.addresses.clone(),
            resolver: Resolver::new(config.dns_servers.clone()),
            tls: tls::connector(&config.extra_roots)?,
            connect_timeout: config.connect_timeout,
        })))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Wire>, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let mut link = Link::begin();
            let connecting = timeout(LONGEST, inner.connect(&uri, &mut link)).await;
            match connecting.unwrap_or_else(|_| Err(Failure::timeout(LONGEST, false))) {
                Ok(wire) => Ok(TokioIo::new(wire)),
                Err(failure) => Err(ConnectError { failure, link }),
            }
        })
    }
}

impl Inner {
    async fn connect(&self, uri: &Uri, link: &mut Link) -> Result<Wire, Failure> {
        let host = Host::of(uri);
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });

        let addresses = self.addresses(&host, link).await?;
        let stream = self.dial(&addresses, port, link).await?;
        if !is_tls {
            return Ok(Wire::new(stream, *link));
        }
        let begun = Instant::now();
        let stream = self.tls.connect(host.server_name()?, stream).await;
        let stream = stream.map_err(|error| tls::failure(&error))?;
        link.tls_ms = Some(millis(begun));
        Ok(Wire::new(stream, *link))
    }

    /// The addresses of `host`, every one of which may be called.
    async fn addresses(&self, host: &Host, link: &mut Link) -> Result<Vec<IpAddr>, Failure> {
        let addresses = match host {
            Host::Address(address) => vec![*address],
            Host::Name(_) if host.is_this_machine() => self.open_loopback(),
            Host::Name(name) => {
                let asking = timeout(self.connect_timeout, self.resolver.addresses(name)).await;
                link.dns_ms = Some(millis(link.begun));
                asking.unwrap_or_else(|_| Err(Failure::dns_unanswered()))?
            }
        };
        // One forbidden address refuses them all: nobody has an honest reason to mix.
        let forbidden = addresses
            .iter()
            .find_map(|&address| match self.policy.verdict(address) {
                Verdict::Allowed => None,
                Verdict::Forbidden(reason) => Some((address, reason)),
            });
        if let Some((address, reason)) = forbidden {
            tracing::info!(%host, %address, %reason, "a target's address is forbidden");
        }
        if forbidden.is_some() || addresses.is_empty() {
            // How long it took to find out is nobody's business either.
            link.dns_ms = None;
            return Err(Failure::blocked());
        }
        Ok(addresses)
    }

    /// `localhost` never goes to DNS (RFC 6761 §6.3), and means what the operator opened.
    fn open_loopback(&self) -> Vec<IpAddr> {
        let is_open = |address: &IpAddr| self.policy.verdict(*address) == Verdict::Allowed;
        [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            .into_iter()
            .filter(is_open)
            .collect()
    }

    async fn dial(
        &self,
        addresses: &[IpAddr],
        port: u16,
        link: &mut Link,
    ) -> Result<TcpStream, Failure> {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|&ip| SocketAddr::new(ip, port))
            .collect();
        let begun = Instant::now();
        let dialled = dial(&addresses, self.connect_timeout).await;
        link.connect_ms = Some(millis(begun));
        let stream = dialled.map_err(|unreached| {
            link.peer = unreached.address;
            Failure::of_dialling(&unreached.error)
        })?;
        // A tripwire: nothing between the verdict and here may change the address.
        let peer = stream
            .peer_addr()
            .map_err(|error| Failure::of_dialling(&error))?;
        if self.policy.verdict(peer.ip()) != Verdict::Allowed {
            return Err(Failure::blocked());
        }
        link.peer = Some(peer);
        Ok(stream)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.detail)
    }
}

impl Error for ConnectError {}
