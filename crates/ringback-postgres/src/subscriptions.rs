//! Subscriptions and their configuration.
//!
//! Whatever changes one locks its application first: so changes of one application
//! come one after another, and each raises its version in the commit that makes it.

mod rows;
mod state;

use chrono::{DateTime, Utc};
use ringback_model::{AppId, Lane, SubscriptionId, SubscriptionStatus};
use ringback_store::{
    Changed, NewSubscription, StoreError, Subscription, SubscriptionChange, SubscriptionConfig,
    SubscriptionKind, Within,
};
use sqlx::PgPool;

use self::rows::{insert_version, kind_text, read};
pub(crate) use self::state::{delete, delete_row, disable, pause, resume};
use crate::{
    failure::failed,
    rows::app_of,
    transaction::{Tx, transact},
};

/// What [`read`] needs; `s` is the subscription, `v` its current version, `h` its health.
macro_rules! columns {
    () => {
        "s.id, s.app_id, s.lane, s.kind, s.status, s.status_reason, s.version, s.created_at, \
         s.updated_at, v.url, v.event_types, v.headers, v.retry, v.timeout_ms, v.max_in_flight, \
         v.rate_per_s, v.ordering, v.description, v.labels, v.payload_filter, \
         h.failing_since"
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
          left join ringback.subscription_health h on h.subscription_id = s.id \
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

/// Has events that were matched before the change be matched again, and says at which
/// version this was. Callbacks' hidden subscriptions match none.
pub(crate) async fn raise_version(tx: &mut Tx, changed: &Subscription) -> Result<(), StoreError> {
    if changed.kind == SubscriptionKind::Callback {
        return Ok(());
    }
    sqlx::query(
        r#"
        with raised as (
            update ringback.apps set version = version + 1 where id = $1 returning version
        )
        update ringback.subscriptions s set app_version = raised.version
        from raised where s.id = $2
        "#,
    )
    .bind(changed.app.get())
    .bind(changed.id.get())
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
      left join ringback.subscription_health h on h.subscription_id = s.id \
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
        failing_since: None,
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
    set(&mut config.payload_filter, change.payload_filter);
    set(&mut config.headers, change.headers);
    set(&mut config.retry, change.retry);
    set(&mut config.timeout_ms, change.timeout_ms);
    set(&mut config.max_in_flight, change.max_in_flight);
    set(&mut config.rate_per_s, change.rate_per_s);
    set(&mut config.ordering, change.ordering);
    set(&mut config.description, change.description);
    set(&mut config.labels, change.labels);
}
