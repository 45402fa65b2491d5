//! Days: the partitions that events and what became of them lie in.
//!
//! They are made ahead. A new one is built beside its table and then attached, which
//! keeps nobody from reading or writing meanwhile.

use std::collections::BTreeSet;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use ringback_model::EventId;
use ringback_store::StoreError;
use sqlx::{AssertSqlSafe, PgPool};

use crate::{
    failure::failed,
    transaction::{Tx, transact},
    usage,
};

/// Tables by the day of their events' ids, with the storage options of their
/// partitions: what fits into a page stays in the row, which costs less to write.
const TABLES: [(&str, &str); 4] = [
    ("events", " with (toast_tuple_target = 8160)"),
    ("event_labels", ""),
    ("deliveries", ""),
    ("attempts", ""),
];

/// How long keys are remembered.
const REMEMBERED: TimeDelta = TimeDelta::hours(24);
/// How many keys are forgotten in one commit.
const FORGOTTEN_AT_ONCE: i64 = 5_000;

/// Makes yesterday to the third day from now, and forgets old keys.
pub(crate) async fn tend(pool: &PgPool, now: DateTime<Utc>) -> Result<(), StoreError> {
    make_days_of(pool, (-1..=3).map(|day| now + TimeDelta::days(day))).await?;
    usage::forget(pool, now).await?;
    forget_keys(pool, now - REMEMBERED).await
}

/// The first event of a day, and the first of the next.
pub(crate) fn bounds_of_day(day: NaiveDate) -> (EventId, EventId) {
    let floor = |day: NaiveDate| EventId::floor(day.and_time(NaiveTime::MIN).and_utc());
    let next = day.checked_add_days(Days::new(1)).unwrap_or(day);
    (floor(day), floor(next))
}

/// Makes the days of these times, if they are not made yet.
pub(crate) async fn make_days_of(
    pool: &PgPool,
    times: impl Iterator<Item = DateTime<Utc>>,
) -> Result<(), StoreError> {
    let days: BTreeSet<NaiveDate> = times.map(|time| time.date_naive()).collect();
    let wanted: Vec<Partition> = days.into_iter().flat_map(Partition::of_day).collect();
    let names: Vec<String> = wanted
        .iter()
        .map(|partition| partition.name.clone())
        .collect();
    let made: i64 = sqlx::query_scalar(MADE)
        .bind(&names)
        .fetch_one(pool)
        .await
        .map_err(failed)?;
    if usize::try_from(made).is_ok_and(|made| made == names.len()) {
        return Ok(());
    }
    transact(pool, move |tx| make_missing(tx, wanted)).await
}

/// One table's part for one day.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Partition {
    table: &'static str,
    options: &'static str,
    name: String,
    /// The first id of the day, and the first of the next.
    bounds: (EventId, EventId),
}

impl Partition {
    fn of_day(day: NaiveDate) -> impl Iterator<Item = Self> {
        let bounds = bounds_of_day(day);
        let name = move |table| format!("{table}_{}", day.format("%Y%m%d"));
        TABLES.into_iter().map(move |(table, options)| Self {
            table,
            options,
            name: name(table),
            bounds,
        })
    }

    fn create(&self) -> String {
        let Self {
            table,
            options,
            name,
            ..
        } = self;
        format!("create table ringback.{name} (like ringback.{table} including all){options}")
    }

    fn attach(&self) -> String {
        let Self {
            table,
            name,
            bounds: (from, to),
            ..
        } = self;
        format!(
            "alter table ringback.{table} attach partition ringback.{name} \
             for values from ({}) to ({})",
            from.get(),
            to.get(),
        )
    }
}

const MADE: &str = r#"
    select count(*) from unnest($1::text[]) as p (name)
    where to_regclass('ringback.' || p.name) is not null
"#;

async fn make_missing(mut tx: Tx, wanted: Vec<Partition>) -> Result<(), StoreError> {
    // One at a time, whichever node it is. The number is of no meaning elsewhere.
    sqlx::query("select pg_advisory_xact_lock(7464001)")
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    for partition in wanted {
        let made: i64 = sqlx::query_scalar(MADE)
            .bind([&partition.name].as_slice())
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
        if made == 0 {
            for sql in [partition.create(), partition.attach()] {
                // Made of words from above, a date and numbers.
                sqlx::raw_sql(AssertSqlSafe(sql))
                    .execute(&mut *tx)
                    .await
                    .map_err(failed)?;
            }
            // A clock that was set back: a day that is made again is a day again.
            sqlx::query("update ringback.ended set event_id = $1 where one and event_id > $1")
                .bind(partition.bounds.0.get())
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
        }
    }
    tx.commit().await.map_err(failed)
}

async fn forget_keys(pool: &PgPool, before: DateTime<Utc>) -> Result<(), StoreError> {
    loop {
        let forgotten = sqlx::query(
            r#"
            delete from ringback.idempotency
            where ctid = any(array(
                select ctid from ringback.idempotency
                where created_at < $1 order by created_at limit $2
            ))
            "#,
        )
        .bind(before)
        .bind(FORGOTTEN_AT_ONCE)
        .execute(pool)
        .await
        .map_err(failed)?;
        if forgotten.rows_affected() < FORGOTTEN_AT_ONCE.cast_unsigned() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_holds_exactly_the_ids_that_were_made_on_it() {
        let day = NaiveDate::from_ymd_opt(2026, 1, 5).unwrap();
        let events = Partition::of_day(day).next().unwrap();
        assert_eq!(events.name, "events_20260105");
        let (from, to) = events.bounds;
        let instant = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(from, EventId::floor(instant("2026-01-05T00:00:00Z")));
        assert_eq!(to, EventId::floor(instant("2026-01-06T00:00:00Z")));
        assert!(EventId::floor(instant("2026-01-05T23:59:59.999Z")) < to);
        let next = Partition::of_day(day.succ_opt().unwrap()).next().unwrap();
        assert_eq!(next.bounds.0, to, "no id falls between two days");
    }
}
