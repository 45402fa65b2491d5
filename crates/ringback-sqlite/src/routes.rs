//! What an application's events have to be matched with.

use ringback_model::{AppId, Ordering, SubscriptionId, SubscriptionStatus};
use ringback_store::{AppRef, AppRoutes, Route, RouteChanges, StoreError};
use sqlx::SqlitePool;

use crate::{apps::app_key, columns::Column, failure::failed};

type Row = (
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<String>,
);

/// See [`ringback_store::Accept::routes`]. One statement, so that the version and the
/// subscriptions belong together.
pub(crate) async fn all(
    readers: &SqlitePool,
    app: &AppRef,
) -> Result<Option<AppRoutes>, StoreError> {
    let (id, slug) = app_key(app);
    let rows: Vec<Row> = sqlx::query_as(
        "select a.id, a.version, s.id, s.lane, s.status, v.event_types, v.ordering, \
         v.payload_filter \
         from apps a \
         left join subscriptions s on s.app_id = a.id and s.deleted_at is null \
             and s.kind = 'standard' and s.status <> 2 \
         left join subscription_versions v on v.subscription_id = s.id and v.version = s.version \
         where a.id = coalesce(?1, (select id from apps where slug = ?2 and deleted_at is null)) \
         and a.deleted_at is null",
    )
    .bind(id)
    .bind(slug)
    .fetch_all(readers)
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

/// See [`ringback_store::Accept::routes_since`]. What became no route has no version
/// joined to it, so it reads as one that is gone.
pub(crate) async fn since(
    readers: &SqlitePool,
    app: &AppRef,
    version: i64,
) -> Result<Option<RouteChanges>, StoreError> {
    let (id, slug) = app_key(app);
    let rows: Vec<Row> = sqlx::query_as(
        "select a.id, a.version, s.id, s.lane, s.status, v.event_types, v.ordering, \
         v.payload_filter \
         from apps a \
         left join subscriptions s indexed by subscriptions_app_version \
             on s.app_id = a.id and s.app_version > ?3 and s.kind = 'standard' \
         left join subscription_versions v on v.subscription_id = s.id and v.version = s.version \
             and s.deleted_at is null and s.status <> 2 \
         where a.id = coalesce(?1, (select id from apps where slug = ?2 and deleted_at is null)) \
         and a.deleted_at is null",
    )
    .bind(id)
    .bind(slug)
    .bind(version)
    .fetch_all(readers)
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

/// `None` for a row without a route.
fn route(row: Row) -> Result<Option<Route>, StoreError> {
    let (_, _, id, lane, status, event_types, ordering, filter) = row;
    let (Some(id), Some(lane), Some(status)) = (id, lane, status) else {
        return Ok(None);
    };
    let (Some(event_types), Some(ordering)) = (event_types, ordering) else {
        return Ok(None);
    };
    let status = Column("subscriptions", "status").word(status, SubscriptionStatus::from_code)?;
    let version = |name| Column("subscription_versions", name);
    let filter = filter.map(|text| version("payload_filter").parse(&text));
    Ok(Some(Route {
        subscription: SubscriptionId::new(id),
        lane: Column("subscriptions", "lane").lane(lane)?,
        event_types: version("event_types").json(&event_types)?,
        ordering: version("ordering").word(ordering, Ordering::from_code)?,
        filter: filter.transpose()?,
        held: status == SubscriptionStatus::Paused,
    }))
}
