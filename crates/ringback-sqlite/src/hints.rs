//! Hints: one process serves a file, so they stay in memory.

use ringback_store::{Hint, Hints};
use tokio::sync::broadcast;

use crate::SqliteStore;

/// How many hints a receiver may lag behind.
pub(crate) const CAPACITY: usize = 4096;

impl Hints for SqliteStore {
    fn hint(&self, hint: Hint) {
        // Nobody listens while nothing is being sent.
        let _ = self.0.hints.send(hint);
    }

    fn listen(&self) -> broadcast::Receiver<Hint> {
        self.0.hints.subscribe()
    }
}
