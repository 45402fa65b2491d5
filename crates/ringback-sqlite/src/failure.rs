//! What a failure of the driver means to callers of the store.

use std::{error::Error, fmt, sync::Arc};

use ringback_store::StoreError;

/// Primary result codes of SQLite that may pass: see <https://sqlite.org/rescode.html>.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const NO_MEMORY: i32 = 7;
const IO_ERROR: i32 = 10;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;

/// Wraps a failure as callers know it.
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    if is_unavailable(&error) {
        StoreError::unavailable(error)
    } else {
        StoreError::refused(error)
    }
}

/// Whether the database did not answer, or not now: the same may work later.
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_passing(&code)),
        _ => false,
    }
}

/// - `code`: an extended result code; its low byte is the primary one.
fn is_passing(code: &str) -> bool {
    let primary = code.parse::<i32>().map(|extended| extended & 0xff);
    matches!(
        primary,
        Ok(BUSY | LOCKED | NO_MEMORY | IO_ERROR | FULL | CANNOT_OPEN)
    )
}

/// A failure that befell everybody whose commands shared a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<sqlx::Error>);

impl Shared {
    pub(crate) fn new(error: sqlx::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the transaction was not committed")
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_is_refused() {
        let cases = [
            ("5", true),     // another process writes
            ("517", true),   // a snapshot is too old: SQLITE_BUSY_SNAPSHOT
            ("6", true),     // a table is locked
            ("13", true),    // the disk is full
            ("14", true),    // the file cannot be opened
            ("4874", true),  // SQLITE_IOERR_SHMSIZE
            ("1555", false), // SQLITE_CONSTRAINT_PRIMARYKEY
            ("275", false),  // SQLITE_CONSTRAINT_CHECK
            ("1", false),    // bad SQL
            ("11", false),   // the file is damaged
        ];
        for (code, passing) in cases {
            assert_eq!(is_passing(code), passing, "{code}");
        }
    }
}
