//! Which subscriptions an event goes to.
//!
//! Kept in memory per application, under the version it was read at. The store
//! accepts an event only while that version is the present one, so what is kept here
//! may be old, but never wrong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{AppId, EventType, OrderKey, Ordering};
use ringback_store::{Accept, AppRef, AppRoutes, NewDelivery};

use crate::{cache::Cache, error::ApiError};

const KEPT_APPS: usize = 10_000;
/// Forgetting now and then is for memory only.
const KEEP: TimeDelta = TimeDelta::hours(1);
/// Per application: event types, and deliveries in all of their lists together.
const KEPT_TYPES: usize = 1_000;
const KEPT_DELIVERIES: usize = 1_000_000;

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
        let read = async {
            match accept.routes(app).await? {
                Some(routes) => Ok(Arc::new(Matcher::new(routes))),
                None => Err(ApiError::not_found("application")),
            }
        };
        let matcher = self.apps.get_or_read(app, now, read).await;
        if let Err(ApiError::NotFound { .. }) = matcher {
            self.apps.remove(app);
        }
        matcher
    }

    /// Forgets what was read of `app`, under its id and its slug.
    pub(crate) fn forget(&self, app: AppId) {
        self.apps.forget(|matcher| matcher.app() == app);
    }

    /// Forgets just this version: another caller may have read a newer one already.
    pub(crate) fn forget_version(&self, stale: &Arc<Matcher>) {
        self.apps.forget(|matcher| Arc::ptr_eq(matcher, stale));
    }
}

/// One application's subscriptions, at one version.
pub(crate) struct Matcher {
    routes: AppRoutes,
    matched: Mutex<Matched>,
}

/// The answers given so far.
#[derive(Default)]
struct Matched {
    by_type: HashMap<EventType, Arc<[NewDelivery]>>,
    deliveries: usize,
}

impl Matcher {
    fn new(routes: AppRoutes) -> Self {
        Self {
            routes,
            matched: Mutex::default(),
        }
    }

    pub(crate) fn app(&self) -> AppId {
        self.routes.app
    }

    pub(crate) fn version(&self) -> i64 {
        self.routes.version
    }

    /// A delivery for each subscription that wants such an event.
    pub(crate) fn deliveries(
        &self,
        event_type: &EventType,
        ordering_key: Option<&str>,
    ) -> Vec<NewDelivery> {
        let mut deliveries = self.of_type(event_type).to_vec();
        if let Some(key) = ordering_key {
            let order = OrderKey::of(Ordering::Fifo, Some(key));
            for delivery in &mut deliveries {
                delivery.order = delivery.order.and(order);
            }
        }
        deliveries
    }

    /// As for an event without an ordering key.
    fn of_type(&self, event_type: &EventType) -> Arc<[NewDelivery]> {
        let mut matched = self.matched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(deliveries) = matched.by_type.get(event_type) {
            return Arc::clone(deliveries);
        }
        let deliveries = self.find(event_type);
        matched.deliveries += deliveries.len();
        if matched.by_type.len() >= KEPT_TYPES || matched.deliveries > KEPT_DELIVERIES {
            *matched = Matched {
                deliveries: deliveries.len(),
                ..Matched::default()
            };
        }
        matched
            .by_type
            .insert(event_type.clone(), Arc::clone(&deliveries));
        deliveries
    }

    fn find(&self, event_type: &EventType) -> Arc<[NewDelivery]> {
        let wanted = self.routes.routes.iter().filter(|route| {
            route
                .event_types
                .iter()
                .any(|pattern| pattern.matches(event_type))
        });
        let delivery = |route: &ringback_store::Route| NewDelivery {
            subscription: route.subscription,
            lane: route.lane,
            order: OrderKey::of(route.ordering, None),
            held: route.held,
        };
        wanted.map(delivery).collect()
    }
}

#[cfg(test)]
mod tests {
    use ringback_model::{Lane, SubscriptionId};
    use ringback_store::Route;

    use super::*;

    fn route(id: i64, patterns: &[&str], held: bool) -> Route {
        let event_types = patterns
            .iter()
            .map(|pattern| pattern.parse().unwrap())
            .collect();
        let subscription = SubscriptionId::new(id);
        Route {
            subscription,
            lane: Lane::of(subscription),
            event_types,
            ordering: Ordering::None,
            held,
        }
    }

    #[test]
    fn an_event_goes_once_to_each_subscription_that_wants_its_type() {
        let routes = vec![
            route(1, &["*"], false),
            route(2, &["order.*", "order.paid"], true),
            route(3, &["refund.created"], false),
        ];
        let matcher = Matcher::new(AppRoutes {
            app: AppId::new(1),
            version: 1,
            routes,
        });
        let cases: [(&str, &[(i64, bool)]); 3] = [
            ("order.paid", &[(1, false), (2, true)]),
            ("refund.created", &[(1, false), (3, false)]),
            ("order", &[(1, false)]),
        ];
        for (event_type, expected) in cases {
            for _ in ["read", "kept"] {
                let deliveries = matcher.deliveries(&event_type.parse().unwrap(), None);
                let found: Vec<_> = deliveries
                    .iter()
                    .map(|one| (one.subscription.get(), one.held))
                    .collect();
                assert_eq!(found, expected, "{event_type}");
            }
        }
    }

    #[test]
    fn only_subscriptions_that_ask_for_order_get_the_events_key() {
        let ordered = Route {
            ordering: Ordering::Fifo,
            ..route(1, &["*"], false)
        };
        let matcher = Matcher::new(AppRoutes {
            app: AppId::new(1),
            version: 1,
            routes: vec![ordered, route(2, &["*"], false)],
        });
        for key in [Some("order-1042"), None, Some("order-1043")] {
            let deliveries = matcher.deliveries(&"order.paid".parse().unwrap(), key);
            let orders: Vec<_> = deliveries.iter().map(|one| one.order).collect();
            assert_eq!(orders, [OrderKey::of(Ordering::Fifo, key), None]);
        }
    }

    #[test]
    fn what_is_kept_stays_bounded() {
        let routes = vec![route(1, &["*"], false)];
        let matcher = Matcher::new(AppRoutes {
            app: AppId::new(1),
            version: 1,
            routes,
        });
        for number in 0..3 * KEPT_TYPES {
            let deliveries = matcher.deliveries(&format!("type.{number}").parse().unwrap(), None);
            assert_eq!(deliveries.len(), 1);
            assert!(matcher.matched.lock().unwrap().by_type.len() <= KEPT_TYPES);
        }
    }
}
