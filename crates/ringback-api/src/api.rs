//! What every route works with.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use ringback_metrics::Metrics;
use ringback_model::{AppId, Quotas, Retention, SubscriptionId, TargetPolicy};
use ringback_store::{Clock, HandOver, Hint, Membership, Store, Vault};

use crate::{
    auth::Keys,
    batcher::{Batcher, Flusher},
    error::ApiError,
    matching::Matching,
    quotas::Keeper,
    watch::Watch,
};

/// How the API behaves.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Which URLs may be registered.
    pub targets: TargetPolicy,
    /// What stands before the paths of links, like `https://hooks.example`; without it
    /// they are relative.
    pub public_url: Option<String>,
    /// How many connections are served at once; more wait to be accepted.
    pub max_connections: usize,
    /// How long a connection may take to send a request's headers, and how long it may
    /// stay open without one.
    pub header_timeout: Duration,
    /// How long requests that are under way may take to finish when the service stops.
    pub stop_timeout: Duration,
    /// How much each application may bring in that has no quotas of its own.
    pub quotas: Quotas,
    /// How long events are kept, and count for those.
    pub retention: Retention,
    /// What to count with, and to show at `/metrics`.
    pub metrics: Arc<Metrics>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            targets: TargetPolicy::default(),
            public_url: None,
            max_connections: 1024,
            header_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(15),
            quotas: Quotas::default(),
            retention: Retention::default(),
            metrics: Arc::default(),
        }
    }
}

/// The HTTP interface of one process. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

struct Parts {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    membership: Arc<Membership>,
    config: ApiConfig,
    batcher: Batcher,
    flusher: Arc<Flusher>,
    keys: Keys,
    matching: Matching,
    quotas: Keeper,
    watch: Watch,
}

impl Api {
    /// Makes one, and starts its batcher and its keeper of quotas: call it inside a
    /// runtime.
    ///
    /// - `hand_over`: the short way to a dispatcher in this process, if there is one.
    pub fn new(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        membership: Arc<Membership>,
        hand_over: Option<HandOver>,
        config: ApiConfig,
    ) -> Self {
        let quotas = Keeper::start(
            Arc::clone(&store) as _,
            membership.clock().clone(),
            Arc::clone(&config.metrics),
            config.quotas,
            config.retention,
        );
        let flusher = Arc::new(Flusher {
            accept: Arc::clone(&store) as _,
            hints: Arc::clone(&store) as _,
            membership: Arc::clone(&membership),
            hand_over,
            quotas: quotas.clone(),
            metrics: Arc::clone(&config.metrics),
            in_order: Default::default(),
        });
        Self(Arc::new(Parts {
            store,
            vault,
            membership,
            config,
            batcher: Batcher::start(Arc::clone(&flusher)),
            flusher,
            keys: Keys::default(),
            matching: Matching::default(),
            quotas,
            watch: Watch::default(),
        }))
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.0.vault
    }

    pub(crate) fn config(&self) -> &ApiConfig {
        &self.0.config
    }

    pub(crate) fn batcher(&self) -> &Batcher {
        &self.0.batcher
    }

    /// For what does not come from a caller, and is in batches already.
    pub(crate) fn flusher(&self) -> &Flusher {
        &self.0.flusher
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    pub(crate) fn matching(&self) -> &Matching {
        &self.0.matching
    }

    pub(crate) fn quotas(&self) -> &Keeper {
        &self.0.quotas
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.0.watch
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.config.metrics
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.0.membership.clock()
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock().now()
    }

    /// Whether this node may act: make ids, above all.
    pub(crate) fn has_lease(&self) -> bool {
        self.0.membership.lease().is_some()
    }

    /// A fresh id.
    pub(crate) fn next_id(&self) -> Result<i64, ApiError> {
        self.0
            .membership
            .next_id()
            .map(|(id, _)| id)
            .ok_or(ApiError::LeaseLost)
    }

    /// Says everywhere that a subscription is not as it was.
    pub(crate) fn subscription_changed(&self, app: AppId, subscription: SubscriptionId) {
        self.matching().changed(app);
        self.store().hint(Hint::Subscription(subscription));
    }

    /// Says everywhere that an application and its subscriptions are gone.
    pub(crate) fn app_deleted(&self, app: AppId) {
        self.matching().changed(app);
        self.keys().forget_bound_to(app);
        self.store().hint(Hint::Everything);
    }

    /// A link to a path of ours.
    pub(crate) fn link(&self, path_and_query: &str) -> String {
        let base = self.config().public_url.as_deref().unwrap_or_default();
        format!("{}{path_and_query}", base.trim_end_matches('/'))
    }
}
