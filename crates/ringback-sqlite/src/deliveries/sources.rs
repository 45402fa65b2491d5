//! The three tables that deliveries are in, each read in the order of the list.

use ringback_model::{AttemptError, DeliveryId, DeliveryStatus, Lane};
use ringback_store::{Delivery, StoreError};
use sqlx::{Arguments, SqliteConnection, error::BoxDynError, sqlite::SqliteArguments};

use super::{Search, place};
use crate::{
    delivery::{self, columns, pending, settled, waiting},
    events::{EXAMINED, TypeFilter},
    failure::failed,
};

/// What one table has of a list.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) deliveries: Vec<Delivery>,
    /// All from here upwards was looked at, and there may be more below; `None` if
    /// there is not.
    pub(super) end: Option<DeliveryId>,
}

/// Everything that `$rows` has, less what the filter leaves out.
///
/// - `$order`: nothing, if the rows come in the order of the list already: joins that
///   are called `cross` are looped over as they are written.
///
/// 1 from this event on, 2 and 3 below this delivery, 4 rows to examine, 5 lane,
/// 6 events, 7 application, 8 subscription, 9 status, 10 and 11 event type, 12 and 13
/// status codes, 14 error, 15 limit.
macro_rules! filtered {
    ($rows:expr, $order:literal) => {
        concat!(
            "select ",
            columns!(),
            " from (",
            $rows,
            ") x cross join event_types t on t.id = x.type_id \
             where (?7 is null or x.app_id = ?7) and (?8 is null or x.subscription_id = ?8) \
             and (?9 is null or x.status = ?9) and (?10 is null or t.name = ?10) \
             and (?11 is null or substr(t.name, 1, length(?11)) = ?11) \
             and (?12 is null or x.last_code between ?12 and ?13) \
             and (?14 is null or x.last_error = ?14)",
            $order,
            " limit ?15"
        )
    };
}

/// A way through a table: a page, and the last row that a page examines.
struct Way {
    page: &'static str,
    end: &'static str,
}

/// - `$keys`: the events and subscriptions in question, in the order of the list.
/// - `$rows`: the rows to such a key `k`.
macro_rules! way {
    ($keys:expr, $columns:expr, $rows:expr) => {
        Way {
            page: filtered!(
                concat!(
                    "select ",
                    $columns,
                    " from (",
                    $keys,
                    " limit ?4) k cross join ",
                    $rows
                ),
                ""
            ),
            end: concat!($keys, " limit 1 offset ?4 - 1"),
        }
    };
}

macro_rules! retries_way {
    ($keys:expr) => {
        way!(
            $keys,
            waiting!(),
            "retries r on r.subscription_id = k.subscription_id and r.event_id = k.event_id \
             cross join subscriptions s on s.id = r.subscription_id"
        )
    };
}

macro_rules! settled_way {
    ($keys:expr) => {
        way!(
            $keys,
            settled!(),
            "deliveries d on d.event_id = k.event_id and d.subscription_id = k.subscription_id"
        )
    };
}

static RETRIES: Way = retries_way!(
    "select event_id, subscription_id from retries indexed by retries_event \
     where event_id >= ?1 and (event_id, subscription_id) < (?2, ?3) \
     order by event_id desc, subscription_id desc"
);

static RETRIES_OF_APP: Way = retries_way!(
    "select event_id, subscription_id from retries indexed by retries_app \
     where app_id = ?7 and event_id >= ?1 and (event_id, subscription_id) < (?2, ?3) \
     order by event_id desc, subscription_id desc"
);

static RETRIES_OF_SUBSCRIPTION: Way = retries_way!(
    "select event_id, subscription_id from retries \
     where subscription_id = ?8 and event_id >= ?1 and event_id <= ?2 \
     and (event_id < ?2 or subscription_id < ?3) order by event_id desc"
);

static RETRIES_OF_EVENTS: Way = retries_way!(
    "select r.event_id, r.subscription_id \
     from json_each(?6) j cross join retries r indexed by retries_event on r.event_id = j.value \
     where (r.event_id, r.subscription_id) < (?2, ?3) \
     order by r.event_id desc, r.subscription_id desc"
);

static SETTLED: Way = settled_way!(
    "select event_id, subscription_id from deliveries \
     where event_id >= ?1 and (event_id, subscription_id) < (?2, ?3) \
     order by event_id desc, subscription_id desc"
);

static FAILED_OF_APP: Way = settled_way!(
    "select event_id, subscription_id from deliveries indexed by deliveries_app \
     where app_id = ?7 and status <> 2 and event_id >= ?1 \
     and (event_id, subscription_id) < (?2, ?3) \
     order by event_id desc, subscription_id desc"
);

static FAILED_OF_SUBSCRIPTION: Way = settled_way!(
    "select event_id, subscription_id from deliveries indexed by deliveries_subscription \
     where subscription_id = ?8 and status <> 2 and event_id >= ?1 and event_id <= ?2 \
     and (event_id < ?2 or subscription_id < ?3) order by event_id desc"
);

static SETTLED_OF_EVENTS: Way = settled_way!(
    "select d.event_id, d.subscription_id \
     from json_each(?6) j cross join deliveries d on d.event_id = j.value \
     where (d.event_id, d.subscription_id) < (?2, ?3) \
     order by d.event_id desc, d.subscription_id desc"
);

const OUTBOX: &str = filtered!(
    concat!(
        "select ",
        pending!(),
        " from lanes l cross join outbox o on o.lane = l.lane \
     and o.event_id >= ?1 and (o.event_id, o.subscription_id) < (?2, ?3) \
     cross join events e on e.id = o.event_id where (?5 is null or l.lane = ?5)"
    ),
    " order by x.event_id desc, x.subscription_id desc"
);

const OUTBOX_OF_EVENTS: &str = filtered!(
    concat!(
        "select ",
        pending!(),
        " from json_each(?6) j cross join events e on e.id = j.value \
     cross join lanes l cross join outbox o on o.lane = l.lane and o.event_id = e.id \
     and (o.event_id, o.subscription_id) < (?2, ?3) where (?5 is null or l.lane = ?5)"
    ),
    " order by x.event_id desc, x.subscription_id desc"
);

/// The newest event that has to be left for the next page, if a lane is too full.
const OUTBOX_END: &str = "select max((select o.event_id from outbox o \
     where o.lane = l.lane and o.event_id >= ?1 and o.event_id <= ?2 \
     order by o.event_id desc limit 1 offset ?3)) \
     from lanes l where (?4 is null or l.lane = ?4)";

/// The outbox has one index, by lane: the lanes are merged.
pub(super) async fn outbox(
    connection: &mut SqliteConnection,
    search: &Search<'_>,
) -> Result<Found, StoreError> {
    if search.events.is_some() {
        return page(connection, OUTBOX_OF_EVENTS, search, search.from).await;
    }
    let lane = lane(search);
    let lanes = if lane.is_some() {
        1
    } else {
        Lane::COUNT as i64
    };
    let rest: Option<i64> = sqlx::query_scalar(OUTBOX_END)
        .bind(search.from)
        .bind(search.below.0)
        .bind(i64::from(EXAMINED) / lanes)
        .bind(lane)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    // One event that fills a lane by itself is read whole, or there would be no end.
    let from = rest
        .map(|rest| rest + 1)
        .filter(|from| *from <= search.below.0);
    let mut found = page(connection, OUTBOX, search, from.unwrap_or(search.from)).await?;
    found.end = found.end.or(from.map(|from| place(from, 0)));
    Ok(found)
}

/// The retries, by the index that fits best.
pub(super) async fn retries(
    connection: &mut SqliteConnection,
    search: &Search<'_>,
) -> Result<Found, StoreError> {
    let way = match (&search.events, search.filter.subscription, search.app) {
        (Some(_), ..) => &RETRIES_OF_EVENTS,
        (None, Some(_), _) => &RETRIES_OF_SUBSCRIPTION,
        (None, None, Some(_)) => &RETRIES_OF_APP,
        (None, None, None) => &RETRIES,
    };
    walk(connection, way, search).await
}

/// Settled deliveries. Those that did not arrive have indexes of their own.
pub(super) async fn settled(
    connection: &mut SqliteConnection,
    search: &Search<'_>,
) -> Result<Found, StoreError> {
    let failed = matches!(
        search.filter.status,
        Some(DeliveryStatus::Dead | DeliveryStatus::Cancelled)
    );
    let way = match (&search.events, search.filter.subscription, search.app) {
        (Some(_), ..) => &SETTLED_OF_EVENTS,
        (None, Some(_), _) if failed => &FAILED_OF_SUBSCRIPTION,
        (None, None, Some(_)) if failed => &FAILED_OF_APP,
        _ => &SETTLED,
    };
    walk(connection, way, search).await
}

async fn walk(
    connection: &mut SqliteConnection,
    way: &Way,
    search: &Search<'_>,
) -> Result<Found, StoreError> {
    let mut found = page(&mut *connection, way.page, search, search.from).await?;
    if found.end.is_none() {
        let arguments = arguments(search, search.from).map_err(refused)?;
        let end: Option<(i64, i64)> = sqlx::query_as_with(way.end, arguments)
            .fetch_optional(connection)
            .await
            .map_err(failed)?;
        found.end = end.map(|(event, subscription)| place(event, subscription));
    }
    Ok(found)
}

async fn page(
    connection: &mut SqliteConnection,
    text: &'static str,
    search: &Search<'_>,
    from: i64,
) -> Result<Found, StoreError> {
    let arguments = arguments(search, from).map_err(refused)?;
    let rows = sqlx::query_with(text, arguments)
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    let deliveries = rows
        .iter()
        .map(delivery::read)
        .collect::<Result<Vec<_>, _>>()?;
    let full = deliveries.len() >= search.limit as usize;
    let end = deliveries.last().filter(|_| full).map(|last| last.id);
    Ok(Found { deliveries, end })
}

/// In the order that [`filtered`] says.
fn arguments(search: &Search<'_>, from: i64) -> Result<SqliteArguments, BoxDynError> {
    let filter = search.filter;
    let types = TypeFilter::new(filter.event_type.as_ref());
    let mut arguments = SqliteArguments::default();
    arguments.add(from)?;
    arguments.add(search.below.0)?;
    arguments.add(search.below.1)?;
    arguments.add(EXAMINED)?;
    arguments.add(lane(search))?;
    arguments.add(search.events.as_deref())?;
    arguments.add(search.app)?;
    arguments.add(filter.subscription.map(|subscription| subscription.get()))?;
    arguments.add(filter.status.map(DeliveryStatus::code))?;
    arguments.add(types.exactly)?;
    arguments.add(types.below)?;
    arguments.add(filter.status_code.map(|(least, _)| least))?;
    arguments.add(filter.status_code.map(|(_, most)| most))?;
    arguments.add(filter.error.map(AttemptError::code))?;
    arguments.add(search.limit)?;
    Ok(arguments)
}

/// A subscription's rows are in one lane of the outbox.
fn lane(search: &Search<'_>) -> Option<i64> {
    search
        .filter
        .subscription
        .map(|subscription| i64::from(Lane::of(subscription).get()))
}

fn refused(error: BoxDynError) -> StoreError {
    failed(sqlx::Error::Encode(error))
}
