//! `GET /v1/deliveries`

use axum::{extract::State, response::Response};
use http::Uri;
use ringback_model::{AttemptError, DeliveryId, DeliveryStatus, EventId, SubscriptionId};
use ringback_store::DeliveryFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::view::DeliveryView;
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
pub(crate) struct DeliveryQuery {
    /// Of this application: its id or slug.
    app: Option<String>,
    /// To this subscription.
    subscription: Option<String>,
    /// Of this event.
    event: Option<String>,
    /// `pending`, `retrying`, `delivered`, `dead`, `held` or `cancelled`.
    status: Option<String>,
    /// Of this type, like `order.paid`, or of those below a prefix, like `order.*`.
    event_type: Option<String>,
    /// Of events with this label: `name:value`.
    label: Option<String>,
    /// The last attempt's status code, like `503`, or a class of them, like `5xx`.
    code: Option<String>,
    /// The last attempt's error, like `timeout`.
    error: Option<String>,
    /// Of events accepted then or later: a time, or `2h` for so long ago.
    since: Option<String>,
    /// Of events accepted before then: a time, or `2h` for so long ago.
    until: Option<String>,
    /// 1 to 200 items on a page; 50 if left out.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List deliveries, newest event first
#[utoipa::path(
    get,
    path = "/v1/deliveries",
    tag = "deliveries",
    operation_id = "list_deliveries",
    params(DeliveryQuery),
    responses((status = 200, description = "One page.", body = List<DeliveryView>))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    QueryOf(query): QueryOf<DeliveryQuery>,
) -> Result<Response, ApiError> {
    let page = PageOf::read(&uri, query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = filter(&api, &caller, &query).await?;
    let before = page
        .before
        .map_or(LAST, |[event, subscription]| DeliveryId {
            event: EventId::new(event),
            subscription: SubscriptionId::new(subscription),
        });
    let found = api.store().deliveries(&filter, before, page.limit).await?;
    let data = found.items.into_iter().map(DeliveryView::from).collect();
    let next = found.next.map(|id| [id.event.get(), id.subscription.get()]);
    Ok(page.answer(&api, data, next))
}

/// Before all others in a list.
const LAST: DeliveryId = DeliveryId {
    event: EventId::MAX,
    subscription: SubscriptionId::MAX,
};

async fn filter(
    api: &Api,
    caller: &Caller,
    query: &DeliveryQuery,
) -> Result<DeliveryFilter, ApiError> {
    let now = api.now();
    let subscription = query.subscription.as_deref();
    Ok(DeliveryFilter {
        within: caller.within(),
        subscription: query::value::<SubscriptionId>("subscription", subscription, "is an id")?,
        event: query::value::<EventId>("event", query.event.as_deref(), "is an id")?,
        status: query::word("status", query.status.as_deref(), DeliveryStatus::ALL)?,
        event_type: query::pattern("event_type", query.event_type.as_deref())?,
        label: query::label(query.label.as_deref())?,
        status_code: query::status_code(query.code.as_deref())?,
        error: query::word("error", query.error.as_deref(), AttemptError::ALL)?,
        since: query::time("since", query.since.as_deref(), now)?,
        until: query::time("until", query.until.as_deref(), now)?,
        app: app_filter(api, caller, query.app.as_deref()).await?,
    })
}
