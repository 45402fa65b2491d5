//! Parks: what cannot be sent soon waits among the retries.

use chrono::{DateTime, Utc};
use ringback_store::{NodeLease, OutboxKey, StoreError};

use crate::{Inner, transaction::retry_collisions};

/// See [`ringback_store::Outbox::park`].
pub(crate) async fn park(
    store: &Inner,
    lease: &NodeLease,
    keys: &[OutboxKey],
    due_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let events = || keys.iter().map(|key| key.delivery.event.get());
    let (Some(first), Some(last)) = (events().min(), events().max()) else {
        return Ok(());
    };
    let mut keys = keys.to_vec();
    // In the order in which others lock rows, so that nobody waits in a circle.
    keys.sort_unstable_by_key(|key| (key.lane, key.delivery));
    retry_collisions(|| {
        let keys = || keys.iter();
        let query = sqlx::query(PARK)
            .bind(
                keys()
                    .map(|key| i16::from(key.lane.get()))
                    .collect::<Vec<_>>(),
            )
            .bind(
                keys()
                    .map(|key| key.delivery.event.get())
                    .collect::<Vec<_>>(),
            )
            .bind(
                keys()
                    .map(|key| key.delivery.subscription.get())
                    .collect::<Vec<_>>(),
            )
            .bind(lease.node.get().cast_signed())
            .bind(lease.epoch)
            .bind(due_at)
            .bind(first)
            .bind(last);
        store.settle.fetch(query)
    })
    .await?;
    Ok(())
}

const PARK: &str = r#"
    with parked as (
        delete from ringback.outbox o
        using unnest($1::int2[], $2::int8[], $3::int8[]) as k (lane, event_id, subscription_id)
        -- Not by `=`: see `settle`.
        where (o.lane, o.event_id, o.subscription_id)
                >= (k.lane, k.event_id, k.subscription_id)
            and (o.lane, o.event_id, o.subscription_id)
                <= (k.lane, k.event_id, k.subscription_id)
            and exists (
                select from ringback.lanes l
                join ringback.nodes n on n.id = l.owner and n.epoch = l.owner_epoch
                where l.lane = k.lane and l.owner = $4 and l.owner_epoch = $5
            )
        returning o.lane, o.event_id, o.subscription_id, o.key_hash
    )
    insert into ringback.retries
        (event_id, subscription_id, lane, app_id, type_id, key_hash, attempts_made, due_at)
    select p.event_id, p.subscription_id, p.lane, e.app_id, e.type_id, p.key_hash, 0, $6
    from parked p
    cross join lateral (
        select app_id, type_id from ringback.events
        -- The bounds are for the planner: by them it leaves out days.
        where id = p.event_id and id >= $7 and id <= $8
        limit 1
    ) e
    on conflict do nothing
"#;
