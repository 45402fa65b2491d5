//! Events as they were accepted: one, and lists.

use bytes::Bytes;
use ringback_model::{AppId, EventId, EventTypePattern};
use ringback_store::{Event, EventFilter, Page, StoreError, Within};
use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use crate::{
    apps::only,
    columns::{Column, event_type},
    failure::failed,
};

/// How many events one page examines at most. The contract allows more; this many
/// take a fraction of a second, and a long read keeps the write-ahead log growing.
pub(crate) const EXAMINED: u32 = 50_000;

macro_rules! select {
    ($from:expr) => {
        concat!(
            "select e.id, e.app_id, t.name, e.external_id, e.labels, e.data, e.ordering_key, \
             e.deliver_at from ",
            $from,
            " cross join event_types t on t.id = e.type_id "
        )
    };
}

/// See [`ringback_store::History::event`].
pub(crate) async fn get(
    readers: &SqlitePool,
    id: EventId,
    within: Within,
) -> Result<Option<Event>, StoreError> {
    let row = sqlx::query(concat!(
        select!("events e"),
        "where e.id = ?1 and (?2 is null or e.app_id = ?2)"
    ))
    .bind(id.get())
    .bind(only(within))
    .fetch_optional(readers)
    .await
    .map_err(failed)?;
    row.map(|row| read(&row)).transpose()
}

/// See [`ringback_store::History::events`].
pub(crate) async fn list(
    readers: &SqlitePool,
    filter: &EventFilter,
    before: EventId,
    limit: u32,
) -> Result<Page<Event, EventId>, StoreError> {
    let Some(app) = the_app(filter.within, filter.app) else {
        return Ok(Page {
            items: Vec::new(),
            next: None,
        });
    };
    let range = IdRange::new(filter.since, filter.until, before);
    let types = TypeFilter::new(filter.event_type.as_ref());
    // The outer loop goes down the candidates in their order, so the first rows are
    // the newest.
    let texts = match &filter.label {
        None => &BY_ID,
        Some(_) => &BY_LABEL,
    };
    let (name, value) = filter
        .label
        .as_ref()
        .map(|(name, value)| (name, value))
        .unzip();
    let rows = sqlx::query(texts.page)
        .bind(range.from)
        .bind(range.below)
        .bind(EXAMINED)
        .bind(app)
        .bind(name)
        .bind(value)
        .bind(types.exactly)
        .bind(types.below)
        .bind(limit)
        .fetch_all(readers)
        .await
        .map_err(failed)?;
    let items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if let Some(last) = items.last()
        && items.len() >= limit as usize
    {
        return Ok(Page {
            next: Some(last.id),
            items,
        });
    }
    let examined: Option<i64> = sqlx::query_scalar(texts.end)
        .bind(range.from)
        .bind(range.below)
        .bind(EXAMINED)
        .bind(app)
        .bind(name)
        .bind(value)
        .fetch_optional(readers)
        .await
        .map_err(failed)?;
    Ok(Page {
        items,
        next: examined.map(EventId::new),
    })
}

struct Texts {
    page: &'static str,
    /// The last event that a page examines; none if it examines all there is.
    end: &'static str,
}

macro_rules! texts {
    ($candidates:literal) => {
        Texts {
            page: concat!(
                select!(concat!(
                    "(",
                    $candidates,
                    " limit ?3) c cross join events e on e.id = c.id"
                )),
                "where (?4 is null or e.app_id = ?4) and (?7 is null or t.name = ?7) \
                 and (?8 is null or substr(t.name, 1, length(?8)) = ?8) limit ?9"
            ),
            end: concat!($candidates, " limit 1 offset ?3 - 1"),
        }
    };
}

static BY_ID: Texts = texts!("select id from events where id >= ?1 and id < ?2 order by id desc");

static BY_LABEL: Texts = texts!(
    "select event_id as id from event_labels where event_id >= ?1 and event_id < ?2 \
     and app_id in (select id from apps where ?4 is null or id = ?4) and name = ?5 and value = ?6 \
     order by event_id desc"
);

/// The one application that a filter leaves; `Some(None)` for all, `None` for nothing.
pub(crate) fn the_app(within: Within, app: Option<AppId>) -> Option<Option<i64>> {
    match (only(within), app.map(AppId::get)) {
        (Some(allowed), Some(wanted)) if allowed != wanted => None,
        (allowed, wanted) => Some(allowed.or(wanted)),
    }
}

/// Which ids to look at: from one, and below another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdRange {
    pub(crate) from: i64,
    pub(crate) below: i64,
}

impl IdRange {
    pub(crate) fn new(
        since: Option<chrono::DateTime<chrono::Utc>>,
        until: Option<chrono::DateTime<chrono::Utc>>,
        before: EventId,
    ) -> Self {
        let floor = |time| EventId::floor(time).get();
        Self {
            from: since.map_or(0, floor),
            below: until.map_or(i64::MAX, floor).min(before.get()),
        }
    }
}

/// An event type to be equal to, or the beginning of one.
#[derive(Debug)]
pub(crate) struct TypeFilter<'p> {
    pub(crate) exactly: Option<&'p str>,
    pub(crate) below: Option<&'p str>,
}

impl<'p> TypeFilter<'p> {
    pub(crate) fn new(pattern: Option<&'p EventTypePattern>) -> Self {
        match pattern {
            None | Some(EventTypePattern::Any) => Self {
                exactly: None,
                below: None,
            },
            Some(EventTypePattern::Exactly(name)) => Self {
                exactly: Some(name.as_str()),
                below: None,
            },
            Some(EventTypePattern::Below(prefix)) => Self {
                exactly: None,
                below: Some(prefix),
            },
        }
    }
}

fn read(row: &SqliteRow) -> Result<Event, StoreError> {
    let labels: Option<&str> = row.try_get(4).map_err(failed)?;
    let labels = labels
        .map(|text| Column("events", "labels").json(text))
        .transpose()?;
    let data: Vec<u8> = row.try_get(5).map_err(failed)?;
    let deliver_at: Option<i64> = row.try_get(7).map_err(failed)?;
    let deliver_at = deliver_at.map(|at| Column("events", "deliver_at").time(at));
    Ok(Event {
        id: EventId::new(row.try_get(0).map_err(failed)?),
        external_id: row.try_get(3).map_err(failed)?,
        app: AppId::new(row.try_get(1).map_err(failed)?),
        event_type: event_type(row.try_get(2).map_err(failed)?)?,
        ordering_key: row.try_get(6).map_err(failed)?,
        deliver_at: deliver_at.transpose()?,
        data: Bytes::from(data),
        labels: labels.unwrap_or_default(),
    })
}
