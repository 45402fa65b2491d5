//! Ends days: keeps what something still names, and drops the rest whole.
//!
//! 1. One commit per day copies what is to be kept, shuts the day's parts against
//!    writing, and moves `ended`. From then on every reader goes by the copies.
//! 2. Then each part is detached *concurrently*, which waits for those who still read
//!    it and keeps nobody from accepting, and is dropped.
//!
//! Cut short anywhere, it is taken up there by the next call: what is copied is known
//! by `ended`, and what is left of a day by the names of its parts. One process does it
//! at a time; others leave it to that one.

use chrono::{DateTime, NaiveDate, Utc};
use ringback_model::{EventId, Lane};
use ringback_store::StoreError;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};

use crate::{
    Inner,
    failure::failed,
    kept,
    partitions::bounds_of_day,
    transaction::{Tx, transact},
};

/// How long the connection that detaches may wait for others. They are not kept from
/// anything meanwhile.
const PATIENCE: [(&str, &str); 2] = [("statement_timeout", "60s"), ("lock_timeout", "60s")];

/// Ends the days that are out of their time at `now`.
pub(crate) async fn end_days(store: &Inner, now: DateTime<Utc>) -> Result<(), StoreError> {
    let first_kept = store.retention.ended_before(now).time().date_naive();
    if !parts_before(&store.pool, first_kept).await?.is_empty() {
        let (options, pool) = (store.options.clone(), store.pool.clone());
        // In a task of its own: nobody stops it between two steps by going away.
        let task = tokio::spawn(async move {
            let mut line = options.options(PATIENCE).connect().await.map_err(failed)?;
            let ended = end_in_turn(&mut line, &pool, first_kept, now).await;
            // This gives the lock back; what closing says is of no use.
            let _ = line.close().await;
            ended
        });
        task.await.map_err(StoreError::unavailable)??;
    }
    store.ended.look(&store.pool).await?;
    Ok(())
}

/// A part of a table for a day that is to end.
#[derive(Debug)]
struct Part {
    /// The table it is a part of, or was.
    table_name: String,
    name: String,
    /// It is still a part of its table.
    attached: bool,
    /// Detaching it was begun and not finished.
    pending: bool,
}

impl Part {
    fn day(&self) -> Option<NaiveDate> {
        let digits = self.name.rsplit('_').next()?;
        NaiveDate::parse_from_str(digits, "%Y%m%d").ok()
    }
}

/// What is left of days before `day`, oldest first. Events go last.
async fn parts_before(pool: &PgPool, day: NaiveDate) -> Result<Vec<Part>, StoreError> {
    let rows: Vec<(String, String, bool, bool)> = sqlx::query_as(
        r#"
        select left(c.relname::text, -9) as table_name, c.relname::text as name,
            i.inhrelid is not null as attached,
            coalesce(i.inhdetachpending, false) as pending
        from pg_class c left join pg_inherits i on i.inhrelid = c.oid
        where c.relnamespace = 'ringback'::regnamespace and c.relkind = 'r'
            and c.relname::text ~ '^(events|event_labels|deliveries|attempts)_[0-9]{8}$'
            and right(c.relname::text, 8) < $1
        order by right(c.relname::text, 8), c.relname like 'events%', c.relname
        "#,
    )
    .bind(day.format("%Y%m%d").to_string())
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let part = |(table_name, name, attached, pending)| Part {
        table_name,
        name,
        attached,
        pending,
    };
    Ok(rows.into_iter().map(part).collect())
}

async fn end_in_turn(
    line: &mut PgConnection,
    pool: &PgPool,
    first_kept: NaiveDate,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    // Held until the line is closed. The number is of no meaning elsewhere.
    let mine: bool = sqlx::query_scalar("select pg_try_advisory_lock(7464002)")
        .fetch_one(&mut *line)
        .await
        .map_err(failed)?;
    if !mine {
        return Ok(());
    }
    // Again: another may have done some of it since.
    let parts = parts_before(pool, first_kept).await?;
    let mut days: Vec<NaiveDate> = parts.iter().filter_map(Part::day).collect();
    days.dedup();
    for day in days {
        let bounds = bounds_of_day(day);
        if kept::first_of_days(pool).await? < bounds.1 {
            let of_day = parts.iter().filter(|part| part.day() == Some(day));
            let shut = of_day.filter(|part| is_written_late(part));
            let shut: Vec<String> = shut.map(|part| part.name.clone()).collect();
            transact(pool, move |tx| keep(tx, shut, bounds, now)).await?;
            tracing::info!(%day, "a day has ended");
        }
    }
    // After all of them have ended: this may have to wait for others.
    for part in &parts {
        remove(line, part).await?;
    }
    Ok(())
}

/// Whether results of old events are written there.
fn is_written_late(part: &Part) -> bool {
    part.attached && matches!(part.table_name.as_str(), "deliveries" | "attempts")
}

/// Keeps what something still names, and ends the day, in one commit.
async fn keep(
    mut tx: Tx,
    shut: Vec<String>,
    (from, to): (EventId, EventId),
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for sql in [
        // A day of nothing but dead letters takes its time.
        "set local statement_timeout = '5min'",
        // First, as those do who must know which days have ended until they commit.
        "select from ringback.ended where one for update",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.map_err(failed)?;
    }
    for part in shut {
        // Waits for whoever writes there. Those who come after are refused once this has
        // committed, and look again.
        let sql = format!(
            "create or replace trigger ended before insert or update on ringback.{part} \
             for each row execute function ringback.refuse_ended()"
        );
        // Made of words from above and a date.
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    let lanes: Vec<i16> = Lane::all().map(|lane| i16::from(lane.get())).collect();
    sqlx::query(PARK)
        .bind(from.get())
        .bind(to.get())
        .bind(lanes)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    // Each sees what the ones before it did.
    for sql in [KEEP_EVENTS, KEEP_LABELS, KEEP_DELIVERIES, KEEP_ATTEMPTS] {
        sqlx::query(sql)
            .bind(from.get())
            .bind(to.get())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    sqlx::query(END)
        .bind(to.get())
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)
}

/// Detaches a part, from wherever an earlier call left it, and drops it.
async fn remove(line: &mut PgConnection, part: &Part) -> Result<(), StoreError> {
    let Part {
        table_name,
        name,
        attached,
        pending,
    } = part;
    let how = if *pending { "finalize" } else { "concurrently" };
    let detach =
        format!("alter table ringback.{table_name} detach partition ringback.{name} {how}");
    let drop = format!("drop table ringback.{name}");
    for sql in attached.then_some(detach).into_iter().chain([drop]) {
        // Made of the names that tables and their parts have here.
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *line)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// What nobody sent in all that time waits among the retries from now on: so the outbox
/// names no event of an ended day.
const PARK: &str = r#"
    with parked as (
        delete from ringback.outbox
        where lane = any($3::int2[]) and event_id >= $1 and event_id < $2
        returning lane, event_id, subscription_id, key_hash
    )
    insert into ringback.retries
        (event_id, subscription_id, lane, app_id, type_id, key_hash, attempts_made, due_at)
    select p.event_id, p.subscription_id, p.lane, e.app_id, e.type_id, p.key_hash, 0, $4
    from parked p
    cross join lateral (
        select app_id, type_id from ringback.events
        where id = p.event_id and id >= $1 and id < $2
        limit 1
    ) e
    on conflict do nothing
"#;

/// What is kept of a day: deliveries that wait, by each application's index, and dead
/// letters.
macro_rules! named {
    () => {
        "with named as materialized ( \
             select r.event_id, r.subscription_id from ringback.apps a \
             cross join lateral ( \
                 select event_id, subscription_id from ringback.retries \
                 where app_id = a.id and event_id >= $1 and event_id < $2 \
                 order by event_id, subscription_id offset 0 \
             ) r \
             union \
             select event_id, subscription_id from ringback.deliveries \
             where status = 3 and event_id >= $1 and event_id < $2 \
         ) "
    };
}

const KEEP_EVENTS: &str = concat!(
    named!(),
    "insert into ringback.kept_events \
     select e.* from (select distinct event_id from named) n \
     cross join lateral ( \
         select * from ringback.events where id = n.event_id and id >= $1 and id < $2 limit 1 \
     ) e \
     on conflict do nothing"
);

/// By what is written in the events themselves: their labels have no index by event.
const KEEP_LABELS: &str = "
    insert into ringback.kept_event_labels (app_id, name, value, event_id)
    select e.app_id, l.name, l.value, e.id
    from ringback.kept_events e
    cross join lateral json_each_text(e.labels::json) as l (name, value)
    where e.id >= $1 and e.id < $2
    on conflict do nothing
";

const KEEP_DELIVERIES: &str = concat!(
    named!(),
    "insert into ringback.kept_deliveries \
     select d.* from named n \
     cross join lateral ( \
         select * from ringback.deliveries \
         where event_id = n.event_id and subscription_id = n.subscription_id \
             and event_id >= $1 and event_id < $2 \
         limit 1 \
     ) d \
     on conflict do nothing"
);

const KEEP_ATTEMPTS: &str = concat!(
    named!(),
    "insert into ringback.kept_attempts \
     select a.* from named n \
     cross join lateral ( \
         select * from ringback.attempts \
         where event_id = n.event_id and subscription_id = n.subscription_id \
             and event_id >= $1 and event_id < $2 \
         order by number offset 0 \
     ) a \
     on conflict do nothing"
);

const END: &str = "update ringback.ended set event_id = $1 where one and event_id < $1";
