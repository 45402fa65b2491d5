//! Which node owns which lanes.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_model::{Lane, NodeId};

use crate::StoreError;

/// Used by every process: registers it, and shares out the lanes.
///
/// A node holds its lanes by one lease, renewed by [`Self::beat`]. Whoever finds a
/// lease expired may take its lanes.
#[async_trait]
pub trait Lanes: Send + Sync {
    /// The database's clock; or, if that was set back since, what nodes went by at their
    /// last beat, so that who comes agrees with who is there. Set back by
    /// [`Clock::CARRIED_ON`](crate::Clock::CARRIED_ON) or more, it is taken as it is.
    async fn now(&self) -> Result<DateTime<Utc>, StoreError>;

    /// Registers a process. One that comes back under the same name gets its number
    /// again, at once, under a new epoch; lanes of the old epoch are nobody's.
    ///
    /// - `dispatching`: it wants lanes.
    ///
    /// `None` if all 1024 numbers are held by live nodes.
    async fn join(
        &self,
        name: &str,
        dispatching: bool,
        now: DateTime<Utc>,
    ) -> Result<Option<NodeLease>, StoreError>;

    /// Renews the lease to `now` + [`NodeLease::LENGTH`]. `None` if its number was
    /// given away or registered anew: sending must stop then. A lease that only
    /// expired is renewed, with whatever lanes nobody took meanwhile.
    async fn beat(&self, lease: &NodeLease, now: DateTime<Utc>)
    -> Result<Option<Beat>, StoreError>;

    /// Takes those of `lanes` that no live lease holds; answers which were taken.
    async fn take(
        &self,
        lease: &NodeLease,
        lanes: &[Lane],
        now: DateTime<Utc>,
    ) -> Result<Vec<Lane>, StoreError>;

    /// Gives lanes back. Whatever was sent from them must have been settled before.
    async fn release(&self, lease: &NodeLease, lanes: &[Lane]) -> Result<(), StoreError>;

    /// Gives back the lease and all its lanes.
    async fn leave(&self, lease: &NodeLease, now: DateTime<Utc>) -> Result<(), StoreError>;
}

/// The right of one process to its number, and to the lanes it has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLease {
    /// The process's number: part of every id it makes.
    pub node: NodeId,
    /// Rises each time a process registers under this number. What is done in the
    /// name of an older epoch is fenced off.
    pub epoch: i64,
}

impl NodeLease {
    /// How long a lease lasts without a beat.
    pub const LENGTH: Duration = Duration::from_secs(10);
    /// How often to beat.
    pub const BEAT: Duration = Duration::from_secs(3);
    /// How long before its end a lease is no longer acted on: clocks tick unevenly.
    pub const MARGIN: Duration = Duration::from_secs(3);
}

/// What a beat brings back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Dispatching nodes with a live lease, this one included if it is one; sorted.
    pub dispatching: Vec<NodeId>,
    /// Lanes that this lease owns, sorted.
    pub owned: Vec<Lane>,
}
