//! Settles: records attempts and moves their rows, a batch in two statements.
//!
//! The batch goes into a temporary table first, where it is decided once per row
//! whether it moves; a handful of statements without parameters then do the rest, and
//! travel to the connection as one text.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use ringback_model::{AttemptError, DeadReason, DeliveryId, DeliveryStatus};
use ringback_store::{AttemptRecord, Next, NodeLease, Settlement, Source, StoreError};
use sqlx::{Arguments, SqliteConnection, error::BoxDynError, sqlite::SqliteArguments};

use crate::{failure::failed, rows::RowStatement};

/// What is not moved was cancelled, replayed or settled meanwhile, or is another
/// node's: its attempt is recorded all the same, with the settled row if there is one
/// that does not know of it.
macro_rules! record_late {
    () => {
        "insert or ignore into attempts (event_id, subscription_id, number, record) \
         select d.event_id, d.subscription_id, d.attempts, d.record \
         from temp.settling s cross join deliveries d \
         on d.event_id = s.event_id and d.subscription_id = s.subscription_id \
         where not s.moves and d.attempts < s.number and d.record is not null; \
         update deliveries set (attempts, last_code, last_error, record) = \
         (select s.number, s.code, s.error, s.record from temp.settling s \
         where s.event_id = deliveries.event_id \
         and s.subscription_id = deliveries.subscription_id) \
         where (event_id, subscription_id) in (select d.event_id, d.subscription_id \
         from temp.settling s cross join deliveries d \
         on d.event_id = s.event_id and d.subscription_id = s.subscription_id \
         where not s.moves and d.attempts < s.number); \
         insert or ignore into attempts (event_id, subscription_id, number, record) \
         select s.event_id, s.subscription_id, s.number, s.record from temp.settling s \
         where not s.moves and s.number is not null and not exists (select 1 from deliveries d \
         where d.event_id = s.event_id and d.subscription_id = s.subscription_id \
         and d.attempts = s.number and d.record is not null); "
    };
}

/// Where rows go that are to be tried again; other numbers are those of statuses.
const RETRY: i64 = 1;

/// Made when the writer's connection is opened.
pub(crate) const TEMPORARY_TABLE: &str = "
create temporary table settling (
    lane            integer not null,
    event_id        integer not null,
    subscription_id integer not null,
    app_id          integer not null,
    type_id         integer not null,
    -- Of the row in the retries; null if it came from the outbox.
    attempts_made   integer,
    round_start     integer,
    -- Of the attempt; null if none was made.
    number          integer,
    code            integer,
    error           integer,
    record          blob,
    -- 1 to be tried again, else the number of a status.
    next            integer not null,
    dead_reason     integer,
    -- When to try again, or when it was settled.
    at              integer not null,
    -- The row that it came from is there, and may be moved.
    moves           integer not null
) strict";

static FILL: RowStatement = RowStatement::new(
    "insert into temp.settling select column1, column2, column3, column4, column5, column6, \
     column7, column8, column9, column10, column11, column12, column13, column14, \
     (column12 = 2 or exists (select 1 from lanes l \
         where l.lane = column1 and l.owner = column15 and l.owner_epoch = column16)) \
     and case when column6 is null \
     then exists (select 1 from outbox o where o.lane = column1 \
         and o.event_id = column2 and o.subscription_id = column3) \
     else exists (select 1 from retries r where r.subscription_id = column3 \
         and r.event_id = column2 and r.attempts_made = column6 and r.round_start = column7) end \
     from",
    16,
    "where column1 is not null",
);

/// For batches of which every row came from the outbox and is settled now.
const MOVE_FIRST: &str = concat!(
    "insert or replace into deliveries (event_id, subscription_id, app_id, settled_at, type_id, \
     status, attempts, last_code, last_error, dead_reason, record) \
     select event_id, subscription_id, app_id, at, type_id, next, coalesce(number, 0), code, \
     error, dead_reason, record from temp.settling where moves; \
     delete from outbox where (lane, event_id, subscription_id) in \
     (select lane, event_id, subscription_id from temp.settling where moves); ",
    record_late!(),
    "delete from temp.settling"
);

const MOVE_ANY: &str = concat!(
    "insert or replace into deliveries (event_id, subscription_id, app_id, settled_at, type_id, \
     status, attempts, last_code, last_error, dead_reason, record) \
     select s.event_id, s.subscription_id, s.app_id, s.at, s.type_id, s.next, \
     coalesce(s.number, s.attempts_made, 0), \
     iif(s.number is null, r.last_code, s.code), iif(s.number is null, r.last_error, s.error), \
     s.dead_reason, s.record \
     from temp.settling s left join retries r on s.attempts_made is not null \
     and r.subscription_id = s.subscription_id and r.event_id = s.event_id \
     where s.moves and s.next <> 1; \
     insert into retries as r (subscription_id, event_id, lane, app_id, type_id, key_hash, \
     last_code, last_error, attempts_made, round_start, due_at) \
     select s.subscription_id, s.event_id, s.lane, s.app_id, s.type_id, \
     (select o.key_hash from outbox o where o.lane = s.lane and o.event_id = s.event_id \
     and o.subscription_id = s.subscription_id), s.code, s.error, \
     coalesce(s.number, s.attempts_made, 0), coalesce(s.round_start, 0), s.at \
     from temp.settling s where s.moves and s.next = 1 \
     on conflict (subscription_id, event_id) do update set due_at = excluded.due_at, \
     last_code = iif(r.attempts_made < excluded.attempts_made, excluded.last_code, r.last_code), \
     last_error = iif(r.attempts_made < excluded.attempts_made, excluded.last_error, r.last_error), \
     attempts_made = excluded.attempts_made; \
     delete from outbox where (lane, event_id, subscription_id) in \
     (select lane, event_id, subscription_id from temp.settling \
     where moves and attempts_made is null); \
     delete from retries where (subscription_id, event_id) in \
     (select subscription_id, event_id from temp.settling \
     where moves and attempts_made is not null and next <> 1); \
     insert or ignore into attempts (event_id, subscription_id, number, record) \
     select event_id, subscription_id, number, record from temp.settling \
     where moves and next = 1 and number is not null; ",
    record_late!(),
    "delete from temp.settling"
);

/// See [`ringback_store::Outbox::settle`].
///
/// - `types`: the numbers of the events' types, in order.
pub(crate) async fn settle(
    connection: &mut SqliteConnection,
    lease: NodeLease,
    settlements: &[Settlement],
    types: &[i64],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows: Vec<Row<'_>> = settlements
        .iter()
        .zip(types)
        .map(|(settlement, &type_id)| Row {
            settlement,
            type_id,
            lease,
            now,
        })
        .collect();
    let mut rest = &rows[..];
    while !rest.is_empty() {
        let (wave, later) = rest.split_at(distinct(rest));
        let bytes = |row: &Row<'_>| row.settlement.attempt.as_ref().map_or(0, answer_bytes);
        FILL.run_sized(connection, wave, bytes, bind).await?;
        let moves = if wave.iter().all(is_first_and_last) {
            MOVE_FIRST
        } else {
            MOVE_ANY
        };
        sqlx::query(moves)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        rest = later;
    }
    Ok(())
}

struct Row<'s> {
    settlement: &'s Settlement,
    type_id: i64,
    lease: NodeLease,
    now: DateTime<Utc>,
}

fn bind(row: &Row<'_>, arguments: &mut SqliteArguments) -> Result<(), BoxDynError> {
    let Settlement {
        lane,
        delivery,
        app,
        source,
        attempt,
        next,
        ..
    } = row.settlement;
    let attempt = attempt.as_ref();
    let (attempts_made, round_start) = match source {
        Source::Outbox => (None, None),
        Source::Retries {
            attempts_made,
            round_start,
        } => (Some(*attempts_made), Some(*round_start)),
    };
    let (status, dead_reason, at) = match next {
        Next::Delivered => (DeliveryStatus::Delivered.code().into(), None, row.now),
        Next::Dead(reason) => (DeliveryStatus::Dead.code().into(), Some(*reason), row.now),
        Next::Cancelled => (DeliveryStatus::Cancelled.code().into(), None, row.now),
        Next::Retry { due_at } => (RETRY, None, *due_at),
    };
    arguments.add(i64::from(lane.get()))?;
    arguments.add(delivery.event.get())?;
    arguments.add(delivery.subscription.get())?;
    arguments.add(app.get())?;
    arguments.add(row.type_id)?;
    arguments.add(attempts_made.map(i64::from))?;
    arguments.add(round_start.map(i64::from))?;
    arguments.add(attempt.map(|attempt| i64::from(attempt.number)))?;
    arguments.add(attempt.and_then(status_code).map(i64::from))?;
    arguments.add(
        attempt
            .and_then(|attempt| attempt.error)
            .map(AttemptError::code),
    )?;
    arguments.add(attempt.map(AttemptRecord::pack))?;
    arguments.add(status)?;
    arguments.add(dead_reason.map(DeadReason::code))?;
    arguments.add(at.timestamp_millis())?;
    arguments.add(i64::from(row.lease.node.get()))?;
    arguments.add(row.lease.epoch)
}

fn status_code(attempt: &AttemptRecord) -> Option<u16> {
    attempt.answer.as_ref().map(|answer| answer.status_code)
}

fn answer_bytes(attempt: &AttemptRecord) -> usize {
    attempt
        .answer
        .as_ref()
        .map_or(0, |answer| answer.body.len())
}

fn is_first_and_last(row: &Row<'_>) -> bool {
    let Settlement { source, next, .. } = row.settlement;
    *source == Source::Outbox && !matches!(next, Next::Retry { .. })
}

/// How many rows from the first on are of different deliveries: what happened twice
/// to one must be settled in order.
fn distinct(rows: &[Row<'_>]) -> usize {
    let mut seen: HashSet<DeliveryId> = HashSet::with_capacity(rows.len());
    rows.iter()
        .take_while(|row| seen.insert(row.settlement.delivery))
        .count()
}
