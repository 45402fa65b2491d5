//! Emits Ringback's own events, in the transaction that their cause is in.

use ringback_model::{AppId, Failing, SubscriptionId, SystemEvent, shown_url};
use ringback_store::{DeadLetter, StoreError};
use sqlx::SqliteConnection;

use crate::failure::failed;

/// Emits an event in `app`. Whoever commits gives [`ringback_store::Hint::Emitted`], so
/// that it is accepted soon.
pub(crate) async fn emit(
    connection: &mut SqliteConnection,
    app: AppId,
    event: &SystemEvent,
) -> Result<(), StoreError> {
    sqlx::query("insert into emitted (app_id, type, data) values (?1, ?2, ?3)")
        .bind(app.get())
        .bind(event.event_type())
        .bind(event.data())
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}

/// Emits [`SystemEvent::SubscriptionFailing`] if there is a warning in how a subscription
/// is that is not recorded yet. To be called before it is recorded, in the same
/// transaction.
pub(crate) async fn warn(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    failing: Failing,
) -> Result<(), StoreError> {
    if failing.warned == 0 {
        return Ok(());
    }
    let unwarned: Option<(i64, String)> = sqlx::query_as(
        "select s.app_id, v.url from subscriptions s \
         join subscription_versions v on v.subscription_id = s.id and v.version = s.version \
         left join subscription_health h on h.subscription_id = s.id \
         where s.id = ?1 and s.kind = 'standard' \
         and (h.warned is null or h.warned < ?2 or h.failing_since <> ?3)",
    )
    .bind(id.get())
    .bind(failing.warned)
    .bind(failing.since.timestamp_millis())
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    let Some((app, url)) = unwarned else {
        return Ok(());
    };
    let event = SystemEvent::SubscriptionFailing {
        subscription: id,
        url: shown_url(&url),
        failing_since: failing.since,
        disables_at: failing.disables_at(),
        percent: failing.warned,
    };
    emit(connection, AppId::new(app), &event).await
}

/// See [`ringback_store::Outbox::report_dead`].
pub(crate) async fn report_dead(
    connection: &mut SqliteConnection,
    letters: &[DeadLetter],
) -> Result<(), StoreError> {
    for letter in letters {
        let event = letter.event();
        // An attempt may have ended when its delivery was cancelled already, or its lane
        // another's: then it is not dead, whatever was thought of it.
        sqlx::query(
            "insert into emitted (app_id, type, external_id, data) \
             select ?1, ?2, ?3, ?4 where exists (select 1 from deliveries \
             where event_id = ?5 and subscription_id = ?6 and status = 3 and attempts = ?7)",
        )
        .bind(letter.app.get())
        .bind(event.event_type())
        .bind(letter.event_id())
        .bind(event.data())
        .bind(letter.delivery.event.get())
        .bind(letter.subscription().get())
        .bind(i64::from(letter.attempts))
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    }
    Ok(())
}
