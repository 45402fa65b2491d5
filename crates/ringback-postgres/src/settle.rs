//! Settles: records attempts and moves their rows.
//!
//! The live row is the token: whoever removes it from the outbox, or changes it among
//! the retries, decides what becomes of the delivery, and does both in one statement.
//! A result whose row is gone or differs moves nothing; its attempt is recorded alone.
//!
//! Live rows are found by `>=` and `<=` of their whole key, never by `=`: that could be
//! joined either way round, and a planner that last saw the table empty reads all of it
//! for each batch, long after it has filled up.
//!
//! What outlives its day is settled by the same statements, said of `kept_*`. A day that
//! has ended refuses rows, so whoever did not know that yet looks again.

mod rows;

use std::{collections::HashSet, sync::LazyLock};

use chrono::{DateTime, Utc};
use ringback_model::DeliveryId;
use ringback_store::{NodeLease, Settlement, StoreError};
use sqlx::Row;

use self::rows::Rows;
use crate::{
    Inner,
    failure::{failed, is_ended_day, is_taken},
    kept::in_kept,
    transaction::retry_collisions,
};

/// See [`ringback_store::Outbox::settle`].
pub(crate) async fn settle(
    store: &Inner,
    lease: &NodeLease,
    settlements: &[Settlement],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let types = settlements.iter().map(|settlement| &settlement.event_type);
    let types = store.event_types.numbers(&store.pool, types).await?;
    let mut open: Vec<(&Settlement, i32)> = settlements.iter().zip(types).collect();
    // In the order in which others lock rows, so that nobody waits in a circle. Stable:
    // results of one delivery stay in their order.
    open.sort_by_key(|(settlement, _)| (settlement.lane, settlement.delivery));
    open.dedup();
    while !open.is_empty() {
        let mut seen: HashSet<DeliveryId> = HashSet::with_capacity(open.len());
        // A statement moves a row once; a second result for it takes another statement.
        let (now_settled, later) = open
            .into_iter()
            .partition(|(settlement, _)| seen.insert(settlement.delivery));
        settle_distinct(store, lease, now_settled, now).await?;
        open = later;
    }
    Ok(())
}

async fn settle_distinct(
    store: &Inner,
    lease: &NodeLease,
    settlements: Vec<(&Settlement, i32)>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    loop {
        let (kept, of_days): (Vec<_>, Vec<_>) = settlements
            .iter()
            .partition(|(settlement, _)| store.ended.covers(settlement.delivery.event));
        let mut settled = settle_in(store, lease, &of_days, DAYS, now).await;
        if settled.is_ok() && !kept.is_empty() {
            let statements = Statements {
                successes: None,
                all: &ALL_IN_KEPT,
                record: &RECORD_IN_KEPT,
            };
            settled = settle_in(store, lease, &kept, statements, now).await;
        }
        match settled {
            // What is settled already stays so when it is settled again.
            Err(error) if is_ended_day(&error) && store.ended.look(&store.pool).await? => {}
            settled => return settled,
        }
    }
}

/// Which tables to settle in.
#[derive(Clone, Copy)]
struct Statements {
    /// For first attempts that succeeded; `None` where they are too few.
    successes: Option<&'static str>,
    all: &'static str,
    record: &'static str,
}

const DAYS: Statements = Statements {
    successes: Some(SETTLE_SUCCESSES),
    all: SETTLE_ALL,
    record: RECORD,
};

static ALL_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(SETTLE_ALL));
static RECORD_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(RECORD));

async fn settle_in(
    store: &Inner,
    lease: &NodeLease,
    settlements: &[(&Settlement, i32)],
    statements: Statements,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows = Rows::of(settlements);
    let wanted = settlements.len();
    let mut moved = None;
    if let Some(successes) = statements.successes
        && rows.are_first_successes()
    {
        let result = retry_collisions(|| store.settle.fetch(rows.bind_successes(successes, now)));
        moved = match result.await {
            // It was settled without its row: only the other statement expects that.
            Err(error) if is_taken(&error) => None,
            done => Some(done?),
        };
    }
    let moved = match moved {
        Some(moved) => moved,
        None => {
            retry_collisions(|| store.settle.fetch(rows.bind(statements.all, lease, now))).await?
        }
    };
    let moved: i64 = match moved.first() {
        Some(row) => row.try_get(0).map_err(failed)?,
        None => 0,
    };
    if usize::try_from(moved).is_ok_and(|moved| moved == wanted) {
        return Ok(());
    }
    // Some rows were gone. It does no harm to ask for all of them: what was recorded
    // by moving is there already.
    retry_collisions(|| store.settle.fetch(rows.bind_attempts(statements.record))).await?;
    Ok(())
}

/// First attempts that succeeded: nearly everything, on a good day. Successes need
/// no fence.
const SETTLE_SUCCESSES: &str = r#"
    with moved as (
        delete from ringback.outbox o
        using unnest(
            $1::int2[], $2::int8[], $3::int8[], $4::int8[], $5::int4[], $6::int2[], $7::bytea[]
        ) as r (lane, event_id, subscription_id, app_id, type_id, last_code, record)
        where (o.lane, o.event_id, o.subscription_id)
                >= (r.lane, r.event_id, r.subscription_id)
            and (o.lane, o.event_id, o.subscription_id)
                <= (r.lane, r.event_id, r.subscription_id)
        returning r.event_id, r.subscription_id, r.app_id, r.type_id, r.last_code, r.record
    ), settled as (
        insert into ringback.deliveries
            (event_id, subscription_id, app_id, settled_at, type_id, status, attempts,
             last_code, record)
        select event_id, subscription_id, app_id, $8, type_id, 2, 1, last_code, record
        from moved
    )
    select count(*) from moved
"#;

/// Everything else. `may_move`: it succeeded, or the lease still owns the lane; the
/// *delete* needs that as much as the insert, or a deposed node would lose deliveries.
const SETTLE_ALL: &str = r#"
    with r as materialized (
        select r.*, r.status = 2 or exists (
            select from ringback.lanes l
            join ringback.nodes n on n.id = l.owner and n.epoch = l.owner_epoch
            where l.lane = r.lane and l.owner = $17 and l.owner_epoch = $18
        ) as may_move
        from unnest(
            $1::int2[], $2::int8[], $3::int8[], $4::int8[], $5::int4[], $6::int2[], $7::bytea[],
            $8::bool[], $9::int2[], $10::int2[], $11::int2[], $12::int2[], $13::int2[],
            $14::int2[], $15::timestamptz[]
        ) as r (lane, event_id, subscription_id, app_id, type_id, last_code, record,
                in_outbox, was_made, was_round, attempts, last_error, status,
                dead_reason, due_at)
    ), from_outbox as (
        delete from ringback.outbox o using r
        where r.in_outbox and r.may_move
            and (o.lane, o.event_id, o.subscription_id)
                >= (r.lane, r.event_id, r.subscription_id)
            and (o.lane, o.event_id, o.subscription_id)
                <= (r.lane, r.event_id, r.subscription_id)
        returning r.*, o.key_hash
    ), from_retries as (
        delete from ringback.retries q using r
        where not r.in_outbox and r.may_move and r.status <> 1
            and (q.subscription_id, q.event_id) >= (r.subscription_id, r.event_id)
            and (q.subscription_id, q.event_id) <= (r.subscription_id, r.event_id)
            and q.attempts_made = r.was_made and q.round_start = r.was_round
        returning r.event_id, r.subscription_id, r.app_id, r.type_id, r.status, r.attempts,
            r.dead_reason, r.record,
            -- Ended without an attempt: the one before is still the last.
            case when r.record is null then q.last_code else r.last_code end as last_code,
            case when r.record is null then q.last_error else r.last_error end as last_error
    ), waits_on as (
        update ringback.retries q
        set attempts_made = r.attempts, due_at = r.due_at,
            last_code = case when r.record is null then q.last_code else r.last_code end,
            last_error = case when r.record is null then q.last_error else r.last_error end
        from r
        where not r.in_outbox and r.may_move and r.status = 1
            and (q.subscription_id, q.event_id) >= (r.subscription_id, r.event_id)
            and (q.subscription_id, q.event_id) <= (r.subscription_id, r.event_id)
            and q.attempts_made = r.was_made and q.round_start = r.was_round
        returning r.event_id, r.subscription_id, r.attempts, r.record
    ), waits as (
        insert into ringback.retries
            (event_id, subscription_id, lane, app_id, type_id, key_hash, last_code, last_error,
             attempts_made, due_at)
        select event_id, subscription_id, lane, app_id, type_id, key_hash, last_code,
            last_error, attempts, due_at
        from from_outbox where status = 1
        on conflict do nothing
    ), settled as (
        insert into ringback.deliveries as d
            (event_id, subscription_id, app_id, settled_at, type_id, status, attempts,
             last_code, last_error, dead_reason, record)
        select event_id, subscription_id, app_id, $16, type_id, status, attempts,
            last_code, last_error, dead_reason, record
        from from_outbox where status <> 1
        union all
        select event_id, subscription_id, app_id, $16, type_id, status, attempts,
            last_code, last_error, dead_reason, record
        from from_retries
        -- A round before this one; its last attempt was moved away when this one began.
        on conflict (event_id, subscription_id) do update
        set settled_at = excluded.settled_at, status = excluded.status,
            attempts = excluded.attempts, last_code = excluded.last_code,
            last_error = excluded.last_error, dead_reason = excluded.dead_reason,
            record = excluded.record
        where d.attempts <= excluded.attempts
    ), recorded as (
        insert into ringback.attempts (event_id, subscription_id, number, record)
        select event_id, subscription_id, attempts, record
        from from_outbox where status = 1 and record is not null
        union all
        select event_id, subscription_id, attempts, record
        from waits_on where record is not null
        on conflict do nothing
    )
    select (select count(*) from from_outbox) + (select count(*) from from_retries)
        + (select count(*) from waits_on)
"#;

/// Attempts whose rows did not move: they are recorded where they are not yet, and a
/// delivery that was withdrawn meanwhile counts them.
const RECORD: &str = r#"
    with r as materialized (
        select * from unnest($1::int8[], $2::int8[], $3::int2[], $4::int2[], $5::int2[], $6::bytea[])
            as r (event_id, subscription_id, number, last_code, last_error, record)
    ), known as materialized (
        select r.event_id, r.subscription_id, r.number, d.attempts, d.record is null as withdrawn
        from r
        cross join lateral (
            select attempts, record from ringback.deliveries
            where event_id = r.event_id and subscription_id = r.subscription_id
                -- The bounds are for the planner: by them it leaves out days.
                and event_id >= $7 and event_id <= $8
            limit 1
        ) d
    ), counted as (
        update ringback.deliveries d
        set attempts = r.number, last_code = r.last_code, last_error = r.last_error
        from r
        where (d.event_id, d.subscription_id) >= (r.event_id, r.subscription_id)
            and (d.event_id, d.subscription_id) <= (r.event_id, r.subscription_id)
            and d.event_id >= $7 and d.event_id <= $8
            and d.record is null and d.attempts < r.number
            and (
                select true from ringback.retries q
                where q.subscription_id = r.subscription_id and q.event_id = r.event_id
            ) is null
    )
    insert into ringback.attempts (event_id, subscription_id, number, record)
    select event_id, subscription_id, number, record from r
    where (event_id, subscription_id, number) not in (
        select event_id, subscription_id, number from known
        where attempts = number and not withdrawn
    )
    on conflict do nothing
"#;
