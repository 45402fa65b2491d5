//! API keys.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, KeyId, Scope, Scopes};
use ringback_store::{Key, NewKey, StoreError, Within};
use sqlx::PgPool;

use crate::{failure::failed, rows::app_of};

/// See [`ringback_store::Registry::create_key`].
pub(crate) async fn create(
    pool: &PgPool,
    key: NewKey,
    now: DateTime<Utc>,
) -> Result<Key, StoreError> {
    let scopes: Vec<&str> = key.scopes.iter().map(Scope::as_str).collect();
    let row: Row = sqlx::query_as(
        r#"
        insert into ringback.keys (id, hash, name, scopes, app_id, created_at)
        values ($1, $2, $3, $4, $5, $6)
        returning id, name, scopes, app_id, created_at
        "#,
    )
    .bind(key.id.get())
    .bind(key.hash)
    .bind(key.name)
    .bind(scopes.join(" "))
    .bind(key.app.map(AppId::get))
    .bind(now)
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    read(row)
}

/// See [`ringback_store::Registry::key_by_hash`].
pub(crate) async fn by_hash(pool: &PgPool, hash: [u8; 32]) -> Result<Option<Key>, StoreError> {
    let row: Option<Row> = sqlx::query_as(
        r#"
        select k.id, k.name, k.scopes, k.app_id, k.created_at from ringback.keys k
        where k.hash = $1 and k.revoked_at is null
            and not exists (
                select from ringback.apps a where a.id = k.app_id and a.deleted_at is not null
            )
        "#,
    )
    .bind(hash)
    .fetch_optional(pool)
    .await
    .map_err(failed)?;
    row.map(read).transpose()
}

/// See [`ringback_store::Registry::keys`].
pub(crate) async fn list(
    pool: &PgPool,
    within: Within,
    before: KeyId,
    limit: u32,
) -> Result<Vec<Key>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        r#"
        select id, name, scopes, app_id, created_at from ringback.keys
        where id < $1 and revoked_at is null and ($2::int8 is null or app_id = $2)
        order by id desc limit $3
        "#,
    )
    .bind(before.get())
    .bind(app_of(within))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter().map(read).collect()
}

/// See [`ringback_store::Registry::revoke_key`].
pub(crate) async fn revoke(
    pool: &PgPool,
    id: KeyId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let revoked = sqlx::query(
        r#"
        update ringback.keys set revoked_at = $3
        where id = $1 and revoked_at is null and ($2::int8 is null or app_id = $2)
        "#,
    )
    .bind(id.get())
    .bind(app_of(within))
    .bind(now)
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(revoked.rows_affected() > 0)
}

type Row = (i64, String, String, Option<i64>, DateTime<Utc>);

fn read((id, name, scopes, app, created_at): Row) -> Result<Key, StoreError> {
    let corrupt = |_| StoreError::Corrupt {
        table: "keys",
        column: "scopes",
    };
    let scopes = scopes.split_whitespace().map(str::parse::<Scope>);
    Ok(Key {
        id: KeyId::new(id),
        name,
        scopes: scopes.collect::<Result<Scopes, _>>().map_err(corrupt)?,
        app: app.map(AppId::new),
        created_at,
    })
}
