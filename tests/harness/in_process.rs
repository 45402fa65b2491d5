//! A service in this process, wired as the binary does, with a manual clock.

use std::{
    fmt::Debug,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

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
use serde_json::Value;
use tokio::{net::TcpListener, pin, select, time::sleep};

use super::{Api, eventually};

/// What passes on the clock while a test looks again: results that have to be written
/// wait for as long after the last.
const WHILE: Duration = Duration::from_millis(5);

/// A running service on a fresh database; deliveries may go to this machine.
pub(crate) struct Ringback {
    /// Talks to it, with an admin's key.
    pub(crate) api: Api,
    /// Its clock: nothing happens by itself until it is moved.
    pub(crate) clock: Clock,
    /// Its store.
    pub(crate) store: TestStore,
    service: Service,
    vault: Arc<Vault>,
    targets: TargetPolicy,
}

impl Ringback {
    /// Starts it, at [`seed::START`].
    pub(crate) async fn start(store: TestStore) -> Self {
        Self::start_with(store, open_policy(), |_| {}).await
    }

    /// Starts it at the present time, so that judges take what it signs for fresh.
    pub(crate) async fn start_now(store: TestStore) -> Self {
        let now = store.now().await.unwrap();
        Self::start_at(store, now, open_policy(), |_| {}).await
    }

    /// Starts it with another address policy and other settings.
    pub(crate) async fn start_with(
        store: TestStore,
        targets: TargetPolicy,
        change: impl FnOnce(&mut ServiceConfig),
    ) -> Self {
        Self::start_at(store, seed::START, targets, change).await
    }

    async fn start_at(
        store: TestStore,
        now: DateTime<Utc>,
        targets: TargetPolicy,
        change: impl FnOnce(&mut ServiceConfig),
    ) -> Self {
        let clock = Clock::manual(now);
        let vault = Arc::new(Vault::new(&MasterKey::generate().unwrap(), &[]));
        let service = node("test", &store, &vault, &clock, &targets, change).await;
        let admin = [Scope::Admin].into_iter().collect();
        let (_, key) = keys::create(&*store, "test", admin, None).await.unwrap();
        Self {
            api: Api::new(base_of(&service), key),
            clock,
            store,
            service,
            vault,
            targets,
        }
    }

    /// Kills it, wherever it stands, and starts it anew. Under its old name, `test`, it
    /// takes up its lanes at once; under another it has to wait until the lease has ended.
    pub(crate) async fn killed_and_started_as(self, name: &str) -> Self {
        let Self {
            api,
            clock,
            store,
            service,
            vault,
            targets,
        } = self;
        // Its tasks are cut off where they wait; statements under way go on by themselves.
        drop(service);
        // No process starts within the millisecond in which another made its last id.
        clock.advance(Duration::from_millis(1));
        let service = node(name, &store, &vault, &clock, &targets, |_| {}).await;
        Self {
            api: Api::new(base_of(&service), api.key().to_owned()),
            clock,
            store,
            service,
            vault,
            targets,
        }
    }

    /// Moves the clock.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Moves the clock, and waits until the service has its lease again.
    pub(crate) async fn later(&self, time: Duration) {
        self.pass(time);
        let looks = AtomicU32::new(1);
        eventually("the service is ready", async || {
            let answer = self.api.get("/readyz").await;
            if answer.status == 200 {
                return Ok(());
            }
            // A heartbeat that was under way when the clock moved is out of date already:
            // the next one needs its time. Most were not, and tests count on the time.
            if looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
                self.pass(Duration::from_secs(1));
            }
            Err(answer.text)
        })
        .await;
    }

    /// Moves the clock to `time`, and waits until the service has its lease again.
    pub(crate) async fn later_at(&self, time: DateTime<Utc>) {
        self.later((time - self.clock.now()).to_std().unwrap_or_default())
            .await;
    }

    /// Looks until `look` finds what it is looking for. A little time passes meanwhile.
    pub(crate) async fn eventually<T, E: Debug, F>(
        &self,
        what: &str,
        mut look: impl FnMut() -> F,
    ) -> T
    where
        F: Future<Output = Result<T, E>>,
    {
        let look = || {
            let found = look();
            async {
                let found = found.await;
                if found.is_err() {
                    self.pass(WHILE);
                }
                found
            }
        };
        eventually(what, look).await
    }

    /// The one delivery of an event to a subscription, once it is in `status`.
    pub(crate) async fn delivery_in(&self, status: &str, event: &str, subscription: &str) -> Value {
        self.eventually(&format!("the delivery is {status}"), async || {
            let delivery = self.api.delivery(event, subscription).await;
            if delivery["status"] == status {
                Ok(delivery)
            } else {
                Err(delivery)
            }
        })
        .await
    }

    /// That delivery, once so many attempts have been made and what follows is known.
    pub(crate) async fn delivery_after(
        &self,
        attempts: u64,
        event: &str,
        subscription: &str,
    ) -> Value {
        self.eventually(&format!("{attempts} attempts are recorded"), async || {
            let delivery = self.api.delivery(event, subscription).await;
            if delivery["attempts"] == attempts {
                Ok(delivery)
            } else {
                Err(delivery)
            }
        })
        .await
    }

    /// Stops it gracefully.
    pub(crate) async fn stop(self) -> TestStore {
        let stopping = self.service.stop();
        pin!(stopping);
        loop {
            select! {
                () = &mut stopping => return self.store,
                // A stop takes time as well, which here only we let pass.
                () = sleep(WHILE) => self.clock.advance(WHILE),
            }
        }
    }

    /// Stops it gracefully, and asserts that no delivery is left with its first attempt
    /// to come.
    pub(crate) async fn finish(self) {
        let store = self.stop().await;
        assert_eq!(
            store.count("ringback.outbox", "").await,
            0,
            "deliveries are left pending"
        );
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

async fn node(
    name: &str,
    store: &TestStore,
    vault: &Arc<Vault>,
    clock: &Clock,
    targets: &TargetPolicy,
    change: impl FnOnce(&mut ServiceConfig),
) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api_config = ApiConfig {
        targets: targets.clone(),
        ..ApiConfig::default()
    };
    let mut config = ServiceConfig {
        node_name: name.to_owned(),
        api: Some((listener, api_config)),
        dispatcher: Some(DispatcherConfig::default()),
        egress: EgressConfig {
            targets: targets.clone(),
            ..EgressConfig::default()
        },
    };
    change(&mut config);
    Service::start(config, store.shared(), Arc::clone(vault), clock.clone())
        .await
        .unwrap()
}

fn base_of(service: &Service) -> String {
    format!("http://{}", service.api_addr().unwrap())
}
