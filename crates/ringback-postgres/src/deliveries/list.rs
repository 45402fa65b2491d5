//! Lists deliveries, a page at a time.

mod places;

use std::cmp::Reverse;

use ringback_model::{
    AppId, AttemptError, DeliveryId, DeliveryStatus, EventId, Lane, SubscriptionId,
};
use ringback_store::{Delivery, DeliveryFilter, Page, StoreError, Within};
use sqlx::{
    PgPool, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use self::places::Strands;
use super::{
    merge::{Part, merge},
    read,
    statements::Statement,
};
use crate::{
    bounds::first_at,
    event_types,
    failure::failed,
    kept::first_of_days,
    labels,
    rows::{delivery_id, small},
    transaction::{Tx, snapshot},
};

/// How many rows one page examines.
const EXAMINED: i64 = 200_000;
/// How many events with a label one page looks at.
const LABELLED: usize = 100;

/// See [`ringback_store::History::deliveries`].
pub(crate) async fn list(
    pool: &PgPool,
    filter: &DeliveryFilter,
    before: DeliveryId,
    limit: u32,
) -> Result<Page<Delivery, DeliveryId>, StoreError> {
    let app = match (filter.within, filter.app) {
        (Within::App(own), Some(other)) if own != other => return Ok(empty()),
        (Within::App(own), _) => Some(own),
        (Within::Everything, app) => app,
    };
    let filter = filter.clone();
    // One moment for all places: a delivery that moves meanwhile is seen once.
    snapshot(pool, move |tx| list_in(tx, filter, app, before, limit)).await
}

const fn empty() -> Page<Delivery, DeliveryId> {
    Page {
        items: Vec::new(),
        next: None,
    }
}

/// What to look for.
#[derive(Debug)]
struct Search {
    from: EventId,
    /// Behind this pair.
    before: DeliveryId,
    app: Option<AppId>,
    subscription: Option<SubscriptionId>,
    /// `None`: any.
    types: Option<Vec<i32>>,
    status: Option<DeliveryStatus>,
    codes: Option<(u16, u16)>,
    error: Option<AttemptError>,
    /// `None`: any.
    events: Option<Vec<(EventId, AppId)>>,
    limit: usize,
    /// Deliveries of earlier events are where what outlives its day is.
    first_of_days: EventId,
}

async fn list_in(
    mut tx: Tx,
    filter: DeliveryFilter,
    app: Option<AppId>,
    before: DeliveryId,
    limit: u32,
) -> Result<Page<Delivery, DeliveryId>, StoreError> {
    let types = match &filter.event_type {
        Some(pattern) => event_types::matching(&mut tx, pattern).await?,
        None => None,
    };
    let mut search = Search {
        from: filter.since.map_or(EventId::MIN, first_at),
        before: filter
            .until
            .map_or(before, |until| before.min(first_of(first_at(until)))),
        app,
        subscription: filter.subscription,
        types,
        status: filter.status,
        codes: filter.status_code,
        error: filter.error,
        events: None,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        first_of_days: first_of_days(&mut *tx).await?,
    };
    let labelled = search.narrow(&mut tx, &filter).await?;
    if search.events.as_ref().is_some_and(Vec::is_empty) {
        return Ok(empty());
    }
    let mut page = empty();
    // As many rows per strand as the page has are enough, unless few of them match. Of
    // named events there is not much to examine.
    let depths = [search.wanted(), EXAMINED];
    for depth in depths
        .into_iter()
        .skip(usize::from(search.events.is_some()))
    {
        let mut parts = search.parts(&mut tx, depth).await?;
        parts.extend(labelled.map(|down_to| Part {
            rows: Vec::new(),
            down_to: Some(down_to),
        }));
        page = merge(parts, search.limit);
        if page.items.len() == search.limit || page.next.is_none() {
            break;
        }
    }
    Ok(page)
}

impl Search {
    /// Looks in every place.
    ///
    /// - `depth`: the most rows to examine in one of many strands.
    async fn parts(&self, tx: &mut Tx, depth: i64) -> Result<Vec<Part>, StoreError> {
        let places = self.places();
        let share = EXAMINED / i64::try_from(places.len()).unwrap_or(1).max(1);
        let mut parts = Vec::with_capacity(places.len() + 1);
        for (statement, strands) in places {
            let strands = self.strands(tx, strands).await?;
            // At least one each, or a page could end where it began.
            let examined = if strands > 1 {
                (share / strands).min(depth).max(1)
            } else {
                share
            };
            parts.push(self.run(tx, statement, strands, examined).await?);
        }
        Ok(parts)
    }

    /// Names the events that an event or a label leaves. Answers how far down the
    /// label's events were looked at, if there are more.
    async fn narrow(
        &mut self,
        tx: &mut Tx,
        filter: &DeliveryFilter,
    ) -> Result<Option<DeliveryId>, StoreError> {
        if let Some(event) = filter.event {
            self.from = self.from.max(event);
            let end = DeliveryId {
                event,
                subscription: SubscriptionId::MAX,
            };
            self.before = self.before.min(end);
        }
        if let Some(label) = &filter.label {
            let range = (self.from, last_before(self.before));
            let count = self.limit.clamp(1, LABELLED);
            let events = labels::events_with(tx, self.app, label, range, count).await?;
            let last = events.last().filter(|_| events.len() == count);
            let down_to = last.map(|(event, _)| first_of(*event));
            self.events = Some(events);
            return Ok(down_to);
        }
        if let Some(event) = filter.event {
            let app: Option<i64> = sqlx::query_scalar(
                "select app_id from ringback.events where id = $1 \
                 union all select app_id from ringback.kept_events where id = $1 limit 1",
            )
            .bind(event.get())
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed)?;
            self.events = Some(
                app.map(|app| (event, AppId::new(app)))
                    .into_iter()
                    .collect(),
            );
        }
        Ok(None)
    }

    async fn strands(&self, tx: &mut Tx, strands: Strands) -> Result<i64, StoreError> {
        let events = self.events.as_ref().map_or(1, Vec::len);
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        let lanes = i64::try_from(Lane::COUNT).unwrap_or(i64::MAX);
        Ok(match strands {
            Strands::One => 1,
            Strands::Lanes => lanes,
            Strands::Events => events,
            Strands::EventsAndLanes => events.saturating_mul(lanes),
            Strands::Apps => sqlx::query_scalar("select count(*) from ringback.apps")
                .fetch_one(&mut **tx)
                .await
                .map_err(failed)?,
        })
    }

    /// Runs a statement, and finds how far down it looked if that may not be the end.
    async fn run(
        &self,
        tx: &mut Tx,
        statement: Statement,
        strands: i64,
        examined: i64,
    ) -> Result<Part, StoreError> {
        let rows = self.bind(statement.rows, examined);
        let rows = rows.fetch_all(&mut **tx).await.map_err(failed)?;
        let mut rows: Vec<Delivery> = rows.iter().map(read).collect::<Result<_, _>>()?;
        // Their order is the statement's as a rule, but only its inside promises it.
        rows.sort_unstable_by_key(|row| Reverse(row.id));
        let mut down_to = rows.get(self.limit).map(|row| row.id);
        if down_to.is_none() || strands > 1 {
            let edge = self.bind(statement.edge, examined);
            let edge = edge.fetch_optional(&mut **tx).await.map_err(failed)?;
            down_to = down_to.max(edge.as_ref().map(read_key).transpose()?);
        }
        Ok(Part { rows, down_to })
    }

    /// One more row than fits on the page: so its end shows.
    fn wanted(&self) -> i64 {
        i64::try_from(self.limit)
            .unwrap_or(i64::MAX)
            .saturating_add(1)
    }

    fn bind(&self, sql: &'static str, examined: i64) -> Bound {
        let events = || self.events.iter().flatten();
        let lane = self.subscription.map(|id| i16::from(Lane::of(id).get()));
        sqlx::query(sql)
            .bind(self.from.get())
            .bind(self.before.event.get())
            .bind(self.before.subscription.get())
            .bind(examined)
            .bind(self.wanted())
            .bind(self.app.map(AppId::get))
            .bind(self.subscription.map(SubscriptionId::get))
            .bind(&self.types)
            .bind(self.status.map(DeliveryStatus::code))
            .bind(self.codes.map(|(from, _)| small(from)))
            .bind(self.codes.map(|(_, to)| small(to)))
            .bind(self.error.map(AttemptError::code))
            .bind(events().map(|(event, _)| event.get()).collect::<Vec<_>>())
            .bind(events().map(|(_, app)| app.get()).collect::<Vec<_>>())
            .bind(lane)
            .bind(self.first_of_days.get())
    }
}

type Bound = Query<'static, Postgres, PgArguments>;

/// The lowest pair of an event: everything before it is of earlier events.
const fn first_of(event: EventId) -> DeliveryId {
    DeliveryId {
        event,
        subscription: SubscriptionId::MIN,
    }
}

/// The last event with something behind this pair.
const fn last_before(pair: DeliveryId) -> EventId {
    if pair.subscription.get() > SubscriptionId::MIN.get() {
        pair.event
    } else {
        EventId::new(pair.event.get() - 1)
    }
}

fn read_key(row: &PgRow) -> Result<DeliveryId, StoreError> {
    let column = |index: usize| row.try_get::<i64, _>(index).map_err(failed);
    Ok(delivery_id(column(0)?, column(1)?))
}
