//! Asks for the addresses of a name.

use std::{
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
};

use crate::Failure;

/// Per question; hickory asks again twice.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A name that has just been made must not be missing for as long as its zone says.
const FORGET_ABSENCE_AFTER: Duration = Duration::from_secs(10);

/// Asks the hosts file and name servers of the system, or given name servers only.
pub(crate) struct Resolver {
    servers: Vec<SocketAddr>,
    hosts: Hosts,
    /// Made when the first name is looked up, so that a machine without name servers can
    /// still call addresses.
    dns: OnceLock<TokioResolver>,
}

impl Resolver {
    /// - `servers`: whom to ask; the system's hosts file and name servers if empty.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        let from_system = servers
            .is_empty()
            .then(|| Hosts::from_system().ok())
            .flatten();
        Self {
            servers,
            hosts: from_system.unwrap_or_default(),
            dns: OnceLock::new(),
        }
    }

    /// The addresses of `name`, IPv4 first; at least one.
    ///
    /// The name is taken as complete: search domains would let the network that
    /// Ringback happens to run in decide what a customer's name means.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let mut name = Name::from_ascii(name).map_err(|_| Failure::no_such_name())?;
        name.set_fqdn(true);
        if let Some(addresses) = self.in_hosts_file(&name) {
            return Ok(addresses);
        }
        let found = self.dns()?.lookup_ip(name).await;
        let addresses: Vec<_> = found.map_err(|error| failure(&error))?.iter().collect();
        if addresses.is_empty() {
            Err(Failure::no_such_name())
        } else {
            Ok(addresses)
        }
    }

    fn dns(&self) -> Result<&TokioResolver, Failure> {
        if let Some(dns) = self.dns.get() {
            return Ok(dns);
        }
        match resolver(&self.servers) {
            Ok(made) => Ok(self.dns.get_or_init(|| made)),
            Err(error) => {
                tracing::error!(%error, "cannot look up names: no name server is configured");
                Err(Failure::no_name_servers())
            }
        }
    }

    /// Both kinds from the file or none: what it leaves out is not asked for elsewhere.
    fn in_hosts_file(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        for record_type in [RecordType::A, RecordType::AAAA] {
            let question = Query::query(name.clone(), record_type);
            if let Some(found) = self.hosts.lookup_static_host(&question) {
                let found = found.answers().iter();
                addresses.extend(found.filter_map(|record| record.data.ip_addr()));
            }
        }
        if addresses.is_empty() {
            None
        } else {
            Some(addresses)
        }
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().copied().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = ANSWER_WITHIN;
    options.attempts = 2;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.negative_max_ttl = Some(FORGET_ABSENCE_AFTER);
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

fn failure(error: &NetError) -> Failure {
    if error.is_no_records_found() {
        Failure::no_such_name()
    } else {
        Failure::dns_unanswered()
    }
}
