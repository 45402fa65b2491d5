//! Reads retries of subscriptions that keep order: by ordering key, then by event.

use chrono::{DateTime, Utc};
use ringback_model::{Lane, OrderKey, SubscriptionId};
use ringback_store::{DueRetry, OrderHeads, StoreError};
use sqlx::SqlitePool;

use crate::{
    columns::json,
    failure::failed,
    outbox_read::{Due, read_due},
};

/// See [`ringback_store::Outbox::order_heads`]. Leaps from one key to the next.
pub(crate) async fn order_heads(
    readers: &SqlitePool,
    subscription: SubscriptionId,
    after: Option<OrderKey>,
    now: DateTime<Utc>,
    limit: u32,
) -> Result<OrderHeads, StoreError> {
    let from = match after {
        None => i64::MIN,
        Some(key) if key.get() == i64::MAX => return Ok(OrderHeads::default()),
        Some(key) => key.get() + 1,
    };
    let keys: Vec<i64> = sqlx::query_scalar(
        "with recursive leap (key_hash) as ( \
             select (select r.key_hash from retries r indexed by retries_order \
                 where r.subscription_id = ?1 and r.key_hash >= ?2 \
                 and r.key_hash is not null order by r.key_hash limit 1) \
             union all \
             select (select r.key_hash from retries r indexed by retries_order \
                 where r.subscription_id = ?1 and r.key_hash > p.key_hash \
                 and r.key_hash is not null order by r.key_hash limit 1) \
             from leap p where p.key_hash is not null limit ?3) \
         select key_hash from leap where key_hash is not null",
    )
    .bind(subscription.get())
    .bind(from)
    .bind(limit)
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    let is_full = u32::try_from(keys.len()).is_ok_and(|count| count >= limit);
    let next = keys.last().copied().map(OrderKey::new);
    let keys: Vec<_> = keys
        .into_iter()
        .map(|key| (subscription, OrderKey::new(key)))
        .collect();
    // A key that has gone in between has no row, one that came is behind `now` anyway.
    Ok(OrderHeads {
        heads: in_order(readers, &keys, now, 1).await?,
        next: next.filter(|_| is_full),
    })
}

/// See [`ringback_store::Outbox::in_order`].
pub(crate) async fn in_order(
    readers: &SqlitePool,
    keys: &[(SubscriptionId, OrderKey)],
    now: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<DueRetry>, StoreError> {
    let keys: Vec<(i64, i64)> = keys
        .iter()
        .map(|(subscription, key)| (subscription.get(), key.get()))
        .collect();
    let rows: Vec<Due> = sqlx::query_as(
        "select r.lane, r.event_id, r.subscription_id, r.key_hash, r.attempts_made, \
         r.round_start, r.due_at \
         from (select value ->> 0 as subscription_id, value ->> 1 as key_hash \
             from json_each(?1)) k \
         cross join retries r on r.subscription_id = k.subscription_id and r.event_id in ( \
             select x.event_id from retries x indexed by retries_order \
             where x.subscription_id = k.subscription_id and x.key_hash = k.key_hash \
             and x.key_hash is not null \
             and (x.attempts_made > x.round_start or x.due_at <= ?2 \
                 or not exists (select 1 from events e \
                     where e.id = x.event_id and e.deliver_at > ?2)) \
             order by x.event_id limit ?3) \
         order by r.subscription_id, r.key_hash, r.event_id",
    )
    .bind(json(&keys))
    .bind(now.timestamp_millis())
    .bind(limit)
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    rows.into_iter().map(read_due).collect()
}

/// See [`ringback_store::Outbox::due_unordered`].
pub(crate) async fn due_unordered(
    readers: &SqlitePool,
    subscriptions: &[(Lane, SubscriptionId)],
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<DueRetry>, StoreError> {
    let subscriptions: Vec<(u8, i64)> = subscriptions
        .iter()
        .map(|(lane, id)| (lane.get(), id.get()))
        .collect();
    let rows: Vec<Due> = sqlx::query_as(
        "select r.lane, r.event_id, r.subscription_id, r.key_hash, r.attempts_made, \
         r.round_start, r.due_at \
         from (select value ->> 0 as lane, value ->> 1 as id from json_each(?1)) s \
         cross join retries r on r.subscription_id = s.id and r.event_id in ( \
             select x.event_id from retries x indexed by retries_due \
             where x.lane = s.lane and x.subscription_id = s.id and x.due_at <= ?2 \
             and (x.key_hash is null or (x.attempts_made = x.round_start and x.due_at > ?4)) \
             order by x.due_at, x.event_id limit ?3) \
         order by r.due_at, r.event_id",
    )
    .bind(json(&subscriptions))
    .bind(until.timestamp_millis())
    .bind(limit)
    .bind(now.timestamp_millis())
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    rows.into_iter().map(read_due).collect()
}
