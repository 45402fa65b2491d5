//! API keys: only their hashes are here.

use chrono::{DateTime, Utc};
use ringback_model::{AppId, KeyId, Scope, Scopes};
use ringback_store::{Key, NewKey, StoreError, Within};
use sqlx::{SqliteConnection, SqlitePool};

use crate::{apps::only, columns::Column, failure::failed};

type Row = (i64, String, String, Option<i64>, i64);

/// See [`ringback_store::Registry::create_key`].
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    key: &NewKey,
    now: DateTime<Utc>,
) -> Result<Key, StoreError> {
    let scopes: Vec<&str> = key.scopes.iter().map(Scope::as_str).collect();
    let row: Row = sqlx::query_as(
        "insert into keys (id, hash, name, scopes, app_id, created_at) \
         values (?1, ?2, ?3, ?4, ?5, ?6) returning id, name, scopes, app_id, created_at",
    )
    .bind(key.id.get())
    .bind(&key.hash[..])
    .bind(&key.name)
    .bind(scopes.join(" "))
    .bind(key.app.map(AppId::get))
    .bind(now.timestamp_millis())
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    read(row)
}

/// See [`ringback_store::Registry::key_by_hash`].
pub(crate) async fn by_hash(
    readers: &SqlitePool,
    hash: [u8; 32],
) -> Result<Option<Key>, StoreError> {
    let row: Option<Row> = sqlx::query_as(
        "select k.id, k.name, k.scopes, k.app_id, k.created_at from keys k \
         left join apps a on a.id = k.app_id \
         where k.hash = ?1 and k.revoked_at is null \
         and (k.app_id is null or (a.id is not null and a.deleted_at is null))",
    )
    .bind(&hash[..])
    .fetch_optional(readers)
    .await
    .map_err(failed)?;
    row.map(read).transpose()
}

/// See [`ringback_store::Registry::keys`].
pub(crate) async fn list(
    readers: &SqlitePool,
    within: Within,
    before: KeyId,
    limit: u32,
) -> Result<Vec<Key>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, name, scopes, app_id, created_at from keys \
         where id < ?1 and revoked_at is null and (?2 is null or app_id = ?2) \
         order by id desc limit ?3",
    )
    .bind(before.get())
    .bind(only(within))
    .bind(limit)
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    rows.into_iter().map(read).collect()
}

/// See [`ringback_store::Registry::revoke_key`].
pub(crate) async fn revoke(
    connection: &mut SqliteConnection,
    id: KeyId,
    within: Within,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let revoked = sqlx::query(
        "update keys set revoked_at = ?3 \
         where id = ?1 and (?2 is null or app_id = ?2) and revoked_at is null",
    )
    .bind(id.get())
    .bind(only(within))
    .bind(now.timestamp_millis())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(revoked.rows_affected() > 0)
}

fn read((id, name, scopes, app, created_at): Row) -> Result<Key, StoreError> {
    let scope = |text: &str| Column("keys", "scopes").parse::<Scope>(text);
    Ok(Key {
        id: KeyId::new(id),
        name,
        scopes: scopes
            .split_whitespace()
            .map(scope)
            .collect::<Result<Scopes, _>>()?,
        app: app.map(AppId::new),
        created_at: Column("keys", "created_at").time(created_at)?,
    })
}
