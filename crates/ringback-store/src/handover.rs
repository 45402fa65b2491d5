//! The short way from accepting to sending, inside one process.
//!
//! After its commit, whoever accepted an event hands its deliveries over in memory,
//! if this process owns their lanes. The row in the outbox is the truth: what is not
//! handed over is found by reading the lane.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ringback_model::{DeliveryId, EventId, Lane};
use tokio::sync::mpsc;

use crate::{OutboxKey, Payload};

/// The accepting end.
#[derive(Clone, Debug)]
pub struct HandOver {
    sender: mpsc::Sender<(Payload, Vec<OutboxKey>)>,
    owned: OwnedLanes,
    transit: Transit,
    missed: Arc<AtomicBool>,
}

/// The sending end.
#[derive(Debug)]
pub struct HandOverReceiver {
    receiver: mpsc::Receiver<(Payload, Vec<OutboxKey>)>,
    /// For the dispatcher to say which lanes it owns.
    pub owned: OwnedLanes,
    /// For the dispatcher to know what is still under way.
    pub transit: Transit,
    missed: Arc<AtomicBool>,
}

/// Makes both ends.
///
/// - `capacity`: how many events may wait to be taken over.
pub fn handover(capacity: usize) -> (HandOver, HandOverReceiver) {
    let (sender, receiver) = mpsc::channel(capacity);
    let (owned, transit) = (OwnedLanes::default(), Transit::default());
    let missed = Arc::new(AtomicBool::new(false));
    let handover = HandOver {
        sender,
        owned: owned.clone(),
        transit: transit.clone(),
        missed: Arc::clone(&missed),
    };
    (
        handover,
        HandOverReceiver {
            receiver,
            owned,
            transit,
            missed,
        },
    )
}

impl HandOver {
    /// To be called before the commit, and dropped after [`Self::offer`].
    ///
    /// - `from`: no event that is accepted with it has a lower id.
    pub fn ticket(&self, from: EventId) -> Ticket {
        self.transit.begin_at(Some(from))
    }

    /// Whether this process sends what is in `lane`; if not, its owner needs a hint.
    pub fn owns(&self, lane: Lane) -> bool {
        self.owned.contains(lane)
    }

    /// Hands an accepted event's deliveries over. When there is no room, the other
    /// end is told to read its lanes instead.
    pub fn offer(&self, payload: Payload, deliveries: Vec<OutboxKey>) {
        if self.sender.try_send((payload, deliveries)).is_err() {
            self.missed.store(true, Ordering::Release);
        }
    }
}

impl HandOverReceiver {
    /// The next event and its deliveries; `None` when the accepting end is gone.
    pub async fn recv(&mut self) -> Option<(Payload, Vec<OutboxKey>)> {
        self.receiver.recv().await
    }

    /// The next event, if one is there already.
    pub fn try_recv(&mut self) -> Option<(Payload, Vec<OutboxKey>)> {
        self.receiver.try_recv().ok()
    }

    /// Whether something was not handed over since this was last asked.
    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }
}

/// The lanes that this process owns, as its dispatcher last said.
#[derive(Clone, Debug, Default)]
pub struct OwnedLanes(Arc<[AtomicU64; Lane::COUNT / 64]>);

impl OwnedLanes {
    /// Whether the lane is owned.
    pub fn contains(&self, lane: Lane) -> bool {
        let (word, bit) = place(lane);
        self.0[word].load(Ordering::Acquire) & bit != 0
    }

    /// Says whether the lane is owned.
    pub fn set(&self, lane: Lane, owned: bool) {
        let (word, bit) = place(lane);
        if owned {
            self.0[word].fetch_or(bit, Ordering::AcqRel);
        } else {
            self.0[word].fetch_and(!bit, Ordering::AcqRel);
        }
    }
}

const fn place(lane: Lane) -> (usize, u64) {
    ((lane.get() / 64) as usize, 1 << (lane.get() % 64))
}

/// Which reads and hand-overs are under way: each may still bring a delivery that has
/// been settled meanwhile.
///
/// ```
/// # use ringback_store::Transit;
/// let transit = Transit::default();
/// let read = transit.begin(); // sees a row …
/// let settled_at = transit.mark(); // … that is settled now.
/// assert!(!transit.passed(settled_at)); // So its key has to be remembered
/// drop(read);
/// assert!(transit.passed(settled_at)); // until that read has come in.
/// ```
#[derive(Clone, Debug, Default)]
pub struct Transit(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// With the lowest event that an accept may bring.
    open: BTreeMap<u64, Option<EventId>>,
}

impl Transit {
    /// Begins a read; it ends when the ticket is dropped, which must be after what it
    /// brought has been taken in.
    pub fn begin(&self) -> Ticket {
        self.begin_at(None)
    }

    /// The lowest event that an accept under way may still commit, if any is.
    pub fn oldest_accept(&self) -> Option<EventId> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.open.values().flatten().min().copied()
    }

    fn begin_at(&self, from: Option<EventId>) -> Ticket {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.next;
        open.next += 1;
        open.open.insert(number, from);
        Ticket {
            transit: self.clone(),
            number,
        }
    }

    /// The present: behind all that has begun.
    pub fn mark(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next
    }

    /// Whether all that had begun at `mark` has ended.
    pub fn passed(&self, mark: u64) -> bool {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.open
            .first_key_value()
            .is_none_or(|(&oldest, _)| oldest >= mark)
    }
}

/// Something under way: see [`Transit::begin`].
#[derive(Debug)]
pub struct Ticket {
    transit: Transit,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self
            .transit
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.open.remove(&self.number);
    }
}

/// Names a delivery in the known-set; spelled out here since both ends use it.
impl From<OutboxKey> for DeliveryId {
    fn from(key: OutboxKey) -> Self {
        key.delivery
    }
}
