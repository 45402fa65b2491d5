//! Reads what is to be sent: from the outbox, and from the retries.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::{AppId, DeliveryId, EventId, Lane, OrderKey, SubscriptionId};
use ringback_store::{DueRetry, OutboxKey, Payload, StoreError};
use sqlx::SqlitePool;

use crate::{
    columns::{Column, event_type, json},
    failure::failed,
};

/// See [`ringback_store::Outbox::read`]. The last event of a lane comes with all its
/// rows, also beyond the limit: whoever reads on behind it would miss the others.
pub(crate) async fn read(
    readers: &SqlitePool,
    cursors: &[(Lane, EventId)],
    limit: u32,
) -> Result<Vec<OutboxKey>, StoreError> {
    // An idle server asks this twice a second, of 256 lanes.
    let any: Option<i64> = sqlx::query_scalar("select 1 from outbox limit 1")
        .fetch_optional(readers)
        .await
        .map_err(failed)?;
    if any.is_none() || limit == 0 {
        return Ok(Vec::new());
    }
    let cursors: Vec<(u8, i64)> = cursors
        .iter()
        .map(|(lane, after)| (lane.get(), after.get()))
        .collect();
    let rows: Vec<(i64, i64, i64, Option<i64>)> = sqlx::query_as(
        "select o.lane, o.event_id, o.subscription_id, o.key_hash \
         from (select value ->> 0 as lane, value ->> 1 as after from json_each(?1)) c \
         cross join outbox o on o.lane = c.lane and o.event_id > c.after \
         and o.event_id <= coalesce((select x.event_id from outbox x \
             where x.lane = c.lane and x.event_id > c.after \
             order by x.event_id, x.subscription_id limit 1 offset ?2), 9223372036854775807) \
         order by c.lane, o.event_id, o.subscription_id",
    )
    .bind(json(&cursors))
    .bind(i64::from(limit) - 1)
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|(lane, event, subscription, order)| key(lane, event, subscription, order))
        .collect()
}

type Sent = (i64, i64, String, Vec<u8>, Option<String>);

/// See [`ringback_store::Outbox::payloads`].
pub(crate) async fn payloads(
    readers: &SqlitePool,
    events: &[EventId],
) -> Result<Vec<Payload>, StoreError> {
    let ids: Vec<i64> = events.iter().map(|event| event.get()).collect();
    let rows: Vec<Sent> = sqlx::query_as(
        "select e.id, e.app_id, t.name, e.data, e.traceparent \
         from json_each(?1) j cross join events e on e.id = j.value \
         cross join event_types t on t.id = e.type_id",
    )
    .bind(json(&ids))
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    let read = |(id, app, name, data, traceparent)| {
        Ok(Payload {
            event: EventId::new(id),
            app: AppId::new(app),
            event_type: event_type(name)?,
            data: Bytes::from(data),
            traceparent,
        })
    };
    rows.into_iter().map(read).collect()
}

/// See [`ringback_store::Outbox::waiting`]. Leaps from one subscription to the next.
pub(crate) async fn waiting(
    readers: &SqlitePool,
    lanes: &[Lane],
) -> Result<Vec<(Lane, SubscriptionId, DateTime<Utc>)>, StoreError> {
    let lanes: Vec<u8> = lanes.iter().map(|lane| lane.get()).collect();
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "with recursive leap (lane, subscription_id) as ( \
             select j.value, (select r.subscription_id from retries r indexed by retries_due \
                 where r.lane = j.value order by r.subscription_id limit 1) \
             from json_each(?1) j \
             union all \
             select p.lane, (select r.subscription_id from retries r indexed by retries_due \
                 where r.lane = p.lane and r.subscription_id > p.subscription_id \
                 order by r.subscription_id limit 1) \
             from leap p where p.subscription_id is not null) \
         select p.lane, p.subscription_id, (select r.due_at \
             from retries r indexed by retries_due \
             where r.lane = p.lane and r.subscription_id = p.subscription_id \
             order by r.due_at limit 1) \
         from leap p where p.subscription_id is not null",
    )
    .bind(json(&lanes))
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    let read = |(lane, subscription, due_at)| {
        let lane = Column("retries", "lane").lane(lane)?;
        let due_at = Column("retries", "due_at").time(due_at)?;
        Ok((lane, SubscriptionId::new(subscription), due_at))
    };
    rows.into_iter().map(read).collect()
}

type Due = (i64, i64, i64, Option<i64>, i64, i64, i64);

/// See [`ringback_store::Outbox::due_after`].
pub(crate) async fn due_after(
    readers: &SqlitePool,
    subscriptions: &[(Lane, SubscriptionId, DateTime<Utc>)],
    until: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<DueRetry>, StoreError> {
    let subscriptions: Vec<(u8, i64, i64)> = subscriptions
        .iter()
        .map(|(lane, id, after)| (lane.get(), id.get(), after.timestamp_millis()))
        .collect();
    let rows: Vec<Due> = sqlx::query_as(
        "select r.lane, r.event_id, r.subscription_id, r.key_hash, r.attempts_made, \
         r.round_start, r.due_at \
         from (select value ->> 0 as lane, value ->> 1 as id, value ->> 2 as after \
             from json_each(?1)) s \
         cross join retries r on r.subscription_id = s.id and r.event_id in ( \
             select x.event_id from retries x indexed by retries_due \
             where x.lane = s.lane and x.subscription_id = s.id and x.due_at <= ?2 \
                 and x.due_at > s.after \
             order by x.due_at, x.event_id limit ?3) \
         order by r.due_at, r.event_id",
    )
    .bind(json(&subscriptions))
    .bind(until.timestamp_millis())
    .bind(limit)
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    rows.into_iter().map(read_due).collect()
}

fn read_due(row: Due) -> Result<DueRetry, StoreError> {
    let (lane, event, subscription, order, attempts_made, round_start, due_at) = row;
    let column = |name| Column("retries", name);
    let OutboxKey {
        lane,
        delivery,
        order,
    } = key(lane, event, subscription, order)?;
    Ok(DueRetry {
        lane,
        delivery,
        order,
        attempts_made: column("attempts_made").number(attempts_made)?,
        round_start: column("round_start").number(round_start)?,
        due_at: column("due_at").time(due_at)?,
    })
}

fn key(
    lane: i64,
    event: i64,
    subscription: i64,
    order: Option<i64>,
) -> Result<OutboxKey, StoreError> {
    let delivery = DeliveryId {
        event: EventId::new(event),
        subscription: SubscriptionId::new(subscription),
    };
    Ok(OutboxKey {
        lane: Column("outbox", "lane").lane(lane)?,
        delivery,
        order: order.map(OrderKey::new),
    })
}
