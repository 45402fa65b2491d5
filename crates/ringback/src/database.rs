//! Opens the database that the settings name: the only place that knows which it is.

use std::sync::Arc;

use anyhow::Context;
use ringback_model::Retention;
use ringback_postgres::{PostgresOptions, PostgresStore};
use ringback_sqlite::{ServerLock, SqliteOptions, SqliteStore, lock_for_serving};
use ringback_store::Store;

use crate::settings::DatabaseUrl;

/// An open database.
#[derive(Clone)]
pub enum Database {
    /// A file.
    Sqlite(SqliteStore),
    /// A server.
    Postgres(PostgresStore),
}

impl Database {
    /// Opens it, creating a SQLite file that is not there.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, or is set up in a way that loses what was acknowledged.
    pub async fn open(url: &DatabaseUrl) -> anyhow::Result<Self> {
        Self::open_keeping(url, Retention::default()).await
    }

    /// Opens it for a server, which ends days.
    ///
    /// - `retention`: how long days are kept.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub async fn open_keeping(url: &DatabaseUrl, retention: Retention) -> anyhow::Result<Self> {
        match url {
            DatabaseUrl::Sqlite(path) => {
                let options = SqliteOptions {
                    path: path.clone(),
                    retention,
                    ..SqliteOptions::default()
                };
                let store = SqliteStore::open(options).await;
                Ok(Self::Sqlite(
                    store.with_context(|| format!("cannot open {url:?}"))?,
                ))
            }
            DatabaseUrl::Postgres(text) => {
                let options = PostgresOptions {
                    url: text.clone(),
                    retention,
                    ..PostgresOptions::default()
                };
                let store = PostgresStore::connect(options).await;
                Ok(Self::Postgres(
                    store.with_context(|| format!("cannot open {url:?}"))?,
                ))
            }
        }
    }

    /// Brings its schema up to this version; answers what was applied.
    ///
    /// # Errors
    ///
    /// If a migration fails; what came before it stays applied.
    pub async fn migrate(&self) -> anyhow::Result<Vec<String>> {
        Ok(match self {
            Self::Sqlite(store) => store.migrate().await?,
            Self::Postgres(store) => store.migrate().await?,
        })
    }

    /// What [`Self::migrate`] would apply.
    ///
    /// # Errors
    ///
    /// If the database cannot say.
    pub async fn pending_migrations(&self) -> anyhow::Result<Vec<String>> {
        Ok(match self {
            Self::Sqlite(store) => store.pending_migrations().await?,
            Self::Postgres(store) => store.pending_migrations().await?,
        })
    }

    /// The storage contract.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// Writes out what is buffered and closes it.
    pub async fn close(self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}

/// Keeps a second server off a SQLite file. PostgreSQL takes any number.
///
/// # Errors
///
/// If another server holds it.
pub fn lock_for_server(url: &DatabaseUrl) -> anyhow::Result<Option<ServerLock>> {
    match url {
        DatabaseUrl::Sqlite(path) => Ok(Some(lock_for_serving(path)?)),
        DatabaseUrl::Postgres(_) => Ok(None),
    }
}
