//! A delivery, put together from the row that it is in: outbox, retries or settled.

use ringback_model::{AppId, DeliveryId, DeliveryStatus, EventId, SubscriptionId};
use ringback_store::{Delivery, StoreError, Within};
use sqlx::{Row, SqliteExecutor, sqlite::SqliteRow};

use crate::{
    apps::only,
    columns::{Column, dead_reason, event_type, last_error},
    failure::failed,
};

/// Of a row of the outbox `o` and its event `e`: its first attempt is not finished.
macro_rules! pending {
    () => {
        "o.event_id, o.subscription_id, e.app_id, e.type_id, 0 as status, 0 as attempts, \
         null as due_at, null as last_code, null as last_error, null as dead_reason, \
         null as settled_at"
    };
}
pub(crate) use pending;

/// Of a row of the retries `r` and its subscription `s`: held if that is paused.
macro_rules! waiting {
    () => {
        "r.event_id, r.subscription_id, r.app_id, r.type_id, \
         case when s.status = 1 then 4 when r.attempts_made > 0 then 1 else 0 end as status, \
         r.attempts_made as attempts, iif(s.status = 1, null, r.due_at) as due_at, \
         r.last_code, r.last_error, null as dead_reason, null as settled_at"
    };
}
pub(crate) use waiting;

/// Of a settled delivery `d`.
macro_rules! settled {
    () => {
        "d.event_id, d.subscription_id, d.app_id, d.type_id, d.status, d.attempts, \
         null as due_at, d.last_code, d.last_error, d.dead_reason, d.settled_at"
    };
}
pub(crate) use settled;

/// What [`read`] reads, of any of the three called `x`, and its type `t`.
macro_rules! columns {
    () => {
        "x.event_id, x.subscription_id, x.app_id, t.name, x.status, x.attempts, x.due_at, \
         x.last_code, x.last_error, x.dead_reason, x.settled_at"
    };
}
pub(crate) use columns;

/// See [`ringback_store::History::delivery`].
pub(crate) async fn get(
    executor: impl SqliteExecutor<'_>,
    id: DeliveryId,
    within: Within,
) -> Result<Option<Delivery>, StoreError> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from (select 0 as rank, ",
        pending!(),
        " from subscriptions s cross join outbox o \
         on o.lane = s.lane and o.event_id = ?1 and o.subscription_id = s.id \
         cross join events e on e.id = o.event_id where s.id = ?2 \
         union all select 1, ",
        waiting!(),
        " from retries r cross join subscriptions s on s.id = r.subscription_id \
         where r.subscription_id = ?2 and r.event_id = ?1 \
         union all select 2, ",
        settled!(),
        " from deliveries d where d.event_id = ?1 and d.subscription_id = ?2) x \
         join event_types t on t.id = x.type_id \
         where (?3 is null or x.app_id = ?3) order by x.rank limit 1",
    ))
    .bind(id.event.get())
    .bind(id.subscription.get())
    .bind(only(within))
    .fetch_optional(executor)
    .await
    .map_err(failed)?;
    row.map(|row| read(&row)).transpose()
}

pub(crate) fn read(row: &SqliteRow) -> Result<Delivery, StoreError> {
    let column = |name| Column("deliveries", name);
    let id = DeliveryId {
        event: EventId::new(row.try_get(0).map_err(failed)?),
        subscription: SubscriptionId::new(row.try_get(1).map_err(failed)?),
    };
    let status =
        column("status").word(row.try_get(4).map_err(failed)?, DeliveryStatus::from_code)?;
    let due_at: Option<i64> = row.try_get(6).map_err(failed)?;
    let due_at = due_at
        .map(|due_at| Column("retries", "due_at").time(due_at))
        .transpose()?;
    let code: Option<i64> = row.try_get(7).map_err(failed)?;
    let settled_at: Option<i64> = row.try_get(10).map_err(failed)?;
    Ok(Delivery {
        id,
        app: AppId::new(row.try_get(2).map_err(failed)?),
        event_type: event_type(row.try_get(3).map_err(failed)?)?,
        status,
        attempts: column("attempts").number(row.try_get(5).map_err(failed)?)?,
        // A row of the outbox is due since its event was accepted.
        next_attempt_at: due_at
            .or_else(|| (status == DeliveryStatus::Pending).then(|| id.event.time())),
        last_status_code: code
            .map(|code| column("last_code").number(code))
            .transpose()?,
        last_error: last_error("deliveries", row.try_get(8).map_err(failed)?)?,
        dead_reason: dead_reason(row.try_get(9).map_err(failed)?)?,
        settled_at: settled_at
            .map(|at| column("settled_at").time(at))
            .transpose()?,
    })
}
