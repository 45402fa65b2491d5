//! A receiver that keeps the books: which attempt of which delivery came, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use ringback_model::{DeliveryId, EventId, SubscriptionId};
use ringback_testkit::receiver::{Receiver, Reply, Request};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Api, PATIENCE, traffic};

/// One attempt of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sending {
    pub(crate) delivery: DeliveryId,
    /// Counted from 1.
    pub(crate) attempt: u16,
}

/// When something came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// See [`Inbox::next_round`].
    pub(crate) round: usize,
}

/// The receiver of all subscriptions of a test. Answers `204` unless told otherwise.
pub(crate) struct Inbox {
    receiver: Receiver,
    books: Arc<Mutex<Books>>,
    arrived: watch::Sender<()>,
}

/// What has come.
#[derive(Default)]
pub(crate) struct Books {
    /// The n-th one's URL has the path `/n`.
    subscriptions: Vec<SubscriptionId>,
    round: usize,
    arrivals: BTreeMap<Sending, Vec<Arrival>>,
    /// What each event was, as it came first.
    bodies: BTreeMap<EventId, Bytes>,
    /// What should not have come like that.
    faults: Vec<String>,
}

impl Inbox {
    pub(crate) async fn start() -> Self {
        let inbox = Self {
            receiver: Receiver::start().await,
            books: Arc::default(),
            arrived: watch::Sender::new(()),
        };
        inbox.script(|_| Reply::status(204));
        inbox
    }

    /// Subscribes an application to it.
    ///
    /// - `fields`: what differs from a subscription to everything.
    pub(crate) async fn subscribe(&self, api: &Api, app: &str, fields: Value) -> SubscriptionId {
        let path = format!("/{}", self.books.lock().unwrap().subscriptions.len());
        let made = api.subscribe(app, &self.receiver.url(&path), fields).await;
        let id = made.id.parse().unwrap();
        self.books.lock().unwrap().subscriptions.push(id);
        id
    }

    /// Answers by `script` from now on.
    pub(crate) fn script(&self, mut script: impl FnMut(Sending) -> Reply + Send + 'static) {
        let (books, arrived) = (Arc::clone(&self.books), self.arrived.clone());
        self.receiver.script(move |request| {
            let sending = books.lock().unwrap().enter(request);
            arrived.send_modify(|()| {});
            script(sending)
        });
    }

    /// What comes from now on is of another round, counted from 0.
    pub(crate) fn next_round(&self) {
        self.books.lock().unwrap().round += 1;
    }

    /// Waits until what has come fulfils `condition`.
    ///
    /// # Panics
    ///
    /// If it does not within [`PATIENCE`].
    pub(crate) async fn wait_until(&self, what: &str, condition: impl Fn(&Books) -> bool) {
        let count = || self.books.lock().unwrap().arrivals.len();
        assert!(
            self.wait(condition).await,
            "waited for {what}; {} attempts came",
            count()
        );
    }

    /// Waits until what has come fulfils `condition`; `false` if it does not within
    /// [`PATIENCE`].
    pub(crate) async fn wait(&self, condition: impl Fn(&Books) -> bool) -> bool {
        let mut arrived = self.arrived.subscribe();
        let fulfilled = arrived.wait_for(|()| condition(&self.books.lock().unwrap()));
        timeout(PATIENCE, fulfilled).await.is_ok()
    }

    /// Looks into the books.
    ///
    /// # Panics
    ///
    /// If anything came that was wrong in itself.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Books) -> T) -> T {
        let books = self.books.lock().unwrap();
        assert!(books.faults.is_empty(), "{:#?}", books.faults);
        look(&books)
    }
}

impl Books {
    /// Whether any attempt of a delivery has come.
    pub(crate) fn has(&self, delivery: DeliveryId) -> bool {
        let any = |attempt| Sending { delivery, attempt };
        self.arrivals.range(any(0)..=any(u16::MAX)).next().is_some()
    }

    /// How many attempts each delivery that came has had.
    pub(crate) fn deliveries(&self) -> BTreeMap<DeliveryId, u16> {
        // The highest comes last.
        let sendings = self.arrivals.keys();
        sendings
            .map(|sending| (sending.delivery, sending.attempt))
            .collect()
    }

    /// The numbers of the events that came: see [`traffic::Post`].
    pub(crate) fn numbers(&self) -> BTreeMap<EventId, u64> {
        let each = self.bodies.iter();
        each.map(|(event, body)| (*event, number(body).unwrap()))
            .collect()
    }

    /// Attempts that came again: the time before, and that one.
    pub(crate) fn repeats(&self) -> Vec<(Sending, Arrival, Arrival)> {
        let pairs = |(sending, arrivals): (&Sending, &Vec<Arrival>)| {
            let pair = |pair: &[Arrival]| (*sending, pair[0], pair[1]);
            arrivals.windows(2).map(pair).collect::<Vec<_>>()
        };
        self.arrivals.iter().flat_map(pairs).collect()
    }

    /// What came in a round.
    pub(crate) fn of_round(&self, round: usize) -> BTreeSet<Sending> {
        let came = |arrivals: &[Arrival]| arrivals.iter().any(|arrival| arrival.round == round);
        let each = self.arrivals.iter();
        each.filter(|(_, arrivals)| came(arrivals))
            .map(|(sending, _)| *sending)
            .collect()
    }

    fn enter(&mut self, request: &Request) -> Sending {
        let place = request
            .target
            .trim_start_matches('/')
            .parse::<usize>()
            .unwrap();
        let delivery = DeliveryId {
            event: request.webhook_id().parse().unwrap(),
            subscription: self.subscriptions[place],
        };
        let attempt = request.header("ringback-attempt").unwrap().parse().unwrap();
        let sending = Sending { delivery, attempt };
        self.judge(sending, &request.body);
        let arrival = Arrival {
            at: Instant::now(),
            round: self.round,
        };
        self.arrivals.entry(sending).or_default().push(arrival);
        sending
    }

    fn judge(&mut self, sending: Sending, body: &Bytes) {
        let first = self
            .bodies
            .entry(sending.delivery.event)
            .or_insert_with(|| body.clone());
        let whole = number(body).is_some_and(|number| {
            let end = format!(r#","data":{}}}"#, traffic::data(number));
            body.ends_with(end.as_bytes())
        });
        if first != body || !whole {
            let body = String::from_utf8_lossy(body);
            self.faults
                .push(format!("{sending:?} came with other bytes: {body}"));
        }
    }
}

/// The number that an event's `data` begins with.
fn number(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once(r#","data":{"n":"#)?;
    rest.split(',').next()?.parse().ok()
}
