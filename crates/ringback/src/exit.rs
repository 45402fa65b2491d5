//! What the process's exit code says: documented in `docs/operations.md`.

use crate::{client::ClientError, output::PrintError};

/// Whether an error is none that anybody is to be told of: whoever read the output has
/// seen enough, as `head` has after its first lines.
pub fn is_quiet(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(PrintError::Cut))
}

/// The exit code for an error.
pub fn code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Problem { status, .. }) => match status {
            404 => 3,
            401 | 403 => 5,
            500.. => 6,
            _ => 4,
        },
        Some(ClientError::Unreachable { .. }) => 6,
        Some(ClientError::NoKey) => 5,
        Some(ClientError::NotUnderstood(_)) | None => 1,
    }
}
