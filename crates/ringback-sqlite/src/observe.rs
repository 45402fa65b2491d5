//! What waits, for operators. Nothing here reads a table from one end to the other.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_model::{EventId, SubscriptionStatus};
use ringback_store::{Backlog, Connections, Observe, StoreError};
use sqlx::SqlitePool;

use crate::{SqliteStore, columns::Column, failure::failed};

#[async_trait]
impl Observe for SqliteStore {
    async fn backlog(&self, now: DateTime<Utc>) -> Result<Backlog, StoreError> {
        backlog(&self.0.readers, now).await
    }

    fn connections(&self) -> Connections {
        let idle = self.0.readers.num_idle() as u64;
        // Two readings: one may be older than the other.
        let used = u64::from(self.0.readers.size()).saturating_sub(idle);
        Connections { used, idle }
    }
}

async fn backlog(readers: &SqlitePool, now: DateTime<Utc>) -> Result<Backlog, StoreError> {
    let first = [
        oldest_pending(readers).await?,
        oldest_retry(readers, now).await?,
    ];
    let (fresh, retrying, held) = waiting_retries(readers).await?;
    let mut backlog = Backlog {
        oldest_due_at: first.into_iter().flatten().min(),
        pending: outbox_rows(readers).await? + fresh,
        retrying,
        held,
        failing: failing(readers).await?,
        ..Backlog::default()
    };
    for (status, count) in subscriptions(readers).await? {
        match SubscriptionStatus::from_code(status) {
            Some(SubscriptionStatus::Active) => backlog.active = counted(count),
            Some(SubscriptionStatus::Paused) => backlog.paused = counted(count),
            Some(SubscriptionStatus::Disabled) => backlog.disabled = counted(count),
            None => return Err(Column("subscriptions", "status").corrupt()),
        }
    }
    Ok(backlog)
}

/// When the first event was accepted that an active subscription has in the outbox. One
/// step per lane, and one per row of a paused subscription that is not parked yet.
async fn oldest_pending(readers: &SqlitePool) -> Result<Option<DateTime<Utc>>, StoreError> {
    let first: Option<i64> = sqlx::query_scalar(
        "with recursive lanes (lane) as ( \
             select 0 union all select lane + 1 from lanes where lane < 255) \
         select min((select o.event_id \
             from (select event_id, subscription_id from outbox where lane = l.lane \
                 order by event_id limit 1000) o \
             cross join subscriptions s on s.id = o.subscription_id \
             where s.status = 0 and s.deleted_at is null \
             order by o.event_id limit 1)) \
         from lanes l",
    )
    .fetch_one(readers)
    .await
    .map_err(failed)?;
    Ok(first.map(|event| EventId::new(event).time()))
}

/// When the first retry of an active subscription was due. Leaps from one subscription to
/// the next: what a paused one holds is long due, so the first rows by time would be its.
/// All lanes by turns, so that the limit leaves out none.
async fn oldest_retry(
    readers: &SqlitePool,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let first: Option<i64> = sqlx::query_scalar(
        "with recursive lanes (lane) as ( \
             select 0 union all select lane + 1 from lanes where lane < 255), \
         leap (lane, subscription_id) as ( \
             select l.lane, (select r.subscription_id from retries r indexed by retries_due \
                 where r.lane = l.lane order by r.subscription_id limit 1) \
             from lanes l \
             union all \
             select p.lane, (select r.subscription_id from retries r indexed by retries_due \
                 where r.lane = p.lane and r.subscription_id > p.subscription_id \
                 order by r.subscription_id limit 1) \
             from leap p where p.subscription_id is not null limit ?2) \
         select min((select r.due_at from retries r indexed by retries_due \
             where r.lane = p.lane and r.subscription_id = p.subscription_id and r.due_at <= ?1 \
             order by r.due_at limit 1)) \
         from leap p cross join subscriptions s on s.id = p.subscription_id \
         where s.status = 0 and s.deleted_at is null",
    )
    .bind(now.timestamp_millis())
    .bind(Backlog::COUNTED)
    .fetch_one(readers)
    .await
    .map_err(failed)?;
    let time = |due_at| Column("retries", "due_at").time(due_at);
    first.map(time).transpose()
}

async fn outbox_rows(readers: &SqlitePool) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("select count(*) from (select 1 from outbox limit ?1)")
        .bind(Backlog::COUNTED)
        .fetch_one(readers)
        .await
        .map_err(failed)?;
    Ok(counted(count))
}

/// In the retries: what had no attempt yet, what had, and what is held.
async fn waiting_retries(readers: &SqlitePool) -> Result<(u64, u64, u64), StoreError> {
    let (fresh, retrying, held): (i64, i64, i64) = sqlx::query_as(
        "select coalesce(sum(r.fresh) filter (where s.status <> 1), 0), \
             coalesce(sum(r.total - r.fresh) filter (where s.status <> 1), 0), \
             coalesce(sum(r.total) filter (where s.status = 1), 0) \
         from (select subscription_id, count(*) as total, sum(attempts_made = 0) as fresh \
             from (select subscription_id, attempts_made from retries \
                 order by subscription_id, event_id limit ?1) \
             group by subscription_id) r \
         cross join subscriptions s on s.id = r.subscription_id",
    )
    .bind(Backlog::COUNTED)
    .fetch_one(readers)
    .await
    .map_err(failed)?;
    Ok((counted(fresh), counted(retrying), counted(held)))
}

/// Per status.
async fn subscriptions(readers: &SqlitePool) -> Result<Vec<(i16, i64)>, StoreError> {
    sqlx::query_as(
        "select status, count(*) from (select status from subscriptions \
             where deleted_at is null and kind = 'standard' order by app_id, id limit ?1) \
         group by status",
    )
    .bind(Backlog::COUNTED)
    .fetch_all(readers)
    .await
    .map_err(failed)
}

/// Of them, those that fail. Few have a row: all of it is read.
async fn failing(readers: &SqlitePool) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "select count(*) from (select subscription_id from subscription_health limit ?1) h \
         cross join subscriptions s on s.id = h.subscription_id \
         where s.status <> 2 and s.deleted_at is null",
    )
    .bind(Backlog::COUNTED)
    .fetch_one(readers)
    .await
    .map_err(failed)?;
    Ok(counted(count))
}

/// Counts are not negative.
fn counted(count: i64) -> u64 {
    count.unsigned_abs()
}
