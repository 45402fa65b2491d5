//! Which subscriptions an event goes to.
//!
//! Kept in memory per application, under the version it was read at. The store
//! accepts an event only while that version is the present one, so what is kept here
//! may be old, but never wrong.
//!
//! Read whole once; later only what changed since. Matching costs as much as there are
//! matches, and so does a change: see [`index::Index`].

mod group;
mod index;
mod interner;

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{self as model, AppId, EventFields, OrderKey};
use ringback_store::{Accept, AppRef, AppRoutes, NewDelivery, StoreError};

use self::index::Index;
use crate::{cache::Cache, error::ApiError};

const KEPT_APPS: usize = 10_000;
/// Forgetting now and then is for memory only.
const KEEP: TimeDelta = TimeDelta::hours(1);

/// The applications that events came for lately.
pub(crate) struct Matching {
    apps: Cache<AppRef, Arc<Matcher>>,
}

impl Default for Matching {
    fn default() -> Self {
        Self {
            apps: Cache::new(KEPT_APPS, KEEP),
        }
    }
}

impl Matching {
    /// What to match the events of `app` with; 404 if there is no such application.
    pub(crate) async fn app(
        &self,
        accept: &dyn Accept,
        app: &AppRef,
        now: DateTime<Utc>,
    ) -> Result<Arc<Matcher>, ApiError> {
        loop {
            let read = async {
                match accept.routes(app).await? {
                    Some(routes) => Ok(Arc::new(Matcher::new(routes))),
                    None => Err(ApiError::not_found("application")),
                }
            };
            let matcher = match self.apps.get_or_read(app, now, read).await {
                Err(error @ ApiError::NotFound { .. }) => {
                    self.apps.remove(app);
                    return Err(error);
                }
                other => other?,
            };
            if matcher.catch_up(accept, app).await? {
                return Ok(matcher);
            }
            // It is gone, or another has its slug: reading anew tells.
            self.apps.remove(app);
        }
    }

    /// Says that `app` or one of its subscriptions changed: what changed is read before
    /// the next event is matched.
    pub(crate) fn changed(&self, app: AppId) {
        self.apps.visit(|matcher| {
            if matcher.app() == app {
                matcher.hear();
            }
        });
    }
}

/// One application's subscriptions. They are at one version at a time.
pub(crate) struct Matcher {
    app: AppId,
    index: RwLock<Index>,
    /// Counts what was heard of changes,
    heard: AtomicU64,
    /// and how much of that is in the index for sure.
    known: AtomicU64,
    /// Whoever reads what changed; the others wait for it.
    catching_up: tokio::sync::Mutex<()>,
}

/// Where an event goes, at this version of its application.
pub(crate) struct Matched {
    pub(crate) version: i64,
    /// As for an event without an ordering key.
    pub(crate) deliveries: Arc<[NewDelivery]>,
}

impl Matched {
    /// The deliveries of an event with this ordering key.
    pub(crate) fn in_order(&self, key: Option<&str>) -> Vec<NewDelivery> {
        let mut deliveries = self.deliveries.to_vec();
        if let Some(key) = key {
            let order = OrderKey::of(model::Ordering::Fifo, Some(key));
            for delivery in &mut deliveries {
                delivery.order = delivery.order.and(order);
            }
        }
        deliveries
    }
}

impl Matcher {
    fn new(routes: AppRoutes) -> Self {
        Self {
            app: routes.app,
            index: RwLock::new(Index::new(routes.version, routes.routes)),
            heard: AtomicU64::new(0),
            known: AtomicU64::new(0),
            catching_up: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn app(&self) -> AppId {
        self.app
    }

    /// A delivery for each subscription that wants the event.
    pub(crate) fn matched(&self, event: &EventFields<'_>) -> Matched {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        Matched {
            version: index.version(),
            deliveries: index.deliveries(event),
        }
    }

    /// Says that `version` is no longer the present one. Of many callers that were told
    /// so at once, only the first matters.
    pub(crate) fn outdated(&self, version: i64) {
        if self.version() == version {
            self.hear();
        }
    }

    fn version(&self) -> i64 {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.version()
    }

    fn hear(&self) {
        self.heard.fetch_add(1, Ordering::AcqRel);
    }

    /// Reads what changed, if anything was heard of that. `false` if `app` is no longer
    /// the name of this application.
    async fn catch_up(&self, accept: &dyn Accept, app: &AppRef) -> Result<bool, StoreError> {
        // What is heard while it is read may not be in there: that is for the next.
        if self.known.load(Ordering::Acquire) == self.heard.load(Ordering::Acquire) {
            return Ok(true);
        }
        let _turn = self.catching_up.lock().await;
        let heard = self.heard.load(Ordering::Acquire);
        if self.known.load(Ordering::Acquire) == heard {
            return Ok(true);
        }
        let changes = accept.routes_since(app, self.version()).await?;
        let Some(changes) = changes.filter(|changes| changes.app == self.app) else {
            return Ok(false);
        };
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.apply(changes);
        self.known.store(heard, Ordering::Release);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
