//! Subscriptions and their configuration.
//!
//! Whatever changes one locks its application first: so changes of one application
//! come one after another, and each raises its version in the commit that makes it.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, DeadReason, DeliveryStatus, Lane, SubscriptionId, SubscriptionStatus};
use ringback_store::{
    Changed, NewSubscription, Sealed, StoreError, Subscription, SubscriptionChange,
    SubscriptionConfig, SubscriptionKind, Within,
};
use sqlx::{PgPool, Row, postgres::PgRow};

use crate::{
    failure::failed,
    rows::{app_of, from_json, lane, to_json},
    transaction::{Tx, transact},
    withdraw,
};

/// What [`read`] needs; `s` is the subscription, `v` its current version.
macro_rules! columns {
    () => {
        "s.id, s.app_id, s.lane, s.kind, s.status, s.status_reason, s.version, s.created_at, \
         s.updated_at, v.url, v.event_types, v.headers, v.retry, v.timeout_ms, v.max_in_flight, \
         v.description, v.labels"
    };
}

/// See [`ringback_store::Registry::create_subscription`].
pub(crate) async fn create(
    pool: &PgPool,
    new: NewSubscription,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    transact(pool, move |tx| create_in(tx, new, now)).await
}

/// See [`ringback_store::Registry::subscription`].
pub(crate) async fn one(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
) -> Result<Option<Subscription>, StoreError> {
    let row = sqlx::query(ONE)
        .bind(id.get())
        .bind(app_of(within))
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    row.as_ref().map(read).transpose()
}

/// See [`ringback_store::Registry::subscriptions`].
pub(crate) async fn list(
    pool: &PgPool,
    app: AppId,
    before: SubscriptionId,
    limit: u32,
) -> Result<Vec<Subscription>, StoreError> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from ringback.subscriptions s \
          join ringback.subscription_versions v \
            on v.subscription_id = s.id and v.version = s.version \
          where s.app_id = $1 and s.id < $2 and s.deleted_at is null and s.kind = 'standard' \
          order by s.id desc limit $3"
    ))
    .bind(app.get())
    .bind(before.get())
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(read).collect()
}

/// See [`ringback_store::Registry::update_subscription`].
pub(crate) async fn update(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
    change: SubscriptionChange,
    expected: Option<i32>,
    now: DateTime<Utc>,
) -> Result<Changed<Subscription>, StoreError> {
    transact(pool, move |tx| {
        update_in(tx, id, within, change, expected, now)
    })
    .await
}

/// See [`ringback_store::Registry::pause_subscription`].
pub(crate) async fn pause(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let from = |status| status == SubscriptionStatus::Active;
    let to = SubscriptionStatus::Paused;
    transact(pool, move |tx| switch_in(tx, id, within, from, to, now)).await
}

/// See [`ringback_store::Registry::resume_subscription`].
pub(crate) async fn resume(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let from = |status| status != SubscriptionStatus::Active;
    let to = SubscriptionStatus::Active;
    transact(pool, move |tx| switch_in(tx, id, within, from, to, now)).await
}

/// See [`ringback_store::Registry::delete_subscription`].
pub(crate) async fn delete(
    pool: &PgPool,
    id: SubscriptionId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    transact(pool, move |mut tx| async move {
        let Some(subscription) = lock(&mut tx, id, within).await? else {
            return Ok(false);
        };
        delete_row(&mut tx, id, subscription.app, now).await?;
        raise_version(&mut tx, &subscription).await?;
        tx.commit().await.map_err(failed)?;
        Ok(true)
    })
    .await
}

/// See [`ringback_store::Outbox::disable_subscription`].
pub(crate) async fn disable(
    pool: &PgPool,
    id: SubscriptionId,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let reason = reason.to_owned();
    transact(pool, move |mut tx| async move {
        let Some(subscription) = lock(&mut tx, id, Within::Everything).await? else {
            return Ok(());
        };
        set_status(
            &mut tx,
            id,
            SubscriptionStatus::Disabled,
            Some(&reason),
            now,
        )
        .await?;
        let end = (DeliveryStatus::Dead, Some(DeadReason::SubscriptionDisabled));
        withdraw::all_of(&mut tx, id, subscription.app, end, now).await?;
        raise_version(&mut tx, &subscription).await?;
        tx.commit().await.map_err(failed)
    })
    .await
}

/// Deletes a subscription of a locked application, and cancels what waits for it.
pub(crate) async fn delete_row(
    tx: &mut Tx,
    id: SubscriptionId,
    app: AppId,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query("update ringback.subscriptions set deleted_at = $2, updated_at = $2 where id = $1")
        .bind(id.get())
        .bind(now)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    withdraw::all_of(tx, id, app, (DeliveryStatus::Cancelled, None), now).await
}

/// Locks a subscription's application against other changes; the subscription as it
/// is then, unless it is deleted or out of sight.
pub(crate) async fn lock(
    tx: &mut Tx,
    id: SubscriptionId,
    within: Within,
) -> Result<Option<Subscription>, StoreError> {
    sqlx::query(
        "select from ringback.apps \
         where id = (select app_id from ringback.subscriptions where id = $1) \
         for no key update",
    )
    .bind(id.get())
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    let row = sqlx::query(ONE)
        .bind(id.get())
        .bind(app_of(within))
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed)?;
    row.as_ref().map(read).transpose()
}

/// Has events that were matched before the change be matched again. Callbacks' hidden
/// subscriptions match none.
pub(crate) async fn raise_version(tx: &mut Tx, changed: &Subscription) -> Result<(), StoreError> {
    if changed.kind == SubscriptionKind::Callback {
        return Ok(());
    }
    sqlx::query("update ringback.apps set version = version + 1 where id = $1")
        .bind(changed.app.get())
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(())
}

const ONE: &str = concat!(
    "select ",
    columns!(),
    " from ringback.subscriptions s \
      join ringback.subscription_versions v \
        on v.subscription_id = s.id and v.version = s.version \
      where s.id = $1 and s.deleted_at is null and ($2::int8 is null or s.app_id = $2)"
);

async fn create_in(
    mut tx: Tx,
    new: NewSubscription,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let app = sqlx::query(
        "select from ringback.apps where id = $1 and deleted_at is null for no key update",
    )
    .bind(new.app.get())
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    if app.is_none() {
        return Ok(None);
    }
    let subscription = Subscription {
        id: new.id,
        app: new.app,
        lane: Lane::of(new.id),
        kind: new.kind,
        status: SubscriptionStatus::Active,
        status_reason: None,
        version: 1,
        config: new.config,
        created_at: now,
        updated_at: now,
    };
    sqlx::query(
        r#"
        insert into ringback.subscriptions
            (id, app_id, kind, lane, status, version, created_at, updated_at)
        values ($1, $2, $3, $4, 0, 1, $5, $5)
        "#,
    )
    .bind(subscription.id.get())
    .bind(subscription.app.get())
    .bind(kind_text(subscription.kind))
    .bind(i16::from(subscription.lane.get()))
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    insert_version(&mut tx, &subscription, now).await?;
    sqlx::query(
        r#"
        insert into ringback.subscription_secrets (subscription_id, number, secret, created_at)
        values ($1, 1, $2, $3)
        "#,
    )
    .bind(subscription.id.get())
    .bind(new.secret.as_bytes())
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    raise_version(&mut tx, &subscription).await?;
    tx.commit().await.map_err(failed)?;
    Ok(Some(subscription))
}

async fn update_in(
    mut tx: Tx,
    id: SubscriptionId,
    within: Within,
    change: SubscriptionChange,
    expected: Option<i32>,
    now: DateTime<Utc>,
) -> Result<Changed<Subscription>, StoreError> {
    let Some(mut subscription) = lock(&mut tx, id, within).await? else {
        return Ok(Changed::NotFound);
    };
    if expected.is_some_and(|version| version != subscription.version) {
        return Ok(Changed::Outdated);
    }
    apply(&mut subscription.config, change);
    subscription.version += 1;
    subscription.updated_at = now;
    insert_version(&mut tx, &subscription, now).await?;
    sqlx::query("update ringback.subscriptions set version = $2, updated_at = $3 where id = $1")
        .bind(id.get())
        .bind(subscription.version)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    raise_version(&mut tx, &subscription).await?;
    tx.commit().await.map_err(failed)?;
    Ok(Changed::Done(subscription))
}

fn apply(config: &mut SubscriptionConfig, change: SubscriptionChange) {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    set(&mut config.url, change.url);
    set(&mut config.event_types, change.event_types);
    set(&mut config.headers, change.headers);
    set(&mut config.retry, change.retry);
    set(&mut config.timeout_ms, change.timeout_ms);
    set(&mut config.max_in_flight, change.max_in_flight);
    set(&mut config.description, change.description);
    set(&mut config.labels, change.labels);
}

async fn switch_in(
    mut tx: Tx,
    id: SubscriptionId,
    within: Within,
    from: impl FnOnce(SubscriptionStatus) -> bool,
    to: SubscriptionStatus,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, StoreError> {
    let Some(mut subscription) = lock(&mut tx, id, within).await? else {
        return Ok(None);
    };
    if from(subscription.status) {
        set_status(&mut tx, id, to, None, now).await?;
        raise_version(&mut tx, &subscription).await?;
        tx.commit().await.map_err(failed)?;
        (subscription.status, subscription.status_reason) = (to, None);
        subscription.updated_at = now;
    }
    Ok(Some(subscription))
}

async fn set_status(
    tx: &mut Tx,
    id: SubscriptionId,
    status: SubscriptionStatus,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "update ringback.subscriptions set status = $2, status_reason = $3, updated_at = $4 \
         where id = $1",
    )
    .bind(id.get())
    .bind(status.code())
    .bind(reason)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn insert_version(
    tx: &mut Tx,
    subscription: &Subscription,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let config = &subscription.config;
    sqlx::query(
        r#"
        insert into ringback.subscription_versions
            (subscription_id, version, url, event_types, headers, retry, timeout_ms,
             max_in_flight, description, labels, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        "#,
    )
    .bind(subscription.id.get())
    .bind(subscription.version)
    .bind(&config.url)
    .bind(to_json(&config.event_types))
    .bind(config.headers.as_ref().map(Sealed::as_bytes))
    .bind(to_json(&config.retry))
    .bind(i32::try_from(config.timeout_ms).unwrap_or(i32::MAX))
    .bind(i32::from(config.max_in_flight))
    .bind(&config.description)
    .bind(to_json(&config.labels))
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}

fn kind_text(kind: SubscriptionKind) -> &'static str {
    match kind {
        SubscriptionKind::Standard => "standard",
        SubscriptionKind::Callback => "callback",
    }
}

fn read(row: &PgRow) -> Result<Subscription, StoreError> {
    let status: i16 = row.try_get("status").map_err(failed)?;
    let kind: &str = row.try_get("kind").map_err(failed)?;
    let corrupt = |column| StoreError::Corrupt {
        table: "subscriptions",
        column,
    };
    Ok(Subscription {
        id: SubscriptionId::new(row.try_get("id").map_err(failed)?),
        app: AppId::new(row.try_get("app_id").map_err(failed)?),
        lane: lane(row.try_get("lane").map_err(failed)?),
        kind: match kind {
            "standard" => SubscriptionKind::Standard,
            "callback" => SubscriptionKind::Callback,
            _ => return Err(corrupt("kind")),
        },
        status: SubscriptionStatus::from_code(status).ok_or_else(|| corrupt("status"))?,
        status_reason: row.try_get("status_reason").map_err(failed)?,
        version: row.try_get("version").map_err(failed)?,
        config: read_config(row)?,
        created_at: row.try_get("created_at").map_err(failed)?,
        updated_at: row.try_get("updated_at").map_err(failed)?,
    })
}

fn read_config(row: &PgRow) -> Result<SubscriptionConfig, StoreError> {
    const TABLE: &str = "subscription_versions";
    let text = |column| row.try_get::<&str, _>(column).map_err(failed);
    let number = |column| row.try_get::<i32, _>(column).map_err(failed);
    let headers: Option<Vec<u8>> = row.try_get("headers").map_err(failed)?;
    Ok(SubscriptionConfig {
        url: text("url")?.to_owned(),
        event_types: from_json(TABLE, "event_types", text("event_types")?)?,
        headers: headers.map(Sealed::from_bytes),
        retry: from_json(TABLE, "retry", text("retry")?)?,
        timeout_ms: number("timeout_ms")?.unsigned_abs(),
        max_in_flight: u16::try_from(number("max_in_flight")?).unwrap_or(u16::MAX),
        description: text("description")?.to_owned(),
        labels: from_json(TABLE, "labels", text("labels")?)?,
    })
}
