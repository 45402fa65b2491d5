//! What stands in paths.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use ringback_model::{AppId, DeliveryId, EventId, KeyId, SubscriptionId};
use ringback_store::AppRef;

use crate::{Api, auth::Caller, error::ApiError};

/// The one variable part of a path. What cannot be the name of a thing is the name of
/// nothing: 404, like a name that nothing has.
pub(crate) struct Named<T>(pub(crate) T);

/// What is named in paths.
pub(crate) trait Noun: Sized {
    const NOUN: &'static str;

    fn parse(text: &str) -> Option<Self>;
}

macro_rules! noun {
    ($type:ty, $noun:literal) => {
        impl Noun for $type {
            const NOUN: &'static str = $noun;

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    };
}

noun!(SubscriptionId, "subscription");
noun!(EventId, "event");
noun!(DeliveryId, "delivery");
noun!(KeyId, "key");

impl Noun for AppRef {
    const NOUN: &'static str = "application";

    fn parse(text: &str) -> Option<Self> {
        app_ref(text)
    }
}

impl<T: Noun> FromRequestParts<Api> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let text = Path::<String>::from_request_parts(parts, api).await;
        let named = text.ok().and_then(|Path(text)| T::parse(&text));
        named.map(Self).ok_or(ApiError::not_found(T::NOUN))
    }
}

/// An application's id or slug.
pub(crate) fn app_ref(text: &str) -> Option<AppRef> {
    match AppId::from_str(text) {
        Ok(id) => Some(AppRef::Id(id)),
        Err(_) => text.parse().ok().map(AppRef::Slug),
    }
}

/// The application, if it is there and the caller sees it.
pub(crate) async fn visible_app(
    api: &Api,
    caller: &Caller,
    app: &AppRef,
) -> Result<ringback_store::App, ApiError> {
    let app = api
        .store()
        .app(app)
        .await?
        .filter(|app| caller.sees(app.id));
    app.ok_or(ApiError::not_found("application"))
}

/// The application that a list is to be filtered by. An id is taken as it is, since
/// what a deleted application was sent can still be looked up; a slug must be one.
pub(crate) async fn app_filter(
    api: &Api,
    caller: &Caller,
    text: Option<&str>,
) -> Result<Option<AppId>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    match app_ref(text) {
        Some(AppRef::Id(id)) => Ok(Some(id)),
        Some(slug) => visible_app(api, caller, &slug)
            .await
            .map(|app| Some(app.id)),
        None => Err(ApiError::bad_parameter(
            "app",
            "is an application's id or slug",
        )),
    }
}
