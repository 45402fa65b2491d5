//! Reads emitted events that are not accepted yet, one process at a time.
//!
//! Who reads holds a lock of the database, on a connection that is kept for it. It is for
//! order and for thrift alone: two who read the same rows would take turns at accepting
//! them, and both had read them. What makes one event of a row is that accepting it
//! deletes it.
//!
//! The lock goes with its connection, and the server ends a connection that is silent
//! for ten seconds: a process that is frozen, or cut off, keeps it no longer than that.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::AppId;
use ringback_store::{EmittedId, EmittedPage, EmittedRow, StoreError};
use sqlx::{
    ConnectOptions, Connection, FromRow, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgRow},
};

use crate::failure::{failed, is_unavailable};

/// How soon the one that reads looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How soon the others try to become that one.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Longer than the server lets a statement run: only a dead line is this silent.
const SILENCE: Duration = Duration::from_secs(15);
/// What is read at once, but for the last row.
const MAX_BYTES: i64 = 4 * 1024 * 1024;
/// Names the lock: `ringback` in ASCII.
const LOCK: i64 = i64::from_be_bytes(*b"ringback");

/// The connection that emitted events are read on.
#[derive(Debug)]
pub(crate) struct Reader {
    options: PgConnectOptions,
    kept: Mutex<Option<Session>>,
}

#[derive(Debug)]
struct Session {
    connection: PgConnection,
    has_lock: bool,
}

impl Reader {
    /// Connects when it is first asked to read.
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        Self {
            options: options.options([("idle_session_timeout", "10s")]),
            kept: Mutex::default(),
        }
    }

    /// See [`ringback_store::Accept::emitted`].
    pub(crate) async fn page(
        &self,
        after: EmittedId,
        except: &[EmittedId],
        limit: u32,
    ) -> Result<EmittedPage, StoreError> {
        if let Some(kept) = self.take() {
            match self.read(kept, after, except, limit).await {
                // It may have been silent for too long; a new one tells more.
                Err(error) if is_unavailable(&error) => {}
                done => return done.map_err(failed),
            }
        }
        let connect = tokio::time::timeout(SILENCE, self.options.connect());
        let connection = connect
            .await
            .map_err(StoreError::unavailable)?
            .map_err(failed)?;
        let session = Session {
            connection,
            has_lock: false,
        };
        self.read(session, after, except, limit)
            .await
            .map_err(failed)
    }

    /// Lets another process read.
    pub(crate) async fn close(&self) {
        if let Some(session) = self.take() {
            // The server notices by itself if this fails.
            let _ = session.connection.close().await;
        }
    }

    /// A session that fails, or whose caller goes away, is not kept.
    async fn read(
        &self,
        mut session: Session,
        after: EmittedId,
        except: &[EmittedId],
        limit: u32,
    ) -> Result<EmittedPage, sqlx::Error> {
        let read = session.read(after, except, limit);
        let page = tokio::time::timeout(SILENCE, read)
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)??;
        *self.lock() = Some(session);
        Ok(page)
    }

    fn take(&self) -> Option<Session> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Session>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    async fn read(
        &mut self,
        after: EmittedId,
        except: &[EmittedId],
        limit: u32,
    ) -> Result<EmittedPage, sqlx::Error> {
        if !self.has_lock {
            let lock = sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK);
            self.has_lock = lock.fetch_one(&mut self.connection).await?;
        }
        if !self.has_lock {
            return Ok(EmittedPage {
                rows: Vec::new(),
                has_more: false,
                ask_again: TRY_AGAIN,
            });
        }
        let rows = sqlx::query(READ)
            .bind(after.get())
            .bind(except.iter().map(|id| id.get()).collect::<Vec<_>>())
            .bind(i64::from(limit))
            .bind(MAX_BYTES)
            .fetch_all(&mut self.connection)
            .await?;
        let rows = rows
            .iter()
            .map(|row| Emitted::from_row(row).map(|row| row.0))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes: usize = rows.iter().map(|row| row.data.len()).sum();
        let is_full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(EmittedPage {
            has_more: is_full || i64::try_from(bytes).is_ok_and(|bytes| bytes >= MAX_BYTES),
            rows,
            ask_again: LOOK_AGAIN,
        })
    }
}

/// See [`ringback_store::Accept::discard_emitted`].
pub(crate) async fn discard(
    pool: &PgPool,
    rows: &[EmittedId],
) -> Result<Vec<EmittedId>, StoreError> {
    let ids: Vec<i64> =
        sqlx::query_scalar("delete from ringback.emitted where id = any($1) returning id")
            .bind(rows.iter().map(|id| id.get()).collect::<Vec<_>>())
            .fetch_all(pool)
            .await
            .map_err(failed)?;
    Ok(ids.into_iter().map(EmittedId::new).collect())
}

struct Emitted(EmittedRow);

impl FromRow<'_, PgRow> for Emitted {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let deliver_at: Option<DateTime<Utc>> = row.try_get("deliver_at")?;
        Ok(Self(EmittedRow {
            id: EmittedId::new(row.try_get("id")?),
            app: AppId::new(row.try_get("app_id")?),
            event_type: row.try_get("type")?,
            data: Bytes::from(row.try_get::<Vec<u8>, _>("data")?),
            external_id: row.try_get("external_id")?,
            traceparent: row.try_get("traceparent")?,
            labels: row.try_get("labels")?,
            ordering_key: row.try_get("ordering_key")?,
            deliver_at,
        }))
    }
}

const READ: &str = r#"
    select id, app_id, type, external_id, traceparent, labels, data, ordering_key, deliver_at
    from (
        select *, sum(octet_length(data)) over (order by id) - octet_length(data) as before
        from (
            select * from ringback.emitted
            where id > $1 and id <> all($2)
            order by id limit $3
        ) oldest
    ) e
    where before < $4
    order by id
"#;
