//! One process's place among the nodes: its lease, its clock and its ids.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::IdGenerator;
use tokio::sync::watch;

use crate::{Beat, Clock, Lanes, NodeLease, StoreError};

/// A process could not register.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// All numbers are held by live nodes.
    #[error("1024 nodes are running on this database already")]
    Full,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One process's registration, kept up by [`Self::beat`].
///
/// What it permits ends by the process's own monotonic clock, [`NodeLease::MARGIN`]
/// before the lease does: a process that was paused for longer finds, on waking,
/// that it may neither send nor make ids, without asking anybody.
#[derive(Debug)]
pub struct Membership {
    name: String,
    dispatching: bool,
    clock: Clock,
    state: Mutex<State>,
    beats: watch::Sender<Option<(NodeLease, Beat)>>,
}

#[derive(Debug)]
struct State {
    lease: NodeLease,
    acts_until: DateTime<Utc>,
    ids: Arc<IdGenerator>,
}

impl Membership {
    /// Registers this process as `name`.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if there is no number left, or the store fails.
    pub async fn join(
        lanes: &dyn Lanes,
        name: &str,
        dispatching: bool,
        clock: Clock,
    ) -> Result<Self, JoinError> {
        let now = clock.now();
        let lease = lanes
            .join(name, dispatching, now)
            .await?
            .ok_or(JoinError::Full)?;
        let state = State {
            lease,
            acts_until: acts_until(now),
            ids: Arc::new(IdGenerator::new(lease.node)),
        };
        Ok(Self {
            name: name.to_owned(),
            dispatching,
            clock,
            state: Mutex::new(state),
            beats: watch::Sender::new(None),
        })
    }

    /// The clock that everything here goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The lease, if it may be acted on now.
    pub fn lease(&self) -> Option<NodeLease> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (self.clock.now() < state.acts_until).then_some(state.lease)
    }

    /// A fresh id and the time in it; `None` while the lease may not be acted on.
    pub fn next_id(&self) -> Option<(i64, DateTime<Utc>)> {
        let now = self.clock.now();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (now < state.acts_until).then(|| (state.ids.next(now), now))
    }

    /// The lease and what its last beat brought; `None` before the first and while
    /// the lease is lost. It is here before [`Self::lease`] permits anything by it.
    pub fn beats(&self) -> watch::Receiver<Option<(NodeLease, Beat)>> {
        self.beats.subscribe()
    }

    /// Renews the lease, and sets the clock by the database's. A lost lease is asked
    /// for again, under a new epoch.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if the store fails; the lease runs on to its end meanwhile.
    pub async fn beat(&self, lanes: &dyn Lanes) -> Result<(), JoinError> {
        self.clock.set(lanes.now().await?);
        // Before the statement: the lease in the database begins no earlier.
        let now = self.clock.now();
        let lease = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lease;
        if let Some(beat) = lanes.beat(&lease, now).await? {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.acts_until = acts_until(now);
            // Under the lock: whoever may act again can know that lanes were lost.
            self.beats.send_replace(Some((lease, beat)));
            return Ok(());
        }
        tracing::warn!(
            node.name = self.name,
            "the node's lease was lost; registering again"
        );
        self.beats.send_replace(None);
        let renewed = lanes
            .join(&self.name, self.dispatching, now)
            .await?
            .ok_or(JoinError::Full)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.node != state.lease.node {
            state.ids = Arc::new(IdGenerator::new(renewed.node));
        }
        state.lease = renewed;
        state.acts_until = acts_until(now);
        Ok(())
    }

    /// Beats every [`NodeLease::BEAT`] until dropped.
    pub async fn run(&self, lanes: &dyn Lanes) {
        loop {
            if let Err(error) = self.beat(lanes).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a heartbeat failed"
                );
            }
            self.clock.sleep(NodeLease::BEAT).await;
        }
    }
}

fn acts_until(beat_at: DateTime<Utc>) -> DateTime<Utc> {
    let margin = NodeLease::LENGTH.saturating_sub(NodeLease::MARGIN);
    // Seven seconds fit.
    beat_at + TimeDelta::from_std(margin).unwrap_or_default()
}
