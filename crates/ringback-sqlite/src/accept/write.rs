//! Writes accepted events, their deliveries and their keys.

use chrono::{DateTime, Utc};
use ringback_model::OrderKey;
use ringback_store::{NewEvent, StoreError};
use sqlx::{Arguments, SqliteConnection};

use super::judge::ToWrite;
use crate::{columns::labels_text, rows::RowStatement};

static EVENTS: RowStatement = RowStatement::new(
    "insert into events (id, app_id, type_id, external_id, traceparent, labels, data, \
     ordering_key, deliver_at) select * from",
    9,
    "where column1 is not null",
);

static OUTBOX: RowStatement = RowStatement::new(
    "insert into outbox (lane, event_id, subscription_id, key_hash) select * from",
    4,
    "where column1 is not null",
);

static HELD: RowStatement = RowStatement::new(
    "insert into retries (subscription_id, event_id, lane, app_id, type_id, due_at, key_hash, \
     attempts_made) select *, 0 from",
    7,
    "where column1 is not null",
);

static LABELS: RowStatement = RowStatement::new(
    "insert into event_labels (app_id, name, value, event_id) select * from",
    4,
    "where column1 is not null",
);

// A key is there already if its request began long ago and never ended.
static KEYS: RowStatement = RowStatement::new(
    "insert into idempotency \
     (owner_id, key_hash, body_hash, created_at, event_id, deliveries, answer) select * from",
    7,
    "where column1 is not null on conflict (owner_id, key_hash) do update set \
     body_hash = excluded.body_hash, created_at = excluded.created_at, answer = excluded.answer",
);

/// Writes what was judged fit.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    to_write: &ToWrite<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let events = &to_write.events;
    write_events(connection, events).await?;

    let deliveries = || {
        events
            .iter()
            .flat_map(|event| event.0.deliveries.iter().map(move |to| (event, to)))
    };
    let outbox: Vec<_> = deliveries()
        .filter(|((event, _), to)| event.waits_until(to, now).is_none())
        .map(|((event, _), to)| (event.id, to))
        .collect();
    OUTBOX
        .run(connection, &outbox, |(event, to), row| {
            row.add(i64::from(to.lane.get()))?;
            row.add(event.get())?;
            row.add(to.subscription.get())?;
            row.add(to.order.map(OrderKey::get))
        })
        .await?;

    let held: Vec<_> = deliveries()
        .filter_map(|(event, to)| Some((event, to, event.0.waits_until(to, now)?)))
        .collect();
    HELD.run(connection, &held, |((event, type_id), to, due_at), row| {
        row.add(to.subscription.get())?;
        row.add(event.id.get())?;
        row.add(i64::from(to.lane.get()))?;
        row.add(event.app.get())?;
        row.add(*type_id)?;
        row.add(due_at.timestamp_millis())?;
        row.add(to.order.map(OrderKey::get))
    })
    .await?;
    write_labels(connection, events).await?;
    write_keys(connection, to_write, now.timestamp_millis()).await
}

async fn write_events(
    connection: &mut SqliteConnection,
    events: &[(&NewEvent, i64)],
) -> Result<(), StoreError> {
    let bytes = |(event, _): &(&NewEvent, i64)| event.data.len();
    EVENTS
        .run_sized(connection, events, bytes, |(event, type_id), row| {
            row.add(event.id.get())?;
            row.add(event.app.get())?;
            row.add(*type_id)?;
            row.add(event.external.as_ref().map(|external| &*external.id))?;
            row.add(event.traceparent.as_deref())?;
            row.add(labels_text(&event.labels))?;
            row.add(&*event.data)?;
            row.add(event.ordering_key.as_deref())?;
            row.add(event.deliver_at.map(|at| at.timestamp_millis()))
        })
        .await
}

async fn write_labels(
    connection: &mut SqliteConnection,
    events: &[(&NewEvent, i64)],
) -> Result<(), StoreError> {
    let labels: Vec<_> = events
        .iter()
        .flat_map(|(event, _)| event.labels.iter().map(move |label| (event, label)))
        .collect();
    LABELS
        .run(connection, &labels, |(event, (name, value)), row| {
            row.add(event.app.get())?;
            row.add(name.as_str())?;
            row.add(value.as_str())?;
            row.add(event.id.get())
        })
        .await
}

async fn write_keys(
    connection: &mut SqliteConnection,
    to_write: &ToWrite<'_>,
    now: i64,
) -> Result<(), StoreError> {
    let keys: Vec<_> = to_write
        .keys
        .iter()
        .map(|(key, row)| (key, row, now))
        .collect();
    KEYS.run(
        connection,
        &keys,
        |((owner, key_hash), row, now), arguments| {
            arguments.add(*owner)?;
            arguments.add(&key_hash[..])?;
            arguments.add(&row.body_hash[..])?;
            arguments.add(*now)?;
            arguments.add(row.first.map(|(event, _)| event.get()))?;
            arguments.add(row.first.map(|(_, deliveries)| i64::from(deliveries)))?;
            arguments.add(row.answer.as_deref())
        },
    )
    .await
}
