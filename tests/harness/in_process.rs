//! A service in this process, wired as the binary does, with a manual clock.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use ringback::{
    commands::keys,
    service::{Service, ServiceConfig},
};
use ringback_api::ApiConfig;
use ringback_dispatcher::DispatcherConfig;
use ringback_egress::EgressConfig;
use ringback_model::{AddressPolicy, Scope, TargetPolicy};
use ringback_store::{Clock, MasterKey, Vault};
use ringback_testkit::{TestStore, seed};
use tokio::net::TcpListener;

use super::Api;

/// A running service on a fresh database; deliveries may go to this machine.
pub(crate) struct Ringback {
    /// Talks to it, with an admin's key.
    pub(crate) api: Api,
    /// Its clock: nothing happens by itself until it is moved.
    pub(crate) clock: Clock,
    /// Its store.
    pub(crate) store: TestStore,
    service: Service,
}

impl Ringback {
    /// Starts it, at [`seed::START`].
    pub(crate) async fn start(store: TestStore) -> Self {
        Self::start_with(store, open_policy(), |_| {}).await
    }

    /// Starts it with another address policy and other settings.
    pub(crate) async fn start_with(
        store: TestStore,
        targets: TargetPolicy,
        change: impl FnOnce(&mut ServiceConfig),
    ) -> Self {
        let clock = Clock::manual(seed::START);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api_config = ApiConfig { targets: targets.clone(), ..ApiConfig::default() };
        let mut config = ServiceConfig {
            node_name: "test".to_owned(),
            api: Some((listener, api_config)),
            dispatcher: Some(DispatcherConfig::default()),
            egress: EgressConfig { targets, ..EgressConfig::default() },
        };
        change(&mut config);
        let vault = Arc::new(Vault::new(&MasterKey::generate().unwrap(), &[]));
        let service =
            Service::start(config, store.shared(), vault, clock.clone()).await.unwrap();
        let base = format!("http://{}", service.api_addr().unwrap());
        let admin = [Scope::Admin].into_iter().collect();
        let (_, key) = keys::create(&*store, "test", admin, None).await.unwrap();
        Self { api: Api::new(base, key), clock, store, service }
    }

    /// Moves the clock.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Moves the clock to `time`, which an API answer named.
    pub(crate) fn pass_until(&self, time: &str) {
        let time: DateTime<Utc> = time.parse().unwrap();
        self.pass((time - self.clock.now()).to_std().unwrap_or_default());
    }

    /// Stops it gracefully.
    pub(crate) async fn stop(self) -> TestStore {
        self.service.stop().await;
        self.store
    }
}

/// Opens loopback and plain http.
pub(crate) fn open_policy() -> TargetPolicy {
    let loopback = ["127.0.0.0/8", "::1/128"].map(|range| range.parse().unwrap());
    TargetPolicy {
        addresses: AddressPolicy::new(loopback.to_vec(), Vec::new()),
        allow_http: true,
        allow_any_port: true,
    }
}
