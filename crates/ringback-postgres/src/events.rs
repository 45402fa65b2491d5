//! Events as they were accepted.

use std::sync::LazyLock;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::{AppId, EventId};
use ringback_store::{Event, EventFilter, Page, StoreError, Within};
use sqlx::PgPool;

use crate::{
    bounds::first_at,
    event_types,
    failure::failed,
    kept::{first_of_days, in_kept},
    labels,
    rows::{app_of, from_json},
    transaction::{Tx, snapshot},
};

/// How many rows one page examines.
const EXAMINED: usize = 200_000;

/// See [`ringback_store::History::event`].
pub(crate) async fn one(
    pool: &PgPool,
    id: EventId,
    within: Within,
) -> Result<Option<Event>, StoreError> {
    for sql in [OF_DAY, KEPT] {
        let row: Option<Row> = sqlx::query_as(sql)
            .bind(id.get())
            .bind(app_of(within))
            .fetch_optional(pool)
            .await
            .map_err(failed)?;
        if let Some(row) = row {
            return read(row).map(Some);
        }
    }
    Ok(None)
}

macro_rules! one {
    ($table:literal, $condition:literal) => {
        concat!(
            "select e.id, e.external_id, e.app_id, t.name, e.data, e.labels, e.ordering_key, \
             e.deliver_at from ",
            $table,
            " e join ringback.event_types t on t.id = e.type_id \
             where e.id = $1 and ($2::int8 is null or e.app_id = $2) and ",
            $condition
        )
    };
}

/// Of an ended day, what is not dropped yet does not count.
const OF_DAY: &str = one!(
    "ringback.events",
    "e.id >= (select event_id from ringback.ended where one)"
);
const KEPT: &str = one!("ringback.kept_events", "true");

/// See [`ringback_store::History::events`].
pub(crate) async fn list(
    pool: &PgPool,
    filter: &EventFilter,
    before: EventId,
    limit: u32,
) -> Result<Page<Event, EventId>, StoreError> {
    let app = match (filter.within, filter.app) {
        (Within::App(own), Some(other)) if own != other => {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        }
        (Within::App(own), _) => Some(own),
        (Within::Everything, app) => app,
    };
    let filter = filter.clone();
    snapshot(pool, move |tx| list_in(tx, filter, app, before, limit)).await
}

async fn list_in(
    mut tx: Tx,
    filter: EventFilter,
    app: Option<AppId>,
    before: EventId,
    limit: u32,
) -> Result<Page<Event, EventId>, StoreError> {
    let types = match &filter.event_type {
        Some(pattern) => event_types::matching(&mut tx, pattern).await?,
        None => None,
    };
    let from = filter.since.map_or(EventId::MIN, first_at);
    let before = filter
        .until
        .map_or(before, |until| before.min(first_at(until)));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let search = Search {
        from,
        before,
        app,
        types,
    };
    match &filter.label {
        Some(label) => search.labelled(&mut tx, label, limit).await,
        None => search.all(&mut tx, limit).await,
    }
}

/// What outlives its day is older than all days, so it comes behind them.
static PAGE_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(PAGE));
static EDGE_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(EDGE));
static NAMED_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(NAMED));

/// What to look for.
#[derive(Debug)]
struct Search {
    from: EventId,
    before: EventId,
    app: Option<AppId>,
    /// `None`: any.
    types: Option<Vec<i32>>,
}

impl Search {
    async fn all(&self, tx: &mut Tx, limit: usize) -> Result<Page<Event, EventId>, StoreError> {
        let first = first_of_days(&mut **tx).await?;
        let of_days = (self.from.max(first), self.before);
        let mut page = self.page(tx, (PAGE, EDGE), of_days, limit).await?;
        if page.next.is_some() || self.from >= first {
            return Ok(page);
        }
        if page.items.len() == limit {
            page.next = Some(first);
            return Ok(page);
        }
        let statements = (PAGE_IN_KEPT.as_str(), EDGE_IN_KEPT.as_str());
        let kept = (self.from, self.before.min(first));
        let left = limit - page.items.len();
        let older = self.page(tx, statements, kept, left).await?;
        page.items.extend(older.items);
        page.next = older.next;
        Ok(page)
    }

    async fn page(
        &self,
        tx: &mut Tx,
        (rows, edge): (&'static str, &'static str),
        (from, before): (EventId, EventId),
        limit: usize,
    ) -> Result<Page<Event, EventId>, StoreError> {
        // One more than fit on the page: so its end shows.
        let rows: Vec<Row> = sqlx::query_as(rows)
            .bind(from.get())
            .bind(before.get())
            .bind(as_limit(EXAMINED))
            .bind(self.app.map(AppId::get))
            .bind(&self.types)
            .bind(as_limit(limit.saturating_add(1)))
            .fetch_all(&mut **tx)
            .await
            .map_err(failed)?;
        let mut items: Vec<Event> = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        items.sort_by_key(|event| std::cmp::Reverse(event.id));
        if items.len() > limit {
            items.truncate(limit);
            return Ok(Page {
                next: items.last().map(|event| event.id),
                items,
            });
        }
        let edge: Option<i64> = sqlx::query_scalar(edge)
            .bind(from.get())
            .bind(before.get())
            .bind(as_limit(EXAMINED))
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed)?;
        Ok(Page {
            items,
            next: edge.map(EventId::new),
        })
    }

    /// Goes through the label's events a page at a time, so that as little is read as
    /// is shown unless their types differ.
    async fn labelled(
        &self,
        tx: &mut Tx,
        label: &(String, String),
        limit: usize,
    ) -> Result<Page<Event, EventId>, StoreError> {
        let step = limit.saturating_add(1);
        let mut items: Vec<Event> = Vec::new();
        let mut before = self.before;
        let mut examined = 0;
        while let Some(last) = before.get().checked_sub(1) {
            let range = (self.from, EventId::new(last));
            let found = labels::events_with(tx, self.app, label, range, step).await?;
            let ids: Vec<i64> = found.iter().map(|(event, _)| event.get()).collect();
            items.extend(self.of_types(tx, &ids).await?);
            examined += ids.len();
            let Some(lowest) = found.last().filter(|_| found.len() == step) else {
                break;
            };
            before = lowest.0;
            if items.len() > limit || examined >= EXAMINED {
                items.truncate(limit);
                let next = items.last().filter(|_| items.len() == limit);
                return Ok(Page {
                    next: Some(next.map_or(before, |event| event.id)),
                    items,
                });
            }
        }
        let more = items.len() > limit;
        items.truncate(limit);
        Ok(Page {
            next: items.last().filter(|_| more).map(|event| event.id),
            items,
        })
    }

    async fn of_types(&self, tx: &mut Tx, ids: &[i64]) -> Result<Vec<Event>, StoreError> {
        let mut rows: Vec<Row> = Vec::new();
        for sql in [NAMED, &NAMED_IN_KEPT] {
            let found: Vec<Row> = sqlx::query_as(sql)
                .bind(ids)
                .bind(ids.iter().min())
                .bind(ids.iter().max())
                .bind(&self.types)
                .fetch_all(&mut **tx)
                .await
                .map_err(failed)?;
            rows.extend(found);
            if rows.len() >= ids.len() {
                break;
            }
        }
        let mut events: Vec<Event> = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        events.sort_by_key(|event| std::cmp::Reverse(event.id));
        // What is left of an ended day is in both places.
        events.dedup_by_key(|event| event.id);
        Ok(events)
    }
}

const PAGE: &str = r#"
    select p.id, p.external_id, p.app_id,
        (select name from ringback.event_types where id = p.type_id), p.data, p.labels,
        p.ordering_key, p.deliver_at
    from (
        select * from (
            select * from ringback.events where id >= $1 and id < $2 order by id desc limit $3
        ) q
        where ($4::int8 is null or app_id = $4) and ($5::int4[] is null or type_id = any($5))
        order by id desc limit $6
    ) p
"#;

/// The last event that [`PAGE`] examines, if there may be more behind it.
const EDGE: &str = r#"
    select id from ringback.events where id >= $1 and id < $2
    order by id desc offset $3 - 1 limit 1
"#;

const NAMED: &str = r#"
    select e.id, e.external_id, e.app_id, t.name, e.data, e.labels, e.ordering_key, e.deliver_at
    from ringback.events e join ringback.event_types t on t.id = e.type_id
    -- The bounds are for the planner: by them it leaves out days.
    where e.id = any($1) and e.id >= $2 and e.id <= $3
        and ($4::int4[] is null or e.type_id = any($4))
"#;

type Row = (
    i64,
    Option<String>,
    i64,
    String,
    Vec<u8>,
    Option<String>,
    Option<String>,
    Option<DateTime<Utc>>,
);

fn read(row: Row) -> Result<Event, StoreError> {
    let (id, external_id, app, name, data, labels, ordering_key, deliver_at) = row;
    let labels = labels
        .as_deref()
        .map(|labels| from_json("events", "labels", labels));
    Ok(Event {
        id: EventId::new(id),
        external_id,
        app: AppId::new(app),
        event_type: event_types::named(name)?,
        ordering_key,
        deliver_at,
        data: Bytes::from(data),
        labels: labels.transpose()?.unwrap_or_default(),
    })
}

fn as_limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
