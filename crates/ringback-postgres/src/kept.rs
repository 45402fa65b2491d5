//! What outlives its day: the tables `kept_*`, and which days they stand for.
//!
//! A statement that looks for one event or delivery needs no more than to look there
//! second, or to be said of those tables instead: [`in_kept`]. Which it is, is known
//! from [`Ended`], a memory of the row in `ended` that may be out of date. That does no
//! harm: an ended day takes no rows, and whoever tried to write there reads it again.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use ringback_model::{EventId, Retention};
use ringback_store::StoreError;
use sqlx::{PgExecutor, PgPool};

use crate::failure::failed;

/// How many rows go in one commit.
const AT_ONCE: i64 = 5_000;

/// The tables that lie in days.
const TABLES: [&str; 4] = ["events", "event_labels", "deliveries", "attempts"];

/// The same statement about what outlives its day.
pub(crate) fn in_kept(sql: &str) -> String {
    let name = |prefix: &str, table: &str| format!("ringback.{prefix}{table}");
    TABLES.iter().fold(sql.to_owned(), |sql, table| {
        sql.replace(&name("", table), &name("kept_", table))
    })
}

/// The first event whose day has not ended.
pub(crate) async fn first_of_days(executor: impl PgExecutor<'_>) -> Result<EventId, StoreError> {
    let first: i64 = sqlx::query_scalar("select event_id from ringback.ended where one")
        .fetch_one(executor)
        .await
        .map_err(failed)?;
    Ok(EventId::new(first))
}

/// Which days had ended when somebody last looked.
#[derive(Debug, Default)]
pub(crate) struct Ended(AtomicI64);

impl Ended {
    /// Whether this event's day is known to have ended.
    pub(crate) fn covers(&self, event: EventId) -> bool {
        event.get() < self.0.load(Ordering::Relaxed)
    }

    /// Looks again; answers whether there was something new.
    pub(crate) async fn look(&self, pool: &PgPool) -> Result<bool, StoreError> {
        let first = first_of_days(pool).await?.get();
        Ok(self.0.swap(first, Ordering::Relaxed) != first)
    }
}

/// Forgets what nothing names any more, or what is dead and out of its time.
pub(crate) async fn forget(
    pool: &PgPool,
    keep: Retention,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for sql in [FORGET_DELIVERIES, FORGET_ATTEMPTS, FORGET_EVENTS] {
        loop {
            let forgotten: i64 = sqlx::query_scalar(sql)
                .bind(AT_ONCE)
                .bind(keep.dead_ended_before(now).get())
                .bind(keep.dead_ended_by(now))
                .fetch_one(pool)
                .await
                .map_err(failed)?;
            if forgotten < AT_ONCE {
                break;
            }
        }
    }
    Ok(())
}

/// Deliveries that arrived or were cancelled after their day, and old dead letters. What
/// is sent again keeps them.
const FORGET_DELIVERIES: &str = r#"
    with gone as (
        select d.event_id, d.subscription_id from ringback.kept_deliveries d
        where (d.status <> 3 or (d.event_id < $2 and d.settled_at <= $3))
            and not exists (
                select from ringback.retries r
                where r.subscription_id = d.subscription_id and r.event_id = d.event_id
            )
        limit $1
    ), forgotten as (
        delete from ringback.kept_deliveries d using gone g
        where d.event_id = g.event_id and d.subscription_id = g.subscription_id
        returning 1
    )
    select count(*) from forgotten
"#;

const FORGET_ATTEMPTS: &str = r#"
    with gone as (
        select a.event_id, a.subscription_id, a.number from ringback.kept_attempts a
        where not exists (
                select from ringback.kept_deliveries d
                where d.event_id = a.event_id and d.subscription_id = a.subscription_id
            ) and not exists (
                select from ringback.retries r
                where r.subscription_id = a.subscription_id and r.event_id = a.event_id
            )
            -- The same parameters for all of them.
            and $2::int8 is not null and $3::timestamptz is not null
        limit $1
    ), forgotten as (
        delete from ringback.kept_attempts a using gone g
        where a.event_id = g.event_id and a.subscription_id = g.subscription_id
            and a.number = g.number
        returning 1
    )
    select count(*) from forgotten
"#;

const FORGET_EVENTS: &str = r#"
    with gone as (
        select e.id from ringback.kept_events e
        where not exists (
                select from ringback.kept_deliveries d where d.event_id = e.id
            ) and not exists (
                select from ringback.retries r
                where r.app_id = e.app_id and r.event_id = e.id
            )
            -- The same parameters for all of them.
            and $2::int8 is not null and $3::timestamptz is not null
        limit $1
    ), forgotten as (
        delete from ringback.kept_events e using gone g where e.id = g.id
        returning e.app_id, e.id, e.labels
    ), unlabelled as (
        delete from ringback.kept_event_labels l
        using forgotten f cross join lateral json_each_text(f.labels::json) as j (name, value)
        where l.app_id = f.app_id and l.name = j.name and l.value = j.value and l.event_id = f.id
    )
    select count(*) from forgotten
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_about_days_is_said_of_what_outlives_them() {
        let cases = [
            (
                "select from ringback.events e join ringback.event_types t",
                "select from ringback.kept_events e join ringback.event_types t",
            ),
            (
                "insert into ringback.deliveries as d select from ringback.attempts",
                "insert into ringback.kept_deliveries as d select from ringback.kept_attempts",
            ),
            ("ringback.event_labels", "ringback.kept_event_labels"),
            ("ringback.retries", "ringback.retries"),
        ];
        for (sql, expected) in cases {
            assert_eq!(in_kept(sql), expected);
        }
    }
}
