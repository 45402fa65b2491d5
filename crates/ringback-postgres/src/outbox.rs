//! Reads what is to be sent: the outbox, the retries, and the events themselves.
//!
//! Nothing here changes anything: owning a lane is the claim on its rows.

use std::sync::LazyLock;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::{AppId, EventId, Lane, OrderKey, SubscriptionId};
use ringback_store::{DueRetry, OutboxKey, Payload, StoreError};
use sqlx::PgPool;

use crate::{
    event_types,
    failure::failed,
    kept::in_kept,
    rows::{count, delivery_id, lane},
};

/// See [`ringback_store::Outbox::read`].
pub(crate) async fn read(
    pool: &PgPool,
    cursors: &[(Lane, EventId)],
    limit: u32,
) -> Result<Vec<OutboxKey>, StoreError> {
    let (lanes, after): (Vec<i16>, Vec<i64>) = cursors
        .iter()
        .map(|(lane, event)| (i16::from(lane.get()), event.get()))
        .unzip();
    // From the cursor, never from the lane's start: dead rows that a long reader
    // keeps from vacuum pile up there, and would be read again and again.
    let rows: Vec<(i16, i64, i64, Option<i64>)> = sqlx::query_as(
        r#"
        select q.lane, q.event_id, q.subscription_id, q.key_hash
        from unnest($1::int2[], $2::int8[]) as c (lane, after)
        cross join lateral (
            select o.lane, o.event_id, o.subscription_id, o.key_hash from ringback.outbox o
            where o.lane = c.lane and o.event_id > c.after
            order by o.event_id limit $3
        ) q
        "#,
    )
    .bind(lanes)
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let key = |(number, event, subscription, key_hash): (_, _, _, Option<i64>)| OutboxKey {
        lane: lane(number),
        delivery: delivery_id(event, subscription),
        order: key_hash.map(OrderKey::new),
    };
    Ok(rows.into_iter().map(key).collect())
}

/// See [`ringback_store::Outbox::payloads`].
pub(crate) async fn payloads(
    pool: &PgPool,
    events: &[EventId],
) -> Result<Vec<Payload>, StoreError> {
    let ids: Vec<i64> = events.iter().map(|event| event.get()).collect();
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else {
        return Ok(Vec::new());
    };
    static PAYLOADS_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(PAYLOADS));
    let mut rows: Vec<PayloadRow> = Vec::new();
    for sql in [PAYLOADS, &PAYLOADS_IN_KEPT] {
        let found: Vec<PayloadRow> = sqlx::query_as(sql)
            .bind(&ids)
            .bind(first)
            .bind(last)
            .fetch_all(pool)
            .await
            .map_err(failed)?;
        rows.extend(found);
        // Only what is not in its day is looked for among what outlived it.
        if rows.len() >= ids.len() {
            break;
        }
    }
    // A day that ends in between is in both places.
    rows.sort_by_key(|row| row.0);
    rows.dedup_by_key(|row| row.0);
    let payload = |(id, app, name, data, traceparent)| {
        Ok(Payload {
            event: EventId::new(id),
            app: AppId::new(app),
            event_type: event_types::named(name)?,
            data: Bytes::from(data),
            traceparent,
        })
    };
    rows.into_iter().map(payload).collect()
}

/// The bounds are for the planner: by them it leaves out days, by the list it cannot.
const PAYLOADS: &str = r#"
    select e.id, e.app_id, t.name, e.data, e.traceparent
    from ringback.events e join ringback.event_types t on t.id = e.type_id
    where e.id = any($1) and e.id >= $2 and e.id <= $3
"#;

type PayloadRow = (i64, i64, String, Vec<u8>, Option<String>);

/// See [`ringback_store::Outbox::waiting`].
pub(crate) async fn waiting(
    pool: &PgPool,
    lanes: &[Lane],
) -> Result<Vec<(Lane, SubscriptionId, DateTime<Utc>)>, StoreError> {
    let lanes: Vec<i16> = lanes.iter().map(|lane| i16::from(lane.get())).collect();
    // From subscription to subscription by the index, one step each: a `distinct`
    // would read every row of each.
    let rows: Vec<(i16, i64, DateTime<Utc>)> = sqlx::query_as(
        r#"
        with recursive first as (
            select l.lane, r.subscription_id, r.due_at
            from unnest($1::int2[]) as l (lane)
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
        select lane, subscription_id, due_at from first
        "#,
    )
    .bind(lanes)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let first =
        |(number, subscription, due_at)| (lane(number), SubscriptionId::new(subscription), due_at);
    Ok(rows.into_iter().map(first).collect())
}

type DueRow = (i16, i64, i64, Option<i64>, i16, i16, DateTime<Utc>);

/// See [`ringback_store::Outbox::due_after`].
pub(crate) async fn due_after(
    pool: &PgPool,
    subscriptions: &[(Lane, SubscriptionId, DateTime<Utc>)],
    until: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<DueRetry>, StoreError> {
    let (mut lanes, mut ids, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for (lane, id, time) in subscriptions {
        lanes.push(i16::from(lane.get()));
        ids.push(id.get());
        after.push(*time);
    }
    let rows: Vec<DueRow> = sqlx::query_as(
        r#"
        select r.lane, r.event_id, r.subscription_id, r.key_hash, r.attempts_made,
            r.round_start, r.due_at
        from unnest($1::int2[], $2::int8[], $5::timestamptz[]) as s (lane, id, after)
        cross join lateral (
            select * from ringback.retries
            where lane = s.lane and subscription_id = s.id and due_at <= $3 and due_at > s.after
            order by due_at, event_id limit $4
        ) r
        "#,
    )
    .bind(lanes)
    .bind(ids)
    .bind(until)
    .bind(i64::from(limit))
    .bind(after)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let retry = |row: DueRow| {
        let (number, event, subscription, key_hash, attempts_made, round_start, due_at) = row;
        DueRetry {
            lane: lane(number),
            delivery: delivery_id(event, subscription),
            order: key_hash.map(OrderKey::new),
            attempts_made: count(attempts_made),
            round_start: count(round_start),
            due_at,
        }
    };
    Ok(rows.into_iter().map(retry).collect())
}
