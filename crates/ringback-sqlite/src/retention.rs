//! Ends days: deletes what nothing names any more, a few rows at a time.
//!
//! Portions run when nothing else is to be written, each in a commit of its own, so
//! accepting and settling wait for one of them at most. They go through each table once,
//! from the oldest on; cut short, the next call begins there again.
//!
//! Pages that become free are used again. The file does not shrink.

use chrono::{DateTime, Utc};
use ringback_model::{Lane, Retention};
use ringback_store::StoreError;
use sqlx::SqliteConnection;

use crate::{
    columns::json,
    failure::failed,
    writer::{Work, Writer},
};

/// How many rows one portion looks at, and deletes, at most.
const PORTION: u32 = 500;

/// Deletes what is out of its time at `now`.
pub(crate) async fn end_days(
    writer: &Writer,
    keep: Retention,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let ended = Ended {
        before: keep.ended_before(now).get(),
        dead_before: keep.dead_ended_before(now).get(),
        dead_by: keep.dead_ended_by(now).timestamp_millis(),
        now: now.timestamp_millis(),
    };
    // What is named is deleted before what names it is looked for.
    through(writer, ended, |connection, ended, from| {
        Box::pin(park(connection, ended, from))
    })
    .await?;
    through(writer, ended, |connection, ended, from| {
        Box::pin(deliveries(connection, ended, from))
    })
    .await?;
    through(writer, ended, |connection, ended, from| {
        Box::pin(attempts(connection, ended, from))
    })
    .await?;
    through(writer, ended, |connection, ended, from| {
        Box::pin(events(connection, ended, from))
    })
    .await
}

/// What has ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// Events below this one.
    before: i64,
    /// Dead letters of events below this one, if they died at `dead_by` or before.
    dead_before: i64,
    dead_by: i64,
    now: i64,
}

/// A row that was looked at: event, subscription and number of the attempt, as far as
/// the table has them.
type Place = (i64, i64, i64);

/// Runs portions until there is nothing more to look at.
async fn through(
    writer: &Writer,
    ended: Ended,
    portion: for<'c> fn(&'c mut SqliteConnection, Ended, Place) -> Work<'c, Option<Place>>,
) -> Result<(), StoreError> {
    let mut from = (i64::MIN, i64::MIN, i64::MIN);
    while let Some(next) = writer
        .run_when_idle(move |connection| portion(connection, ended, from))
        .await?
    {
        from = next;
    }
    Ok(())
}

/// What nobody sent in all that time waits among the retries from now on: so the outbox
/// names no event of an ended day. Answers a place while there may be more.
async fn park(
    connection: &mut SqliteConnection,
    ended: Ended,
    from: Place,
) -> Result<Option<Place>, StoreError> {
    let keys: Vec<(i64, i64, i64)> = sqlx::query_as(
        "select o.lane, o.event_id, o.subscription_id \
         from json_each(?1) l cross join outbox o on o.lane = l.value and o.event_id < ?2 \
         limit ?3",
    )
    .bind(json(&Lane::all().map(Lane::get).collect::<Vec<u8>>()))
    .bind(ended.before)
    .bind(PORTION / 2)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    if keys.is_empty() {
        return Ok(None);
    }
    sqlx::query(
        "insert or ignore into retries \
         (subscription_id, event_id, lane, app_id, type_id, key_hash, attempts_made, due_at) \
         select o.subscription_id, e.id, o.lane, e.app_id, e.type_id, o.key_hash, 0, ?2 \
         from json_each(?1) k cross join outbox o on o.lane = k.value ->> 0 \
             and o.event_id = k.value ->> 1 and o.subscription_id = k.value ->> 2 \
         cross join events e on e.id = o.event_id; \
         delete from outbox where (lane, event_id, subscription_id) in \
         (select value ->> 0, value ->> 1, value ->> 2 from json_each(?1))",
    )
    .bind(json(&keys))
    .bind(ended.now)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(Some(from))
}

/// Deliveries that arrived or were cancelled, and old dead letters. What is sent again
/// keeps them.
async fn deliveries(
    connection: &mut SqliteConnection,
    ended: Ended,
    from: Place,
) -> Result<Option<Place>, StoreError> {
    let last: Option<(i64, i64)> = sqlx::query_as(
        "select event_id, subscription_id from ( \
             select event_id, subscription_id from deliveries \
             where (event_id, subscription_id) > (?1, ?2) and event_id < ?3 \
             order by event_id, subscription_id limit ?4) \
         order by event_id desc, subscription_id desc limit 1",
    )
    .bind(from.0)
    .bind(from.1)
    .bind(ended.before)
    .bind(PORTION)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    let Some((event, subscription)) = last else {
        return Ok(None);
    };
    sqlx::query(
        "delete from deliveries \
         where (event_id, subscription_id) > (?1, ?2) and (event_id, subscription_id) <= (?3, ?4) \
         and (status <> 3 or (event_id < ?5 and settled_at <= ?6)) \
         and not exists (select 1 from retries r where r.event_id = deliveries.event_id \
         and r.subscription_id = deliveries.subscription_id)",
    )
    .bind(from.0)
    .bind(from.1)
    .bind(event)
    .bind(subscription)
    .bind(ended.dead_before)
    .bind(ended.dead_by)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(Some((event, subscription, 0)))
}

/// Attempts of deliveries that are neither settled nor waiting any more.
async fn attempts(
    connection: &mut SqliteConnection,
    ended: Ended,
    from: Place,
) -> Result<Option<Place>, StoreError> {
    let last: Option<Place> = sqlx::query_as(
        "select event_id, subscription_id, number from ( \
             select event_id, subscription_id, number from attempts \
             where (event_id, subscription_id, number) > (?1, ?2, ?3) and event_id < ?4 \
             order by event_id, subscription_id, number limit ?5) \
         order by event_id desc, subscription_id desc, number desc limit 1",
    )
    .bind(from.0)
    .bind(from.1)
    .bind(from.2)
    .bind(ended.before)
    .bind(PORTION)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    let Some(last) = last else {
        return Ok(None);
    };
    sqlx::query(
        "delete from attempts \
         where (event_id, subscription_id, number) > (?1, ?2, ?3) \
         and (event_id, subscription_id, number) <= (?4, ?5, ?6) \
         and not exists (select 1 from deliveries d where d.event_id = attempts.event_id \
         and d.subscription_id = attempts.subscription_id) \
         and not exists (select 1 from retries r where r.event_id = attempts.event_id \
         and r.subscription_id = attempts.subscription_id)",
    )
    .bind(from.0)
    .bind(from.1)
    .bind(from.2)
    .bind(last.0)
    .bind(last.1)
    .bind(last.2)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(Some(last))
}

/// Events that no delivery names any more, and their labels.
async fn events(
    connection: &mut SqliteConnection,
    ended: Ended,
    from: Place,
) -> Result<Option<Place>, StoreError> {
    let rows: Vec<(i64, u32, bool)> = sqlx::query_as(
        "select e.id, (select count(*) from json_each(e.labels)), \
         not exists (select 1 from deliveries d where d.event_id = e.id) \
         and not exists (select 1 from retries r where r.event_id = e.id) \
         from events e where e.id > ?1 and e.id < ?2 order by e.id limit ?3",
    )
    .bind(from.0)
    .bind(ended.before)
    .bind(PORTION)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let mut deleted = 0;
    let fits = |(_, labels, gone): &&(i64, u32, bool)| {
        deleted += if *gone { 1 + labels } else { 0 };
        deleted <= PORTION
    };
    let looked_at: Vec<_> = rows.iter().take_while(fits).collect();
    let Some((last, ..)) = looked_at.last() else {
        return Ok(None);
    };
    let gone = looked_at.iter().filter(|(.., gone)| *gone);
    let gone: Vec<i64> = gone.map(|(id, ..)| *id).collect();
    if !gone.is_empty() {
        // By what is written in the events themselves: labels have no index by event.
        sqlx::query(
            "delete from event_labels where (app_id, name, value, event_id) in ( \
                 select e.app_id, l.key, l.value, e.id \
                 from json_each(?1) j cross join events e on e.id = j.value \
                 cross join json_each(e.labels) l); \
             delete from events where id in (select value from json_each(?1))",
        )
        .bind(json(&gone))
        .execute(connection)
        .await
        .map_err(failed)?;
    }
    Ok(Some((*last, 0, 0)))
}
