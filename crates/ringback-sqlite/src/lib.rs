//! The storage contract in SQLite: one file, one process that serves it.
//!
//! All that writes goes through one task with one connection, which commits whatever
//! is waiting in one transaction. All that reads has connections of its own, and
//! never waits for a writer.
//!
//! `synchronous=FULL` in WAL mode: what was answered is on disk, also after a power
//! cut. Times are kept in Unix milliseconds.

mod open;
pub use open::{OpenError, SqliteOptions, WriterPragmas};

mod lock;
pub use lock::{LockError, ServerLock, lock_for_serving};

mod migrations;
pub use migrations::MigrateError;

mod columns;
mod failure;
mod rows;
mod writer;

mod accept;
mod emitted;
mod event_types;
mod routes;

mod registry;

mod apps;
mod idempotency;
mod keys;
mod secrets;
mod subscription_status;
mod subscriptions;
mod system_events;
mod waiting;

mod outbox;

mod health;
mod in_order;
mod outbox_read;
mod park;
mod sending;
mod settle;

mod history;

mod attempts;
mod deliveries;
mod delivery;
mod events;
mod replay;

mod hints;
mod lanes;
mod maintain;
mod observe;
mod retention;
mod usage;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ringback_store::{Hint, StoreError};
use sqlx::SqlitePool;
use tokio::sync::broadcast;

use crate::{
    event_types::EventTypes,
    failure::failed,
    writer::{Writer, commit},
};

/// The storage contract in a SQLite file. Clones are the same store.
#[derive(Clone, Debug)]
pub struct SqliteStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: SqliteOptions,
    writer: Writer,
    readers: SqlitePool,
    event_types: EventTypes,
    hints: broadcast::Sender<Hint>,
}

impl SqliteStore {
    /// Opens a database, and creates its file if there is none. Its schema may still be
    /// missing: see [`Self::migrate`].
    ///
    /// # Errors
    ///
    /// [`OpenError`] if its folder is missing, or it cannot be opened as it must be.
    pub async fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let writer = Writer::start(open::open_writer(&options).await?);
        let readers = open::readers(&options);
        let (hints, _) = broadcast::channel(hints::CAPACITY);
        let event_types = EventTypes::default();
        Ok(Self(Arc::new(Inner {
            options,
            writer,
            readers,
            event_types,
            hints,
        })))
    }

    /// Brings the schema up to this version; answers the names of what was applied.
    ///
    /// # Errors
    ///
    /// [`MigrateError`] if that fails: then nothing was applied.
    pub async fn migrate(&self) -> Result<Vec<String>, MigrateError> {
        migrations::migrate(open::writing(&self.0.options.path)).await
    }

    /// What [`Self::migrate`] would apply.
    ///
    /// # Errors
    ///
    /// [`MigrateError`] if the database cannot say.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, MigrateError> {
        migrations::pending(open::writing(&self.0.options.path)).await
    }

    /// What the connection that writes is really set to.
    ///
    /// # Errors
    ///
    /// If the database cannot say.
    pub async fn pragmas(&self) -> Result<WriterPragmas, StoreError> {
        commit!(self, |connection| async {
            open::read_pragmas(connection).await.map_err(failed)
        })
    }

    /// Commits what is queued, brings the write-ahead log into the file and closes it.
    /// Whatever is asked of the store afterwards fails.
    pub async fn close(&self) {
        // The last connection to close does the bringing in: that must be the writer's.
        self.0.readers.close().await;
        self.0.writer.close().await;
    }
}
