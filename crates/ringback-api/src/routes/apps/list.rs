//! `GET /v1/apps`

use axum::{extract::State, response::Response};
use http::Uri;
use ringback_model::AppId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::AppView;
use crate::{
    Api,
    auth::Caller,
    error::ApiError,
    list::{List, PageOf},
    query::QueryOf,
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

/// List applications, newest first
#[utoipa::path(
    get,
    path = "/v1/apps",
    tag = "applications",
    operation_id = "list_apps",
    params(Page),
    responses((status = 200, description = "One page.", body = List<AppView>))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    QueryOf(query): QueryOf<Page>,
) -> Result<Response, ApiError> {
    let page = PageOf::read(&uri, query.limit.as_deref(), query.cursor.as_deref())?;
    let before = page.before.map_or(AppId::MAX, |[id]| AppId::new(id));
    let apps = api
        .store()
        .apps(caller.within(), before, page.and_one_more())
        .await?;
    page.answer_first(
        &api,
        apps,
        |app| app.id.get(),
        |app| Ok(AppView::new(&api, app)),
    )
}
