//! Subscriptions: an application's standing wish to have events sent to a URL.

pub(crate) mod create;
pub(crate) use create::create;
pub(crate) mod list;
pub(crate) use list::list;
pub(crate) mod get;
pub(crate) use get::get;
pub(crate) mod update;
pub(crate) use update::update;
pub(crate) mod delete;
pub(crate) use delete::delete;
pub(crate) mod pause;
pub(crate) use pause::{pause, resume};
pub(crate) mod secret;
pub(crate) use secret::{rotate_secret, secret};

mod config;
pub(crate) use config::{is_credential, open_headers};
mod view;

use ringback_model::SubscriptionId;
use ringback_store::Subscription;

use crate::{Api, auth::Caller, error::ApiError, etag::ETag};

/// The subscription, if it is there and the caller sees it.
async fn visible(api: &Api, caller: &Caller, id: SubscriptionId) -> Result<Subscription, ApiError> {
    let found = api.store().subscription(id, caller.within()).await?;
    found.ok_or(ApiError::not_found("subscription"))
}

fn etag(subscription: &Subscription) -> ETag {
    ETag::of_version(subscription.version, subscription.updated_at)
}

/// What a subscription's signing secrets are sealed for.
fn secret_context(id: SubscriptionId) -> String {
    format!("secret:{id}")
}

/// What a subscription's own headers are sealed for.
fn headers_context(id: SubscriptionId) -> String {
    format!("headers:{id}")
}
