//! Keeps a second server off a database file.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Held while a server runs on a file. Commands may use the database meanwhile. The
/// system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct ServerLock {
    _file: File,
}

/// A server cannot run on a file.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one does.
    #[error(
        "another server is running on this database, it holds `{0}`: stop it first, or use PostgreSQL to run several"
    )]
    Held(PathBuf),
    /// The lock's file cannot be opened or locked.
    #[error("cannot lock `{path}`")]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Takes the right to serve the database at `path`, by a lock on `{path}.lock`.
///
/// # Errors
///
/// [`LockError::Held`] if another process has it.
pub fn lock_for_serving(path: &Path) -> Result<ServerLock, LockError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let locked = file.map_err(TryLockError::Error).and_then(|file| {
        file.try_lock()?;
        Ok(ServerLock { _file: file })
    });
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => LockError::Held(path),
        TryLockError::Error(source) => LockError::Io { path, source },
    })
}
