//! What waits, for operators. Nothing here reads a table from one end to the other.

use chrono::{DateTime, Utc};
use ringback_model::{EventId, SubscriptionStatus};
use ringback_store::{Backlog, Connections, StoreError};
use sqlx::PgPool;

use crate::failure::failed;

/// See [`ringback_store::Observe::backlog`].
pub(crate) async fn backlog(pool: &PgPool, now: DateTime<Utc>) -> Result<Backlog, StoreError> {
    let first = [oldest_pending(pool).await?, oldest_retry(pool, now).await?];
    let (fresh, retrying, held) = waiting_retries(pool).await?;
    let mut backlog = Backlog {
        oldest_due_at: first.into_iter().flatten().min(),
        pending: outbox_rows(pool).await? + fresh,
        retrying,
        held,
        failing: failing(pool).await?,
        ..Backlog::default()
    };
    for (status, count) in subscriptions(pool).await? {
        match SubscriptionStatus::from_code(status) {
            Some(SubscriptionStatus::Active) => backlog.active = counted(count),
            Some(SubscriptionStatus::Paused) => backlog.paused = counted(count),
            Some(SubscriptionStatus::Disabled) => backlog.disabled = counted(count),
            None => {
                return Err(StoreError::Corrupt {
                    table: "subscriptions",
                    column: "status",
                });
            }
        }
    }
    Ok(backlog)
}

/// See [`ringback_store::Observe::connections`].
pub(crate) fn connections(pool: &PgPool) -> Connections {
    let idle = pool.num_idle() as u64;
    // Two readings: one may be older than the other.
    let used = u64::from(pool.size()).saturating_sub(idle);
    Connections { used, idle }
}

// A join with `subscriptions` may be planned to read all of them; a lateral look-up with
// `offset 0` cannot.

/// When the first event was accepted that an active subscription has in the outbox.
async fn oldest_pending(pool: &PgPool) -> Result<Option<DateTime<Utc>>, StoreError> {
    // One step per lane. Rows of a paused subscription stand in the way only until its
    // lane's owner has parked them: so many of them are looked behind.
    let first: Option<i64> = sqlx::query_scalar(
        r#"
        select min(first.event_id)
        from generate_series(0, 255) as l (lane)
        cross join lateral (
            select o.event_id
            from (
                select event_id, subscription_id from ringback.outbox
                where lane = l.lane
                order by event_id limit 1000
            ) o
            cross join lateral (
                select 1 from ringback.subscriptions s
                where s.id = o.subscription_id and s.status = 0 and s.deleted_at is null
                offset 0
            ) s
            order by o.event_id limit 1
        ) first
        "#,
    )
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    Ok(first.map(|event| EventId::new(event).time()))
}

/// When the first retry of an active subscription was due.
async fn oldest_retry(
    pool: &PgPool,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    // From subscription to subscription, one step each: what a paused one holds is long
    // due, so the first rows by time would be its. All lanes by turns, so that the limit
    // leaves out none.
    sqlx::query_scalar(
        r#"
        with recursive first as (
            select l.lane::int2 as lane, r.subscription_id, r.due_at
            from generate_series(0, 255) as l (lane)
            cross join lateral (
                select subscription_id, due_at from ringback.retries
                where lane = l.lane
                order by subscription_id, due_at limit 1
            ) r
            union all
            select f.lane, r.subscription_id, r.due_at
            from first f
            cross join lateral (
                select subscription_id, due_at from ringback.retries
                where lane = f.lane and subscription_id > f.subscription_id
                order by subscription_id, due_at limit 1
            ) r
        )
        select min(f.due_at)
        from (select subscription_id, due_at from first limit $2) f
        cross join lateral (
            select 1 from ringback.subscriptions s
            where s.id = f.subscription_id and s.status = 0 and s.deleted_at is null
            offset 0
        ) s
        where f.due_at <= $1
        "#,
    )
    .bind(now)
    .bind(i64::from(Backlog::COUNTED))
    .fetch_one(pool)
    .await
    .map_err(failed)
}

async fn outbox_rows(pool: &PgPool) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        r#"
        select count(*) from (
            select 1 from ringback.outbox
            order by lane, event_id, subscription_id limit $1
        ) o
        "#,
    )
    .bind(i64::from(Backlog::COUNTED))
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    Ok(counted(count))
}

/// In the retries: what had no attempt yet, what had, and what is held.
async fn waiting_retries(pool: &PgPool) -> Result<(u64, u64, u64), StoreError> {
    let (fresh, retrying, held): (i64, i64, i64) = sqlx::query_as(
        r#"
        select coalesce(sum(r.fresh) filter (where s.status <> 1), 0)::int8,
               coalesce(sum(r.total - r.fresh) filter (where s.status <> 1), 0)::int8,
               coalesce(sum(r.total) filter (where s.status = 1), 0)::int8
        from (
            select subscription_id, count(*) as total,
                   count(*) filter (where attempts_made = 0) as fresh
            from (
                select subscription_id, attempts_made from ringback.retries
                order by subscription_id, event_id limit $1
            ) counted
            group by subscription_id
        ) r
        cross join lateral (
            select status from ringback.subscriptions where id = r.subscription_id offset 0
        ) s
        "#,
    )
    .bind(i64::from(Backlog::COUNTED))
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    Ok((counted(fresh), counted(retrying), counted(held)))
}

/// Per status.
async fn subscriptions(pool: &PgPool) -> Result<Vec<(i16, i64)>, StoreError> {
    sqlx::query_as(
        r#"
        select status, count(*) from (
            select status from ringback.subscriptions
            where deleted_at is null and kind = 'standard'
            order by app_id, id limit $1
        ) s
        group by status
        "#,
    )
    .bind(i64::from(Backlog::COUNTED))
    .fetch_all(pool)
    .await
    .map_err(failed)
}

/// Of them, those that fail.
async fn failing(pool: &PgPool) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        r#"
        select count(*)
        from (select subscription_id from ringback.subscription_health limit $1) h
        cross join lateral (
            select 1 from ringback.subscriptions s
            where s.id = h.subscription_id and s.status <> 2 and s.deleted_at is null
            offset 0
        ) s
        "#,
    )
    .bind(i64::from(Backlog::COUNTED))
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    Ok(counted(count))
}

/// Counts are not negative.
fn counted(count: i64) -> u64 {
    count.unsigned_abs()
}
