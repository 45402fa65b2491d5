//! Hints between processes: "look again, here".

use ringback_model::{DeliveryId, Lane, SubscriptionId};
use tokio::sync::broadcast;

/// Carries hints to every process on the same database, this one included.
///
/// A hint may be lost: it only saves waiting for the next look. Whoever gets one
/// reads the truth from the store.
pub trait Hints: Send + Sync {
    /// Sends a hint. Never blocks; many at once travel together.
    fn hint(&self, hint: Hint);

    /// Hints that are sent from now on. A receiver that lags behind has lost some.
    fn listen(&self) -> broadcast::Receiver<Hint>;
}

/// Where to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// This lane has new rows in the outbox.
    Lane(Lane),
    /// This subscription has a retry that is due.
    Due(Lane, SubscriptionId),
    /// This subscription's status, configuration or secrets changed.
    Subscription(SubscriptionId),
    /// This delivery is withdrawn: its rows are gone, so what is held in memory of
    /// it may be dropped.
    Withdrawn(DeliveryId),
    /// An event was emitted, and is to be accepted.
    Emitted,
    /// Too much happened to say: look everywhere.
    Everything,
}
