//! What an application's events have to be matched with.

use ringback_model::{AppId, SubscriptionId};
use ringback_store::{AppRef, AppRoutes, Route, RouteChanges, StoreError};
use sqlx::PgPool;

use crate::{
    failure::failed,
    rows::{from_json, lane, ordering_of, payload_filter},
};

/// See [`ringback_store::Accept::routes`].
pub(crate) async fn all(pool: &PgPool, app: &AppRef) -> Result<Option<AppRoutes>, StoreError> {
    let (id, slug) = app_key(app);
    // One statement: version and subscriptions must be of one moment.
    let rows: Vec<Row> = sqlx::query_as(
        r#"
        select a.id, a.version, s.id, s.lane, s.status = 1, v.event_types, v.ordering,
            v.payload_filter
        from ringback.apps a
        left join ringback.subscriptions s on s.app_id = a.id
            and s.deleted_at is null and s.kind = 'standard' and s.status in (0, 1)
        left join ringback.subscription_versions v
            on v.subscription_id = s.id and v.version = s.version
        where a.deleted_at is null and a.id = coalesce(
            $1, (select id from ringback.apps where slug = $2 and deleted_at is null)
        )
        "#,
    )
    .bind(id)
    .bind(slug)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let Some(&(app, version, ..)) = rows.first() else {
        return Ok(None);
    };
    let routes = rows.into_iter().filter_map(|row| route(row).transpose());
    Ok(Some(AppRoutes {
        app: AppId::new(app),
        version,
        routes: routes.collect::<Result<_, _>>()?,
    }))
}

/// See [`ringback_store::Accept::routes_since`].
pub(crate) async fn since(
    pool: &PgPool,
    app: &AppRef,
    version: i64,
) -> Result<Option<RouteChanges>, StoreError> {
    let (id, slug) = app_key(app);
    // What became no route has no version joined to it, so it reads as one that is gone.
    let rows: Vec<Row> = sqlx::query_as(
        r#"
        select a.id, a.version, s.id, s.lane, s.status = 1, v.event_types, v.ordering,
            v.payload_filter
        from ringback.apps a
        left join ringback.subscriptions s on s.app_id = a.id
            and s.app_version > $3 and s.kind = 'standard'
        left join ringback.subscription_versions v
            on v.subscription_id = s.id and v.version = s.version
            and s.deleted_at is null and s.status in (0, 1)
        where a.deleted_at is null and a.id = coalesce(
            $1, (select id from ringback.apps where slug = $2 and deleted_at is null)
        )
        "#,
    )
    .bind(id)
    .bind(slug)
    .bind(version)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let Some(&(app, version, ..)) = rows.first() else {
        return Ok(None);
    };
    let mut changes = RouteChanges {
        app: AppId::new(app),
        version,
        routes: Vec::new(),
        gone: Vec::new(),
    };
    for row in rows {
        let subscription = row.2.map(SubscriptionId::new);
        match route(row)? {
            Some(route) => changes.routes.push(route),
            None => changes.gone.extend(subscription),
        }
    }
    Ok(Some(changes))
}

type Row = (
    i64,
    i64,
    Option<i64>,
    Option<i16>,
    Option<bool>,
    Option<String>,
    Option<i16>,
    Option<String>,
);

/// Id and slug, of which one is null.
fn app_key(app: &AppRef) -> (Option<i64>, Option<&str>) {
    match app {
        AppRef::Id(id) => (Some(id.get()), None),
        AppRef::Slug(slug) => (None, Some(slug.as_str())),
    }
}

/// `None` for a row without a route.
fn route(row: Row) -> Result<Option<Route>, StoreError> {
    let (_, _, id, number, held, event_types, ordering, filter) = row;
    let (Some(id), Some(number), Some(held)) = (id, number, held) else {
        return Ok(None);
    };
    let (Some(event_types), Some(ordering)) = (event_types, ordering) else {
        return Ok(None);
    };
    Ok(Some(Route {
        subscription: SubscriptionId::new(id),
        lane: lane(number),
        event_types: from_json("subscription_versions", "event_types", &event_types)?,
        filter: payload_filter(filter.as_deref())?,
        ordering: ordering_of(ordering)?,
        held,
    }))
}
