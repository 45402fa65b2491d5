//! Signing secrets, sealed.

use chrono::{DateTime, Utc};
use ringback_model::SubscriptionId;
use ringback_store::{Sealed, StoreError, StoredSecret, Within};
use sqlx::{SqliteConnection, SqlitePool};

use crate::{
    apps::{only, raise_version},
    columns::Column,
    failure::failed,
    subscriptions,
};

/// See [`ringback_store::Registry::secrets`].
pub(crate) async fn list(
    readers: &SqlitePool,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<Option<Vec<StoredSecret>>, StoreError> {
    let rows: Vec<(Option<Vec<u8>>, Option<i64>)> = sqlx::query_as(
        "select k.secret, k.expires_at from subscriptions s \
         left join subscription_secrets k on k.subscription_id = s.id \
             and (k.expires_at is null or k.expires_at > ?3) \
         where s.id = ?1 and (?2 is null or s.app_id = ?2) and s.deleted_at is null \
         order by k.number desc",
    )
    .bind(id.get())
    .bind(only(within))
    .bind(now.timestamp_millis())
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let secrets = rows
        .into_iter()
        .filter_map(|(secret, end)| secret.map(|secret| (secret, end)));
    let read = |(secret, end)| {
        Ok(StoredSecret {
            secret: Sealed::from_bytes(secret),
            expires_at: expires_at(end)?,
        })
    };
    secrets.map(read).collect::<Result<_, _>>().map(Some)
}

/// See [`ringback_store::Registry::rotate_secret`].
pub(crate) async fn rotate(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    within: Within,
    secret: &Sealed,
    previous_expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let Some(current) = subscriptions::get(&mut *connection, id, within).await? else {
        return Ok(false);
    };
    sqlx::query(
        "update subscription_secrets set expires_at = min(coalesce(expires_at, ?2), ?2) \
         where subscription_id = ?1",
    )
    .bind(id.get())
    .bind(previous_expires_at.timestamp_millis())
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    let number: i64 = sqlx::query_scalar(
        "select coalesce(max(number), 0) + 1 from subscription_secrets where subscription_id = ?1",
    )
    .bind(id.get())
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    write(connection, id, number, secret, now).await?;
    sqlx::query("update subscriptions set updated_at = ?2 where id = ?1")
        .bind(id.get())
        .bind(now.timestamp_millis())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    raise_version(connection, current.app, id, current.kind).await?;
    Ok(true)
}

/// Writes the newest secret; the one before must have an end by now.
pub(crate) async fn write(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    number: i64,
    secret: &Sealed,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into subscription_secrets (subscription_id, number, secret, created_at) \
         values (?1, ?2, ?3, ?4)",
    )
    .bind(id.get())
    .bind(number)
    .bind(secret.as_bytes())
    .bind(now.timestamp_millis())
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed)
}

/// The end of a secret; `None` for the newest.
pub(crate) fn expires_at(millis: Option<i64>) -> Result<Option<DateTime<Utc>>, StoreError> {
    millis
        .map(|millis| Column("subscription_secrets", "expires_at").time(millis))
        .transpose()
}
