//! `GET /v1/events`

use axum::{extract::State, response::Response};
use http::Uri;
use ringback_model::EventId;
use ringback_store::EventFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::view::EventView;
use crate::{
    Api,
    auth::Caller,
    error::ApiError,
    list::{List, PageOf},
    query::{self, QueryOf},
    routes::path::app_filter,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// Of this application: its id or slug.
    app: Option<String>,
    /// Of this type, like `order.paid`, or of those below a prefix, like `order.*`.
    #[serde(rename = "type", alias = "event_type")]
    event_type: Option<String>,
    /// With this label: `name:value`.
    label: Option<String>,
    /// Accepted then or later: a time, or `2h` for so long ago.
    since: Option<String>,
    /// Accepted before then: a time, or `2h` for so long ago.
    until: Option<String>,
    /// 1 to 200 items on a page; 50 if left out.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List events, newest first
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    operation_id = "list_events",
    params(EventQuery),
    responses((status = 200, description = "One page.", body = List<EventView>))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    QueryOf(query): QueryOf<EventQuery>,
) -> Result<Response, ApiError> {
    let page = PageOf::read(&uri, query.limit.as_deref(), query.cursor.as_deref())?;
    let now = api.now();
    let filter = EventFilter {
        within: caller.within(),
        event_type: query::pattern("type", query.event_type.as_deref())?,
        label: query::label(query.label.as_deref())?,
        since: query::time("since", query.since.as_deref(), now)?,
        until: query::time("until", query.until.as_deref(), now)?,
        app: app_filter(&api, &caller, query.app.as_deref()).await?,
    };
    let before = page.before.map_or(EventId::MAX, |[id]| EventId::new(id));
    let found = api.store().events(&filter, before, page.limit).await?;
    let data = found
        .items
        .into_iter()
        .map(|event| EventView::of(&caller, event));
    let next = found.next.map(|id| [id.get()]);
    Ok(page.answer(&api, data.collect::<Result<_, _>>()?, next))
}
