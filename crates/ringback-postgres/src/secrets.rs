//! Signing secrets.

use chrono::{DateTime, Utc};
use ringback_model::SubscriptionId;
use ringback_store::{Sealed, StoreError, StoredSecret, Within};
use sqlx::PgPool;

use crate::{
    failure::failed,
    rows::app_of,
    subscriptions,
    transaction::{Tx, transact},
};

/// See [`ringback_store::Registry::secrets`].
pub(crate) async fn live(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<Option<Vec<StoredSecret>>, StoreError> {
    // The newest has no end, so a subscription that exists has at least one row.
    let rows: Vec<(Vec<u8>, Option<DateTime<Utc>>)> = sqlx::query_as(
        r#"
        select k.secret, k.expires_at
        from ringback.subscriptions s
        join ringback.subscription_secrets k on k.subscription_id = s.id
        where s.id = $1 and s.deleted_at is null and ($2::int8 is null or s.app_id = $2)
            and (k.expires_at is null or k.expires_at > $3)
        order by k.number desc
        "#,
    )
    .bind(id.get())
    .bind(app_of(within))
    .bind(now)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let secret = |(secret, expires_at)| StoredSecret {
        secret: Sealed::from_bytes(secret),
        expires_at,
    };
    Ok((!rows.is_empty()).then(|| rows.into_iter().map(secret).collect()))
}

/// See [`ringback_store::Registry::rotate_secret`].
pub(crate) async fn rotate(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
    secret: Sealed,
    previous_expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    transact(pool, move |tx| {
        rotate_in(tx, id, within, secret, previous_expires_at, now)
    })
    .await
}

async fn rotate_in(
    mut tx: Tx,
    id: SubscriptionId,
    within: Within,
    secret: Sealed,
    previous_expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let Some(subscription) = subscriptions::lock(&mut tx, id, within).await? else {
        return Ok(false);
    };
    sqlx::query(
        r#"
        update ringback.subscription_secrets set expires_at = $2
        where subscription_id = $1 and (expires_at is null or expires_at > $2)
        "#,
    )
    .bind(id.get())
    .bind(previous_expires_at)
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    sqlx::query(
        r#"
        insert into ringback.subscription_secrets (subscription_id, number, secret, created_at)
        select $1, max(number) + 1, $2, $3
        from ringback.subscription_secrets where subscription_id = $1
        "#,
    )
    .bind(id.get())
    .bind(secret.as_bytes())
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    sqlx::query("update ringback.subscriptions set updated_at = $2 where id = $1")
        .bind(id.get())
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    subscriptions::raise_version(&mut tx, &subscription).await?;
    tx.commit().await.map_err(failed)?;
    Ok(true)
}
