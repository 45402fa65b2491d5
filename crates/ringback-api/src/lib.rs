//! The HTTP interface.
//!
//! Everything is read from and written to the store; nothing here calls out. Events
//! are accepted through the [`batcher`]: no handler owns a write, since it is dropped
//! when its client goes away.
//!
//! Every refusal is an [`error::ApiError`], answered as a problem document. A key that
//! is bound to an application sees only that: anything else is answered exactly as if
//! it did not exist.

mod api;
pub use api::{Api, ApiConfig};

mod request;
mod router;
mod server;

mod routes;

mod api_key;
pub use api_key::new_api_key;
mod auth;
mod idempotency;
mod peer;
pub use peer::Peer;

mod batcher;
mod emitted;
mod matching;
mod quotas;

mod watch;

mod body;
mod cursor;
mod etag;
mod faults;
mod json;
mod list;
mod patch;
mod query;

mod cache;
mod error;
mod problem;
mod suggest;

mod openapi;
pub use openapi::openapi_json;
mod docs_page;

use axum::Router;
use ringback_model::Scope::{
    Admin, DeliveriesRead, EventsWrite, Replay, SubscriptionsRead, SubscriptionsWrite,
};
use router::Routes;
use routes::{apps, deliveries, events, keys, subscriptions, system};

impl Api {
    /// All routes, as one service.
    pub fn router(&self) -> Router {
        routes().finish(self)
    }
}

#[rustfmt::skip]
fn routes() -> Routes {
    Routes::default()
        .post("/v1/apps", Admin, apps::create)
        .list("/v1/apps", SubscriptionsRead, apps::list)
        .get("/v1/apps/{app}", SubscriptionsRead, apps::get)
        .patch("/v1/apps/{app}", Admin, apps::update)
        .delete("/v1/apps/{app}", Admin, apps::delete)

        .post("/v1/apps/{app}/subscriptions", SubscriptionsWrite, subscriptions::create)
        .list("/v1/apps/{app}/subscriptions", SubscriptionsRead, subscriptions::list)
        .get("/v1/subscriptions/{sub}", SubscriptionsRead, subscriptions::get)
        .patch("/v1/subscriptions/{sub}", SubscriptionsWrite, subscriptions::update)
        .delete("/v1/subscriptions/{sub}", SubscriptionsWrite, subscriptions::delete)
        .post("/v1/subscriptions/{sub}/pause", SubscriptionsWrite, subscriptions::pause)
        .post("/v1/subscriptions/{sub}/resume", SubscriptionsWrite, subscriptions::resume)
        .post("/v1/subscriptions/{sub}/rotate-secret", SubscriptionsWrite, subscriptions::rotate_secret)
        .get("/v1/subscriptions/{sub}/secret", SubscriptionsWrite, subscriptions::secret)

        .emit("/v1/events", EventsWrite, events::publish)
        .emit("/v1/events/batch", EventsWrite, events::publish_batch)
        .list("/v1/events", DeliveriesRead, events::list)
        .get("/v1/events/{evt}", DeliveriesRead, events::get)

        .list("/v1/deliveries", DeliveriesRead, deliveries::list)
        .get("/v1/deliveries/{dlv}", DeliveriesRead, deliveries::get)
        .get("/v1/deliveries/{dlv}/attempts", DeliveriesRead, deliveries::attempts)
        .post("/v1/deliveries/{dlv}/replay", Replay, deliveries::replay)
        .post("/v1/deliveries/{dlv}/cancel", Replay, deliveries::cancel)

        .post("/v1/keys", Admin, keys::create)
        .list("/v1/keys", Admin, keys::list)
        .delete("/v1/keys/{key}", Admin, keys::revoke)

        .open("/livez", system::livez)
        .open("/readyz", system::readyz)
        .local("/metrics", Admin, system::metrics)
        .open("/openapi.json", system::openapi)
        .open("/docs", system::docs)
        .open("/problems/{slug}", system::problem)
}
