//! What the process's exit code says: documented in `docs/operations.md`.

use crate::client::ClientError;

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
