//! `GET /v1/apps/{app}/subscriptions`

use axum::{extract::State, response::Response};
use http::Uri;
use ringback_model::SubscriptionId;
use ringback_store::AppRef;
use serde::Deserialize;
use utoipa::IntoParams;

use super::view::SubscriptionView;
use crate::{
    Api,
    auth::Caller,
    error::ApiError,
    list::{List, PageOf},
    query::QueryOf,
    routes::path::{Named, visible_app},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// 1 to 200 items on a page; 50 if left out.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List an application's subscriptions, newest first
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/subscriptions",
    tag = "subscriptions",
    operation_id = "list_subscriptions",
    params(("app" = String, Path, description = "The application's id or slug."), Page),
    responses((status = 200, description = "One page.", body = List<SubscriptionView>))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Named(app): Named<AppRef>,
    uri: Uri,
    QueryOf(query): QueryOf<Page>,
) -> Result<Response, ApiError> {
    let page = PageOf::read(&uri, query.limit.as_deref(), query.cursor.as_deref())?;
    let app = visible_app(&api, &caller, &app).await?;
    let before = page
        .before
        .map_or(SubscriptionId::MAX, |[id]| SubscriptionId::new(id));
    let found = api
        .store()
        .subscriptions(app.id, before, page.and_one_more())
        .await?;
    page.answer_first(
        &api,
        found,
        |one| one.id.get(),
        |one| SubscriptionView::of(&api, one),
    )
}
