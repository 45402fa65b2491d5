//! Emits Ringback's own events, in the transaction that their cause is in.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, Failing, SubscriptionId, SystemEvent, shown_url};
use ringback_store::{DeadLetter, HealthChange, NodeLease, StoreError};
use sqlx::PgPool;

use crate::{failure::failed, transaction::Tx};

/// Emits an event in `app`. Whoever commits gives [`ringback_store::Hint::Emitted`], so
/// that it is accepted soon.
pub(crate) async fn emit(tx: &mut Tx, app: AppId, event: &SystemEvent) -> Result<(), StoreError> {
    sqlx::query("insert into ringback.emitted (app_id, type, data) values ($1, $2, $3)")
        .bind(app.get())
        .bind(event.event_type())
        .bind(event.data())
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Emits [`SystemEvent::SubscriptionFailing`] for each of these changes that is a warning
/// which is not recorded yet. To be called before they are recorded, in the same
/// transaction; fenced as that is.
pub(crate) async fn warn(
    tx: &mut Tx,
    lease: NodeLease,
    changes: &[HealthChange],
) -> Result<(), StoreError> {
    let warnings: Vec<(&HealthChange, Failing)> = changes
        .iter()
        .filter_map(|change| Some((change, change.failing?)))
        .filter(|(_, failing)| failing.warned > 0)
        .collect();
    if warnings.is_empty() {
        return Ok(());
    }
    let (lanes, ids): (Vec<i16>, Vec<i64>) = warnings
        .iter()
        .map(|(change, _)| (i16::from(change.lane.get()), change.subscription.get()))
        .unzip();
    let (since, warned): (Vec<DateTime<Utc>>, Vec<i16>) = warnings
        .iter()
        .map(|(_, failing)| (failing.since, i16::from(failing.warned)))
        .unzip();
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(
        r#"
        select s.id, s.app_id, v.url
        from unnest($1::int2[], $2::int8[], $3::timestamptz[], $4::int2[])
            as k (lane, subscription_id, failing_since, warned)
        join ringback.lanes l on l.lane = k.lane and l.owner = $5 and l.owner_epoch = $6
        join ringback.nodes n on n.id = l.owner and n.epoch = l.owner_epoch
        join ringback.subscriptions s on s.id = k.subscription_id and s.deleted_at is null
            and s.kind = 'standard'
        join ringback.subscription_versions v
            on v.subscription_id = s.id and v.version = s.version
        left join ringback.subscription_health h on h.subscription_id = s.id
        where h.warned is null or h.warned < k.warned or h.failing_since <> k.failing_since
        "#,
    )
    .bind(lanes)
    .bind(ids)
    .bind(since)
    .bind(warned)
    .bind(lease.node.get().cast_signed())
    .bind(lease.epoch)
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?;
    for (id, app, url) in rows {
        let subscription = SubscriptionId::new(id);
        let warning = warnings
            .iter()
            .find(|(change, _)| change.subscription == subscription);
        if let Some((_, failing)) = warning {
            let event = SystemEvent::SubscriptionFailing {
                subscription,
                url: shown_url(&url),
                failing_since: failing.since,
                disables_at: failing.disables_at(),
                percent: failing.warned,
            };
            emit(tx, AppId::new(app), &event).await?;
        }
    }
    Ok(())
}

/// See [`ringback_store::Outbox::report_dead`].
pub(crate) async fn report_dead(pool: &PgPool, letters: &[DeadLetter]) -> Result<(), StoreError> {
    let events: Vec<_> = letters.iter().map(DeadLetter::event).collect();
    let letters = || letters.iter();
    // An attempt may have ended when its delivery was cancelled already, or its lane
    // another's: then it is not dead, whatever was thought of it.
    sqlx::query(
        r#"
        insert into ringback.emitted (app_id, type, external_id, data)
        select l.app_id, l.type, l.external_id, l.data
        from unnest($1::int8[], $2::int8[], $3::int8[], $4::int2[], $5::text[], $6::text[],
                $7::bytea[])
            as l (app_id, event_id, subscription_id, attempts, type, external_id, data)
        where exists (
            select from (
                select * from ringback.deliveries union all select * from ringback.kept_deliveries
            ) d
            where d.event_id = l.event_id and d.subscription_id = l.subscription_id
                and d.status = 3 and d.attempts = l.attempts
        )
        "#,
    )
    .bind(letters().map(|one| one.app.get()).collect::<Vec<_>>())
    .bind(
        letters()
            .map(|one| one.delivery.event.get())
            .collect::<Vec<_>>(),
    )
    .bind(
        letters()
            .map(|one| one.subscription().get())
            .collect::<Vec<_>>(),
    )
    .bind(
        letters()
            .map(|one| i16::try_from(one.attempts).unwrap_or(i16::MAX))
            .collect::<Vec<_>>(),
    )
    .bind(
        events
            .iter()
            .map(|event| event.event_type())
            .collect::<Vec<_>>(),
    )
    .bind(letters().map(DeadLetter::event_id).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.data()).collect::<Vec<_>>())
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(())
}
