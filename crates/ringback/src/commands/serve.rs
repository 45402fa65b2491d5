//! `ringback serve`: runs the service until it is told to stop.

use std::sync::Arc;

use anyhow::{Context, bail};
use ringback_api::ApiConfig;
use ringback_dispatcher::DispatcherConfig;
use ringback_egress::EgressConfig;
use ringback_model::{AddressPolicy, TargetPolicy};
use ringback_store::Clock;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    database::{self, Database},
    secrets,
    service::{Service, ServiceConfig},
    settings::{DatabaseUrl, Role, Settings},
};

/// Runs until SIGTERM or SIGINT, then stops gracefully; a second signal ends at once.
///
/// # Errors
///
/// If it cannot start.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let vault = Arc::new(secrets::vault(settings)?);
    let url = settings.database()?;
    if matches!(url, DatabaseUrl::Sqlite(_))
        && !(settings.has_role(Role::Api) && settings.has_role(Role::Dispatcher))
    {
        bail!(
            "SQLite is for one process that does everything: leave `roles` out, or use PostgreSQL"
        );
    }
    let _lock = database::lock_for_server(&url)?;
    let database = Database::open_keeping(&url, settings.retention()?).await?;
    for name in database.migrate().await? {
        tracing::info!(migration = name, "the schema was brought up");
    }
    let store = database.store();
    let clock = Clock::running(store.now().await?);
    let listener = bind(settings).await?;
    let mut service = Service::start(config(settings, listener)?, store, vault, clock).await?;
    let mut signals = StopSignals::new()?;
    announce(settings, &url, &service);
    tokio::select! {
        () = signals.next() => {}
        () = service.broken() => bail!("the service is broken: its log says why"),
    }
    tracing::info!("stopping: what is under way ends first");
    tokio::select! {
        () = service.stop() => {}
        () = signals.next() => bail!("stopped at once, by a second signal"),
    }
    database.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// The address policy that the settings make.
pub fn target_policy(settings: &Settings) -> TargetPolicy {
    let allow = settings.egress_allow_cidr.clone().unwrap_or_default();
    let deny = settings.egress_deny_cidr.clone().unwrap_or_default();
    TargetPolicy {
        addresses: AddressPolicy::new(allow, deny),
        allow_http: settings.egress_allow_http.unwrap_or(false),
        ..TargetPolicy::default()
    }
}

/// What the settings make of a service.
///
/// # Errors
///
/// If the machine has no name to give the node.
pub fn config(settings: &Settings, listener: Option<TcpListener>) -> anyhow::Result<ServiceConfig> {
    let targets = target_policy(settings);
    let node_name = match (&settings.node_name, &listener) {
        (Some(name), _) => name.clone(),
        (None, Some(listener)) => format!("{}:{}", host_name()?, listener.local_addr()?.port()),
        // Without a port there is nothing that tells two such processes apart for good.
        (None, None) => format!("{}:process-{}", host_name()?, std::process::id()),
    };
    let api = ApiConfig {
        targets: targets.clone(),
        public_url: settings.public_url.clone(),
        quotas: settings.quotas()?,
        retention: settings.retention()?,
        ..ApiConfig::default()
    };
    let mut dispatcher = DispatcherConfig::default();
    if let Some(max_in_flight) = settings.max_in_flight {
        dispatcher.max_in_flight = max_in_flight;
    }
    if let Some(max_in_flight_per_host) = settings.max_in_flight_per_host {
        dispatcher.max_in_flight_per_host = max_in_flight_per_host;
    }
    Ok(ServiceConfig {
        node_name,
        api: listener.map(|listener| (listener, api)),
        dispatcher: settings.has_role(Role::Dispatcher).then_some(dispatcher),
        egress: EgressConfig {
            targets,
            dns_servers: settings.egress_dns.clone().unwrap_or_default(),
            ..EgressConfig::default()
        },
    })
}

/// SIGTERM and SIGINT: until this is made, they end the process at once.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Listens for them from now on.
    ///
    /// # Errors
    ///
    /// If signals cannot be listened for.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when the process is asked to stop.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn bind(settings: &Settings) -> anyhow::Result<Option<TcpListener>> {
    if !settings.has_role(Role::Api) {
        return Ok(None);
    }
    let address = settings.listen();
    let listener = TcpListener::bind(address).await;
    Ok(Some(
        listener.with_context(|| format!("cannot listen on {address}"))?,
    ))
}

fn announce(settings: &Settings, url: &DatabaseUrl, service: &Service) {
    // What opens the address guard is said at every start, so that nobody forgets it.
    for range in settings.egress_allow_cidr.iter().flatten() {
        tracing::warn!(%range, "deliveries may go to this range: it was opened by a setting");
    }
    if settings.egress_allow_http == Some(true) {
        tracing::warn!("deliveries may go over plain http: it was opened by a setting");
    }
    let database = format!("{url:?}");
    match service.api_addr() {
        Some(address) => tracing::info!(%address, database, "ready"),
        None => tracing::info!(database, "ready"),
    }
}

fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .context("this machine has no name: give --node-name")?;
    Ok(name.trim().to_owned())
}
