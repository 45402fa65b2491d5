//! The statements behind lists of deliveries.
//!
//! Each reads one place by one index, newest event first, in *strands*: ranges of
//! that index that are in order each, like one per lane. From each strand at most `$4`
//! rows are examined, so no list reads a table, however little of it matches.
//!
//! What belongs to a row is asked for in a subquery or behind a `limit`, not joined: a
//! join could be turned round, and would lose the order that the first `$5` come in.
//!
//! | | |
//! |---|---|
//! | `$1` | the first event |
//! | `$2`, `$3` | up to this event, and behind this pair |
//! | `$4` | rows to examine per strand |
//! | `$5` | rows to bring |
//! | `$6` | application |
//! | `$7` | subscription |
//! | `$8` | event types |
//! | `$9` | status |
//! | `$10`, `$11` | the last attempt's status code, from and to |
//! | `$12` | the last attempt's error |
//! | `$13`, `$14` | events, and the applications they belong to |
//! | `$15` | the subscription's lane |
//! | `$16` | the first event whose day has not ended |

/// Two statements: what matches, and the key of the last row that was examined in the
/// strand that had to stop first, if any had to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement {
    pub(super) rows: &'static str,
    pub(super) edge: &'static str,
}

/// - `strands`: what to go through, as `s`.
/// - `body`: the rows of one strand.
/// - `columns`, `extra`: what a row `q` of it becomes.
macro_rules! statement {
    ($strands:expr, $body:expr, $columns:expr, $extra:expr) => {
        Statement {
            rows: concat!(
                "select p.event_id, p.subscription_id, p.app_id, ",
                "(select name from ringback.event_types where id = p.type_id), ",
                "p.status, p.attempts, ",
                "p.due_at, p.last_code, p.last_error, p.dead_reason, p.settled_at from (",
                "select * from (select q.event_id, q.subscription_id, ",
                $columns,
                " from ",
                $strands,
                " cross join lateral (",
                $body,
                " and event_id >= $1 and event_id <= $2",
                " and (event_id, subscription_id) < ($2, $3)",
                " order by event_id desc, subscription_id desc limit $4) q ",
                $extra,
                ") f where ($6::int8 is null or app_id = $6)",
                " and ($7::int8 is null or subscription_id = $7)",
                " and ($8::int4[] is null or type_id = any($8))",
                " and ($9::int2 is null or status = $9)",
                " and ($10::int2 is null or last_code between $10 and $11)",
                " and ($12::int2 is null or last_error = $12)",
                " order by event_id desc, subscription_id desc limit $5",
                ") p"
            ),
            edge: concat!(
                "select q.event_id, q.subscription_id from ",
                $strands,
                " cross join lateral (",
                $body,
                " and event_id >= $1 and event_id <= $2",
                " and (event_id, subscription_id) < ($2, $3)",
                " order by event_id desc, subscription_id desc offset $4 - 1 limit 1) q",
                " order by q.event_id desc, q.subscription_id desc limit 1"
            ),
        }
    };
}

macro_rules! outbox {
    ($strands:expr, $condition:expr) => {
        statement!(
            $strands,
            concat!(
                "select event_id, subscription_id from ringback.outbox where ",
                $condition
            ),
            "e.app_id, e.type_id, 0::int2 as status, 0::int2 as attempts, \
             null::timestamptz as due_at, null::int2 as last_code, null::int2 as last_error, \
             null::int2 as dead_reason, null::timestamptz as settled_at",
            "cross join lateral (select app_id, type_id from ringback.events \
             where id = q.event_id limit 1) e"
        )
    };
}

macro_rules! retries {
    ($strands:expr, $condition:expr) => {
        statement!(
            $strands,
            concat!("select * from ringback.retries where ", $condition),
            "q.app_id, q.type_id, \
             case when (select k.status from ringback.subscriptions k \
             where k.id = q.subscription_id) = 1 then 4::int2 \
             when q.attempts_made > 0 then 1::int2 else 0::int2 end as status, \
             q.attempts_made as attempts, q.due_at, q.last_code, q.last_error, \
             null::int2 as dead_reason, null::timestamptz as settled_at",
            ""
        )
    };
}

/// - `table`: the one that lies in days, or the one for what outlives them, and what
///   counts there.
macro_rules! settled {
    ($table:literal, $strands:expr, $condition:expr) => {
        statement!(
            $strands,
            concat!(
                "select event_id, subscription_id, app_id, type_id, status, attempts, last_code, \
                 last_error, dead_reason, settled_at from ",
                $table,
                " and ",
                $condition
            ),
            "q.app_id, q.type_id, q.status, q.attempts, null::timestamptz as due_at, \
             q.last_code, q.last_error, q.dead_reason, q.settled_at",
            // A live row outranks a settled one.
            "where (select true from ringback.retries r \
             where r.subscription_id = q.subscription_id and r.event_id = q.event_id) is null"
        )
    };
}

/// One strand, for what an index has in order as it is.
macro_rules! one {
    () => {
        "(values (0)) as s (strand)"
    };
}
macro_rules! events {
    () => {
        "unnest($13::int8[], $14::int8[]) as s (event_id, app_id)"
    };
}

pub(super) const OUTBOX_OF_SUBSCRIPTION: Statement = outbox!(one!(), "lane = $15");
pub(super) const OUTBOX_OF_EVENTS: Statement = outbox!(
    concat!(events!(), " cross join generate_series(0, 255) as l (lane)"),
    "lane = l.lane::int2 and event_id = s.event_id"
);
pub(super) const OUTBOX: Statement =
    outbox!("generate_series(0, 255) as s (lane)", "lane = s.lane::int2");

pub(super) const RETRIES_OF_SUBSCRIPTION: Statement = retries!(one!(), "subscription_id = $7");
pub(super) const RETRIES_OF_EVENTS: Statement =
    retries!(events!(), "app_id = s.app_id and event_id = s.event_id");
pub(super) const RETRIES_OF_APP: Statement = retries!(one!(), "app_id = $6");
pub(super) const RETRIES: Statement = retries!("ringback.apps s", "app_id = s.id");

/// By the index that fits best, in one of the two tables of settled deliveries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) failed_of_subscription: Statement,
    pub(super) failed_of_app: Statement,
    pub(super) of_events: Statement,
    pub(super) any: Statement,
}

macro_rules! settled_in {
    ($table:literal) => {
        Settled {
            failed_of_subscription: settled!(
                $table,
                one!(),
                "subscription_id = $7 and status <> 2"
            ),
            failed_of_app: settled!($table, one!(), "app_id = $6 and status <> 2"),
            of_events: settled!($table, events!(), "event_id = s.event_id"),
            any: settled!($table, one!(), "true"),
        }
    };
}

/// Of an ended day, what is not dropped yet does not count.
pub(super) const SETTLED: Settled = settled_in!("ringback.deliveries where event_id >= $16");
pub(super) const KEPT: Settled = settled_in!("ringback.kept_deliveries where true");
