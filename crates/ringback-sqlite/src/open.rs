//! Opens a database file, with the settings that its promises rest on.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use ringback_model::Retention;
use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{park, settle};

/// How long a connection waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How many 4 KiB pages the write-ahead log gathers before they go into the file.
const CHECKPOINT_PAGES: &str = "4000";
/// How many rows the driver may be ahead of whoever reads them.
const ROWS_AHEAD: usize = 512;

/// How to open a database.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file; it is created, readable for its owner alone, if it is not there.
    pub path: PathBuf,
    /// How many connections read.
    pub readers: u32,
    /// How long days are kept.
    pub retention: Retention,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            path: PathBuf::from("ringback.db"),
            readers: 4,
            retention: Retention::default(),
        }
    }
}

/// A database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder that it is to be in does not exist.
    #[error("there is no folder `{0}` to keep the database in: create it first")]
    NoFolder(PathBuf),
    /// The file cannot be created.
    #[error("cannot create `{path}`")]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite cannot open it.
    #[error("cannot open `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The file system does not let processes share memory, as network drives do not.
    #[error("`{0}` is on a file system that cannot keep a write-ahead log: use a local disk")]
    NoWriteAheadLog(PathBuf),
}

/// What the writer's connection is set to, read back from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterPragmas {
    /// `wal`, or commits are not what they should be.
    pub journal_mode: String,
    /// 2 is `FULL`: a commit is on disk before it is answered.
    pub synchronous: i64,
    /// How long it waits for another process that writes.
    pub busy_timeout_ms: i64,
    /// How many pages the write-ahead log gathers.
    pub wal_autocheckpoint: i64,
    /// Whether references are checked.
    pub foreign_keys: bool,
}

/// The connection that writes.
pub(crate) async fn open_writer(options: &SqliteOptions) -> Result<SqliteConnection, OpenError> {
    create(&options.path)?;
    let opened = async {
        let mut connection = writing(&options.path).connect().await?;
        for table in [settle::TEMPORARY_TABLE, park::TEMPORARY_TABLE] {
            sqlx::query(table).execute(&mut connection).await?;
        }
        let pragmas = read_pragmas(&mut connection).await?;
        Ok((connection, pragmas))
    };
    let (connection, pragmas) = opened.await.map_err(|source| OpenError::Open {
        path: options.path.clone(),
        source,
    })?;
    if pragmas.journal_mode != "wal" {
        return Err(OpenError::NoWriteAheadLog(options.path.clone()));
    }
    Ok(connection)
}

/// The connections that read, opened as they are needed.
pub(crate) fn readers(options: &SqliteOptions) -> SqlitePool {
    let connect = common(&options.path).pragma("query_only", "on");
    SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(connect)
}

/// How a connection that writes is opened.
pub(crate) fn writing(path: &Path) -> SqliteConnectOptions {
    common(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        // What undoes a statement, and what a batch is gathered in, stays in memory.
        .pragma("temp_store", "memory")
}

/// Reads back what a connection is set to.
pub(crate) async fn read_pragmas(
    connection: &mut SqliteConnection,
) -> Result<WriterPragmas, sqlx::Error> {
    Ok(WriterPragmas {
        journal_mode: read_pragma(connection, "pragma journal_mode").await?,
        synchronous: read_pragma(connection, "pragma synchronous").await?,
        busy_timeout_ms: read_pragma(connection, "pragma busy_timeout").await?,
        wal_autocheckpoint: read_pragma(connection, "pragma wal_autocheckpoint").await?,
        foreign_keys: read_pragma(connection, "pragma foreign_keys").await?,
    })
}

async fn read_pragma<T>(
    connection: &mut SqliteConnection,
    pragma: &'static str,
) -> Result<T, sqlx::Error>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
{
    sqlx::query_scalar(pragma).fetch_one(connection).await
}

fn common(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging()
}

fn create(path: &Path) -> Result<(), OpenError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder
        && !folder.is_dir()
    {
        return Err(OpenError::NoFolder(folder.to_owned()));
    }
    let mut file = OpenOptions::new();
    file.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    file.open(path)
        .map(drop)
        .map_err(|source| OpenError::Create {
            path: path.to_owned(),
            source,
        })
}
