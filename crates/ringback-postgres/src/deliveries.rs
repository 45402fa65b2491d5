//! Deliveries, put together from where they lie: the outbox while the first attempt
//! is not finished, the retries while another is to come, else among the settled.

mod list;
mod merge;
mod statements;

use chrono::{DateTime, Utc};
use ringback_model::{
    AppId, AttemptError, DeadReason, DeliveryId, DeliveryStatus, Lane, SubscriptionStatus,
};
use ringback_store::{Delivery, Source, StoreError, Within};
use sqlx::{PgPool, Row, postgres::PgRow};

pub(crate) use self::list::list;
use crate::{
    event_types,
    failure::failed,
    rows::{app_of, count, delivery_id},
};

/// A delivery, and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) delivery: Delivery,
    /// Its live row; `None` if it is settled.
    pub(crate) live: Option<Source>,
    pub(crate) subscription_status: SubscriptionStatus,
    pub(crate) subscription_deleted: bool,
    /// What it sends is still kept.
    pub(crate) event_kept: bool,
    /// Its day has ended: what is settled of it lies in `kept_deliveries`.
    pub(crate) day_ended: bool,
}

/// Finds one delivery. A live row outranks a settled one.
pub(crate) async fn find(
    pool: &PgPool,
    id: DeliveryId,
    within: Within,
) -> Result<Option<Found>, StoreError> {
    let row = sqlx::query(FIND)
        .bind(id.event.get())
        .bind(id.subscription.get())
        .bind(i16::from(Lane::of(id.subscription).get()))
        .bind(app_of(within))
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    row.as_ref().map(read_found).transpose()
}

const FIND: &str = r#"
    select d.event_id, d.subscription_id, d.app_id, t.name,
        case when d.place = 1 and s.status = 1 then 4::int2 else d.status end as status,
        d.attempts, d.due_at, d.last_code, d.last_error, d.dead_reason, d.settled_at,
        d.place, d.round_start, s.status as subscription_status,
        s.deleted_at is not null as subscription_deleted,
        exists (select from ringback.events where id = $1)
            or exists (select from ringback.kept_events where id = $1) as event_kept,
        $1 < (select event_id from ringback.ended where one) as day_ended
    from (
        select 0 as place, o.event_id, o.subscription_id, e.app_id, e.type_id,
            0::int2 as status, 0::int2 as attempts, null::timestamptz as due_at,
            null::int2 as last_code, null::int2 as last_error, null::int2 as dead_reason,
            null::timestamptz as settled_at, 0::int2 as round_start
        from ringback.outbox o join ringback.events e on e.id = $1
        where o.lane = $3 and o.event_id = $1 and o.subscription_id = $2
        union all
        select 1, event_id, subscription_id, app_id, type_id,
            case when attempts_made > 0 then 1::int2 else 0::int2 end, attempts_made, due_at,
            last_code, last_error, null, null, round_start
        from ringback.retries
        where subscription_id = $2 and event_id = $1
        union all
        select 2, event_id, subscription_id, app_id, type_id, status, attempts, null,
            last_code, last_error, dead_reason, settled_at, 0::int2
        from ringback.deliveries
        where event_id = $1 and subscription_id = $2
            -- Of an ended day, what is not dropped yet does not count.
            and event_id >= (select event_id from ringback.ended where one)
        union all
        select 3, event_id, subscription_id, app_id, type_id, status, attempts, null,
            last_code, last_error, dead_reason, settled_at, 0::int2
        from ringback.kept_deliveries
        where event_id = $1 and subscription_id = $2
    ) d
    join ringback.subscriptions s on s.id = d.subscription_id
    join ringback.event_types t on t.id = d.type_id
    where $4::int8 is null or d.app_id = $4
    order by d.place limit 1
"#;

/// Reads the first eleven columns of [`FIND`], which lists have too.
fn read(row: &PgRow) -> Result<Delivery, StoreError> {
    let small = |column: usize| row.try_get::<i16, _>(column).map_err(failed);
    let perhaps = |column: usize| row.try_get::<Option<i16>, _>(column).map_err(failed);
    let time = |column: usize| {
        row.try_get::<Option<DateTime<Utc>>, _>(column)
            .map_err(failed)
    };
    let corrupt = |column| StoreError::Corrupt {
        table: "deliveries",
        column,
    };
    let id = delivery_id(
        row.try_get(0).map_err(failed)?,
        row.try_get(1).map_err(failed)?,
    );
    let status = DeliveryStatus::from_code(small(4)?).ok_or_else(|| corrupt("status"))?;
    let last_error =
        perhaps(8)?.map(|code| AttemptError::from_code(code).ok_or_else(|| corrupt("last_error")));
    let dead_reason =
        perhaps(9)?.map(|code| DeadReason::from_code(code).ok_or_else(|| corrupt("dead_reason")));
    Ok(Delivery {
        id,
        app: AppId::new(row.try_get(2).map_err(failed)?),
        event_type: event_types::named(row.try_get(3).map_err(failed)?)?,
        status,
        attempts: count(small(5)?),
        next_attempt_at: match status {
            // What lies in the outbox has been due since it was accepted.
            DeliveryStatus::Pending => Some(time(6)?.unwrap_or_else(|| id.event.time())),
            DeliveryStatus::Retrying => time(6)?,
            _ => None,
        },
        last_status_code: perhaps(7)?.map(count),
        last_error: last_error.transpose()?,
        dead_reason: dead_reason.transpose()?,
        settled_at: time(10)?,
    })
}

fn read_found(row: &PgRow) -> Result<Found, StoreError> {
    let delivery = read(row)?;
    let place: i32 = row.try_get("place").map_err(failed)?;
    let round_start: i16 = row.try_get("round_start").map_err(failed)?;
    let status: i16 = row.try_get("subscription_status").map_err(failed)?;
    let corrupt = StoreError::Corrupt {
        table: "subscriptions",
        column: "status",
    };
    Ok(Found {
        live: match place {
            0 => Some(Source::Outbox),
            1 => Some(Source::Retries {
                attempts_made: delivery.attempts,
                round_start: count(round_start),
            }),
            _ => None,
        },
        delivery,
        subscription_status: SubscriptionStatus::from_code(status).ok_or(corrupt)?,
        subscription_deleted: row.try_get("subscription_deleted").map_err(failed)?,
        event_kept: row.try_get("event_kept").map_err(failed)?,
        day_ended: row.try_get("day_ended").map_err(failed)?,
    })
}
