//! Reads retries of subscriptions that keep order: by ordering key, then by event.

use chrono::{DateTime, Utc};
use ringback_model::{Lane, OrderKey, SubscriptionId};
use ringback_store::{DueRetry, OrderHeads, StoreError};
use sqlx::PgPool;

use crate::{
    failure::failed,
    outbox::{DueRow, retry},
};

type HeadRow = (
    i64,
    Option<i16>,
    Option<i64>,
    Option<i64>,
    Option<i16>,
    Option<i16>,
    Option<DateTime<Utc>>,
);

/// See [`ringback_store::Outbox::order_heads`].
pub(crate) async fn order_heads(
    pool: &PgPool,
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
    // From key to key by the index, one step each; the limit outside ends the steps.
    let rows: Vec<HeadRow> = sqlx::query_as(
        r#"
        with recursive keys as (
            (
                select key_hash from ringback.retries
                where subscription_id = $1 and key_hash is not null and key_hash >= $2
                order by subscription_id, key_hash, event_id limit 1
            )
            union all
            select r.key_hash
            from keys k
            cross join lateral (
                select key_hash from ringback.retries
                where subscription_id = $1 and key_hash is not null and key_hash > k.key_hash
                order by subscription_id, key_hash, event_id limit 1
            ) r
        )
        select k.key_hash, r.lane, r.event_id, r.subscription_id, r.attempts_made,
            r.round_start, r.due_at
        from (select key_hash from keys limit $3) k
        left join lateral (
            select * from ringback.retries
            where subscription_id = $1 and key_hash = k.key_hash and key_hash is not null
                and (
                    attempts_made > round_start or due_at <= $4
                    or not exists (
                        select from ringback.events e
                        where e.id = retries.event_id and e.deliver_at > $4
                    )
                )
            order by subscription_id, key_hash, event_id limit 1
        ) r on true
        order by k.key_hash
        "#,
    )
    .bind(subscription.get())
    .bind(from)
    .bind(i64::from(limit))
    .bind(now)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let is_full = u32::try_from(rows.len()).is_ok_and(|count| count >= limit);
    let last = rows.last().map(|row| OrderKey::new(row.0));
    let head = |(key, lane, event, subscription, attempts, round, due_at): HeadRow| {
        let row = (
            lane?,
            event?,
            subscription?,
            Some(key),
            attempts?,
            round?,
            due_at?,
        );
        Some(retry(row))
    };
    Ok(OrderHeads {
        heads: rows.into_iter().filter_map(head).collect(),
        next: last.filter(|_| is_full),
    })
}

/// See [`ringback_store::Outbox::in_order`].
pub(crate) async fn in_order(
    pool: &PgPool,
    keys: &[(SubscriptionId, OrderKey)],
    now: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<DueRetry>, StoreError> {
    let (subscriptions, keys): (Vec<i64>, Vec<i64>) = keys
        .iter()
        .map(|(subscription, key)| (subscription.get(), key.get()))
        .unzip();
    // Sorted by all columns of the index, and not by `event_id` alone: that the primary
    // key could give too, reading every row of the subscription.
    let rows: Vec<DueRow> = sqlx::query_as(
        r#"
        select r.lane, r.event_id, r.subscription_id, r.key_hash, r.attempts_made,
            r.round_start, r.due_at
        from unnest($1::int8[], $2::int8[]) as k (subscription_id, key_hash)
        cross join lateral (
            select * from ringback.retries q
            where q.key_hash is not null
                and (q.subscription_id, q.key_hash) >= (k.subscription_id, k.key_hash)
                and (q.subscription_id, q.key_hash) <= (k.subscription_id, k.key_hash)
                and (
                    q.attempts_made > q.round_start or q.due_at <= $3
                    or not exists (
                        select from ringback.events e
                        where e.id = q.event_id and e.deliver_at > $3
                    )
                )
            order by q.subscription_id, q.key_hash, q.event_id limit $4
        ) r
        order by r.subscription_id, r.key_hash, r.event_id
        "#,
    )
    .bind(subscriptions)
    .bind(keys)
    .bind(now)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(retry).collect())
}

/// See [`ringback_store::Outbox::due_unordered`].
pub(crate) async fn due_unordered(
    pool: &PgPool,
    subscriptions: &[(Lane, SubscriptionId)],
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<DueRetry>, StoreError> {
    let (lanes, ids): (Vec<i16>, Vec<i64>) = subscriptions
        .iter()
        .map(|(lane, id)| (i16::from(lane.get()), id.get()))
        .unzip();
    let rows: Vec<DueRow> = sqlx::query_as(
        r#"
        select r.lane, r.event_id, r.subscription_id, r.key_hash, r.attempts_made,
            r.round_start, r.due_at
        from unnest($1::int2[], $2::int8[]) as s (lane, id)
        cross join lateral (
            select * from ringback.retries
            where lane = s.lane and subscription_id = s.id and due_at <= $3
                and (key_hash is null or (attempts_made = round_start and due_at > $5))
            order by due_at, event_id limit $4
        ) r
        order by r.due_at, r.event_id
        "#,
    )
    .bind(lanes)
    .bind(ids)
    .bind(until)
    .bind(i64::from(limit))
    .bind(now)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(retry).collect())
}
