//! Why a store could not do what it was asked.

use std::error::Error;

/// Why a store could not do what it was asked. What callers can bring about
/// (a taken name, a stale version) is in the methods' answers, never here.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or did not answer in time. What was asked may
    /// or may not have been done; every method can be called again.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// The database refused the statement: a bug here, or data that it cannot hold.
    #[error("the database refused a statement")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// A row holds what no code of this version writes.
    #[error("`{column}` of `{table}` holds something that is not understood")]
    Corrupt {
        /// The table, without its schema.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
}

impl StoreError {
    /// Wraps what a driver says when the database cannot answer.
    pub fn unavailable(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Box::new(cause))
    }

    /// Wraps what a driver says when a statement fails for its own reasons.
    pub fn refused(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Refused(Box::new(cause))
    }
}
