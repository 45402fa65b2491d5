//! What the receivers of a run saw, and what they answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use ringback_testkit::receiver::{Receiver, Reply, Request};

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// The receiver's, counted over all of them: in order of arrival.
    pub(super) number: usize,
    pub(super) attempt: u64,
    /// What it was answered; `None` for a connection that was reset.
    pub(super) answer: Option<u16>,
}

impl Arrival {
    /// Whether it was answered that all is well.
    pub(super) fn is_taken(&self) -> bool {
        self.answer.is_some_and(|code| code < 300)
    }
}

/// What came of one event for one subscription.
pub(super) type Arrivals = BTreeMap<(usize, String), Vec<Arrival>>;

/// How a receiver is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It takes everything.
    Well,
    /// It fails every other time, one way or another.
    Moody,
    /// It is down.
    Down,
}

/// The receivers of all subscriptions: the n-th one's path is `/n`.
pub(super) struct Books {
    receiver: Receiver,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    rng: StdRng,
    moods: Vec<Mood>,
    arrivals: Arrivals,
    bodies: BTreeMap<String, Bytes>,
    count: usize,
    faults: Vec<String>,
}

impl Books {
    pub(super) async fn open(seed: u64) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            rng: StdRng::seed_from_u64(seed),
            moods: Vec::new(),
            arrivals: BTreeMap::new(),
            bodies: BTreeMap::new(),
            count: 0,
            faults: Vec::new(),
        }));
        let receiver = Receiver::start().await;
        let books = Arc::clone(&shared);
        receiver.script(move |request| books.lock().unwrap().answer(request));
        Self { receiver, shared }
    }

    /// The URL of one more receiver.
    pub(super) fn another(&self) -> String {
        let mut shared = self.shared.lock().unwrap();
        let number = shared.moods.len();
        shared.moods.push(Mood::Well);
        self.receiver.url(&format!("/{number}"))
    }

    pub(super) fn set(&self, receiver: usize, mood: Mood) {
        self.shared.lock().unwrap().moods[receiver] = mood;
    }

    pub(super) fn all_well(&self) {
        self.shared.lock().unwrap().moods.fill(Mood::Well);
    }

    /// How much has come.
    pub(super) fn count(&self) -> usize {
        self.shared.lock().unwrap().count
    }

    /// All that has come.
    ///
    /// # Panics
    ///
    /// If something was wrong in itself.
    pub(super) fn close(&self) -> Arrivals {
        let shared = self.shared.lock().unwrap();
        assert!(shared.faults.is_empty(), "{:#?}", shared.faults);
        shared.arrivals.clone()
    }
}

impl Shared {
    fn answer(&mut self, request: &Request) -> Reply {
        let receiver: usize = request.target.trim_start_matches('/').parse().unwrap();
        let event = request.webhook_id().to_owned();
        let attempt = request.header("ringback-attempt").unwrap().parse().unwrap();
        let first = self
            .bodies
            .entry(event.clone())
            .or_insert(request.body.clone());
        if *first != request.body {
            self.faults.push(format!("{event} came with other bytes"));
        }
        let answer = match self.moods[receiver] {
            Mood::Well => Some(204),
            Mood::Down => Some(503),
            Mood::Moody => match self.rng.random_range(0..6) {
                0 => None,
                1 => Some(500),
                2 => Some(404),
                _ => Some(200),
            },
        };
        self.arrivals
            .entry((receiver, event))
            .or_default()
            .push(Arrival {
                number: self.count,
                attempt,
                answer,
            });
        self.count += 1;
        answer.map_or_else(Reply::reset, Reply::status)
    }
}
