//! A running service: its roles, wired together over one store.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use chrono::{DateTime, Utc};
use ringback_api::{Api, ApiConfig};
use ringback_dispatcher::{Dispatcher, DispatcherConfig};
use ringback_egress::{Egress, EgressConfig};
use ringback_metrics::Metrics;
use ringback_store::{Clock, Membership, Store, StoreError, Vault, handover};
use tokio::{
    net::TcpListener,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// How many accepted events may wait in memory to be taken over by the dispatcher.
const HAND_OVER_CAPACITY: usize = 16_384;
/// How often the days ahead are made ready, and old ones ended.
const TEND_EVERY: Duration = Duration::from_secs(3600);
/// How soon that is tried again when it failed.
const TEND_AGAIN: Duration = Duration::from_secs(10);

/// What a service is made of.
pub struct ServiceConfig {
    /// This process's name among the nodes.
    pub node_name: String,
    /// Where to answer HTTP, if this process does.
    pub api: Option<(TcpListener, ApiConfig)>,
    /// How to send, if this process does.
    pub dispatcher: Option<DispatcherConfig>,
    /// Where deliveries may go.
    pub egress: EgressConfig,
}

/// A running service.
pub struct Service {
    api_addr: Option<SocketAddr>,
    store: Arc<dyn Store>,
    membership: Arc<Membership>,
    shutdown: CancellationToken,
    roles: JoinSet<()>,
    upkeep: JoinSet<()>,
}

impl Service {
    /// Registers this process and starts its roles.
    ///
    /// # Errors
    ///
    /// If the store fails, or a role's configuration cannot be.
    pub async fn start(
        config: ServiceConfig,
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        store.tend(clock.now()).await?;
        let dispatching = config.dispatcher.is_some();
        let membership =
            Membership::join(&*store, &config.node_name, dispatching, clock.clone()).await?;
        let membership = Arc::new(membership);
        membership.beat(&*store).await?;

        let shutdown = CancellationToken::new();
        let mut roles = JoinSet::new();
        let mut hand_over = None;
        let metrics = Arc::new(Metrics::new());
        if let Some(mut dispatcher) = config.dispatcher {
            dispatcher.metrics = Arc::clone(&metrics);
            let (sender, receiver) = handover(HAND_OVER_CAPACITY);
            let egress = Egress::new(config.egress)?;
            let dispatcher = Dispatcher::new(
                Arc::clone(&store),
                Arc::clone(&vault),
                Arc::clone(&membership),
                receiver,
                egress,
                dispatcher,
            );
            roles.spawn(dispatcher.run(shutdown.clone()));
            hand_over = Some(sender);
        }
        let mut api_addr = None;
        if let Some((listener, mut api)) = config.api {
            api.metrics = metrics;
            api_addr = Some(
                listener
                    .local_addr()
                    .context("the listener has no address")?,
            );
            let api = Api::new(
                Arc::clone(&store),
                vault,
                Arc::clone(&membership),
                hand_over,
                api,
            );
            roles.spawn(api.serve(listener, shutdown.clone()));
        }
        let mut upkeep = JoinSet::new();
        upkeep.spawn(beat(Arc::clone(&membership), Arc::clone(&store)));
        upkeep.spawn(tend(Arc::clone(&store), clock));
        Ok(Self {
            api_addr,
            store,
            membership,
            shutdown,
            roles,
            upkeep,
        })
    }

    /// Where HTTP is answered, if it is.
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api_addr
    }

    /// Returns when a part of the service has ended by itself, which none should: the
    /// rest would go on accepting what nobody sends. Another process takes over what
    /// this one leaves.
    pub async fn broken(&mut self) {
        // Neither is ever empty while the service runs.
        tokio::select! {
            Some(ended) = self.roles.join_next() => log_end(ended),
            Some(ended) = self.upkeep.join_next() => log_end(ended),
        }
    }

    /// Stops gracefully: nothing new begins, what is under way ends, and the lease is
    /// given back.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.roles.join_next().await {
            if ended.is_err() {
                log_end(ended);
            }
        }
        self.upkeep.abort_all();
        if let Some(lease) = self.membership.lease()
            && let Err(error) = self
                .store
                .leave(&lease, self.membership.clock().now())
                .await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease runs out by itself"
            );
        }
    }
}

fn log_end(ended: Result<(), JoinError>) {
    match ended {
        Ok(()) => tracing::error!("a part of the service ended by itself"),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "a part of the service ended badly"
        ),
    }
}

async fn beat(membership: Arc<Membership>, store: Arc<dyn Store>) {
    membership.run(&*store).await;
}

/// The days ahead first: ending old ones may have to wait for others.
async fn upkeep(store: &dyn Store, now: DateTime<Utc>) -> Result<(), StoreError> {
    store.tend(now).await?;
    store.end_days(now).await
}

async fn tend(store: Arc<dyn Store>, clock: Clock) {
    loop {
        let now = clock.now();
        let wait = match upkeep(&*store, now).await {
            Ok(()) => TEND_EVERY,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "upkeep failed");
                TEND_AGAIN
            }
        };
        // From its beginning: what came due while it ran is not put off.
        clock.sleep_until(now + wait).await;
    }
}
