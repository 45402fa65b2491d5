//! What a failure of the driver means to callers of the store.

use ringback_store::StoreError;
use sqlx::error::ErrorKind;

/// Wraps a failure as callers know it.
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    if is_unavailable(&error) {
        StoreError::unavailable(error)
    } else {
        StoreError::refused(error)
    }
}

/// Whether the database did not answer, or not now: the same may work later.
pub(crate) fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_passing(&code)),
        _ => false,
    }
}

/// Whether a store's failure says that the database did not answer.
pub(crate) fn is_unavailable_store(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_))
}

/// Whether two transactions got in each other's way: trying again at once is right.
pub(crate) fn is_collision(error: &StoreError) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// Whether a row belongs to a day whose partition has not been made.
pub(crate) fn is_missing_partition(error: &StoreError) -> bool {
    // A check constraint has the same code, but names itself.
    database(error).is_some_and(|error| {
        error.code().as_deref() == Some("23514") && error.constraint().is_none()
    })
}

/// Whether a row belongs to a day that has ended: it is shut, or gone already.
pub(crate) fn is_ended_day(error: &StoreError) -> bool {
    is_missing_partition(error) || code(error).as_deref() == Some("RB001")
}

/// Whether a unique index has the value already.
pub(crate) fn is_taken(error: &StoreError) -> bool {
    database(error).is_some_and(|error| error.kind() == ErrorKind::UniqueViolation)
}

/// Connection failures, a server without room, one that stops or starts, one that
/// was asked to cancel, or that waited too long for a lock.
fn is_passing(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "53" | "57" | "58"))
        || matches!(code, "55P03" | "25P03" | "25006")
}

fn code(error: &StoreError) -> Option<String> {
    database(error)?.code().map(String::from)
}

fn database(error: &StoreError) -> Option<&dyn sqlx::error::DatabaseError> {
    match error {
        StoreError::Refused(cause) | StoreError::Unavailable(cause) => {
            cause.downcast_ref::<sqlx::Error>()?.as_database_error()
        }
        StoreError::Corrupt { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_is_refused() {
        let cases = [
            ("08006", true),  // the connection broke
            ("53300", true),  // too many connections
            ("57014", true),  // the statement took too long
            ("57P01", true),  // the server is stopped
            ("57P03", true),  // the server is starting
            ("25006", true),  // a standby that is not promoted yet
            ("28P01", false), // wrong password
            ("22021", false), // bytes that are no text
            ("23505", false),
            ("42P01", false),
        ];
        for (code, passing) in cases {
            assert_eq!(is_passing(code), passing, "{code}");
        }
    }
}
