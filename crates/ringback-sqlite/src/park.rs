//! Parks: moves rows from the outbox to the retries that cannot be sent soon.

use chrono::{DateTime, Utc};
use ringback_store::{NodeLease, OutboxKey, StoreError};
use sqlx::{Arguments, SqliteConnection};

use crate::{failure::failed, rows::RowStatement};

/// Made when the writer's connection is opened.
pub(crate) const TEMPORARY_TABLE: &str = "
create temporary table parking (
    lane            integer not null,
    event_id        integer not null,
    subscription_id integer not null,
    app_id          integer not null,
    type_id         integer not null,
    key_hash        integer
) strict";

/// Takes those that are there, in lanes that the lease owns.
static FILL: RowStatement = RowStatement::new(
    "insert into temp.parking \
     select o.lane, o.event_id, o.subscription_id, e.app_id, e.type_id, o.key_hash from",
    5,
    "k cross join outbox o on o.lane = k.column1 and o.event_id = k.column2 \
     and o.subscription_id = k.column3 \
     cross join lanes l on l.lane = o.lane and l.owner = k.column4 and l.owner_epoch = k.column5 \
     cross join events e on e.id = o.event_id",
);

const MOVE: &str = "insert or ignore into retries \
     (subscription_id, event_id, lane, app_id, type_id, key_hash, attempts_made, due_at) \
     select subscription_id, event_id, lane, app_id, type_id, key_hash, 0, ?1 \
     from temp.parking; \
     delete from outbox where (lane, event_id, subscription_id) in \
     (select lane, event_id, subscription_id from temp.parking); \
     delete from temp.parking";

/// See [`ringback_store::Outbox::park`].
pub(crate) async fn park(
    connection: &mut SqliteConnection,
    lease: NodeLease,
    keys: &[OutboxKey],
    due_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows: Vec<(OutboxKey, NodeLease)> = keys.iter().map(|key| (*key, lease)).collect();
    FILL.run(connection, &rows, |(key, lease), row| {
        row.add(i64::from(key.lane.get()))?;
        row.add(key.delivery.event.get())?;
        row.add(key.delivery.subscription.get())?;
        row.add(i64::from(lease.node.get()))?;
        row.add(lease.epoch)
    })
    .await?;
    sqlx::query(MOVE)
        .bind(due_at.timestamp_millis())
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}
