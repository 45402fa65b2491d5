//! Deliveries, on their way out.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family, gauge::Gauge},
    registry::Registry,
};
use ringback_model::{AttemptError, DeliveryStatus};

use crate::{
    Durations,
    durations::{EXCHANGE, WHOLE_WAY},
    family::{Family, Kept, Labels, STATUS_CLASSES, class_of},
};

/// What the dispatcher of this process does.
#[derive(Debug)]
pub struct Delivering {
    /// Attempts under way.
    pub in_flight: Gauge,
    /// Deliveries in memory, waiting for their turn.
    pub queued: Gauge,
    /// Results of attempts that are not committed yet.
    pub unsettled: Gauge,
    /// Of the attempts under way, those to slow receivers.
    pub slow_in_flight: Gauge,
    /// Subscriptions whose first attempts are held back, because nothing gets through.
    pub open_breakers: Gauge,
    /// Subscriptions that wait for a time: their rate, a `Retry-After`, a breaker's probe.
    pub waiting_for_time: Gauge,
    /// Subscriptions that wait for their host to have room.
    pub waiting_for_host: Gauge,
    /// Deliveries that were put aside, into the retries, before any attempt.
    pub parked: Counter,
    /// Lanes that this node sends from.
    pub lanes: Gauge,

    /// By error, the last for none; then by class of the status.
    attempts: Vec<[Kept<Counter, 3>; STATUS_CLASSES.len()]>,
    delivered_took: Kept<Durations, 1>,
    failed_took: Kept<Durations, 1>,

    /// By how it ended, see [`Settled::ALL`].
    settled: [Kept<Counter, 1>; Settled::ALL.len()],
    whole_way: [[Kept<Durations, 2>; ATTEMPTS.len()]; Settled::ALL.len()],
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// A receiver answered 2xx.
    Delivered,
    /// A dead letter.
    Dead,
    /// Its subscription was deleted.
    Cancelled,
}

impl Settled {
    const ALL: [Self; 3] = [Self::Delivered, Self::Dead, Self::Cancelled];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => DeliveryStatus::Delivered.as_str(),
            Self::Dead => DeliveryStatus::Dead.as_str(),
            Self::Cancelled => DeliveryStatus::Cancelled.as_str(),
        }
    }
}

/// Into which of these the number of a delivery's attempts falls.
const ATTEMPTS: [&str; 4] = ["0", "1", "2-5", "6+"];

const fn bucket_of(attempts: u16) -> usize {
    match attempts {
        0 => 0,
        1 => 1,
        2..=5 => 2,
        6.. => 3,
    }
}

impl Delivering {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let mut gauge = |name, help| {
            let gauge = Gauge::default();
            registry.register(name, help, Gauge::clone(&gauge));
            gauge
        };
        let in_flight = gauge(
            "delivery_attempts_in_flight",
            "Attempts under way on this node",
        );
        let queued = gauge(
            "deliveries_queued",
            "Deliveries in this node's memory, waiting for their turn",
        );
        let unsettled = gauge(
            "delivery_results_unsettled",
            "Results of attempts that this node has not committed yet",
        );
        let slow_in_flight = gauge(
            "delivery_slow_attempts_in_flight",
            "Of the attempts under way on this node, those to slow receivers",
        );
        let open_breakers = gauge(
            "subscriptions_breaker_open",
            "Subscriptions whose first attempts this node holds back, because nothing gets through",
        );
        let lanes = gauge("lanes_owned", "Lanes, of 256, that this node sends from");

        let waiting = family::Family::<Labels<1>, Gauge>::default();
        registry.register(
            "subscriptions_waiting",
            "Subscriptions with deliveries in this node's memory that may not be sent yet",
            waiting.clone(),
        );
        let waiting_for = |what| waiting.get_or_create_owned(&[("reason", what)]);
        let (waiting_for_time, waiting_for_host) = (waiting_for("time"), waiting_for("host"));
        let parked = Counter::default();
        registry.register(
            "deliveries_parked",
            "Deliveries that this node put aside before any attempt, because they could not be \
             sent soon",
            parked.clone(),
        );

        let attempts = Family::counters(registry, "delivery_attempts", "Attempts that ended");
        let took = Family::durations(
            registry,
            "delivery_attempt_duration_seconds",
            "How long attempts took, from their beginning to the end of the answer",
            || Durations::new(EXCHANGE),
        );
        let settled = Family::counters(
            registry,
            "deliveries_settled",
            "Deliveries that a dispatcher settled, replays included",
        );
        let whole_way = Family::durations(
            registry,
            "delivery_end_to_end_seconds",
            "From an event's acceptance until its delivery was settled, replays left out",
            || Durations::new(WHOLE_WAY),
        );
        Self {
            in_flight,
            queued,
            unsettled,
            slow_in_flight,
            open_breakers,
            waiting_for_time,
            waiting_for_host,
            parked,
            lanes,
            attempts: attempts_by_error(&attempts),
            delivered_took: took.shown([("outcome", "delivered")]),
            failed_took: took.shown([("outcome", "failed")]),
            settled: Settled::ALL.map(|how| settled.shown([("result", how.as_str())])),
            whole_way: Settled::ALL.map(|how| {
                ATTEMPTS.map(|attempts| {
                    whole_way.kept([("result", how.as_str()), ("attempts_bucket", attempts)])
                })
            }),
        }
    }

    /// An attempt ended.
    ///
    /// - `error`: why it failed; `None` if it did not.
    /// - `status`: what the receiver answered, if it did.
    pub fn attempted(&self, error: Option<AttemptError>, status: Option<u16>, took: Duration) {
        self.attempts[place_of(error)][class_of(status)].get().inc();
        let durations = match error {
            None => &self.delivered_took,
            Some(_) => &self.failed_took,
        };
        durations.get().observe(took);
    }

    /// A delivery is settled, and that is committed.
    ///
    /// - `attempts`: over all rounds.
    /// - `whole_way`: since the acceptance of its event; `None` for a replay, whose
    ///   event may be weeks old.
    pub fn settled(&self, how: Settled, attempts: u16, whole_way: Option<Duration>) {
        self.settled[how as usize].get().inc();
        if let Some(whole_way) = whole_way {
            let durations = &self.whole_way[how as usize][bucket_of(attempts)];
            durations.get().observe(whole_way);
        }
    }
}

fn attempts_by_error(family: &Family<Counter, 3>) -> Vec<[Kept<Counter, 3>; STATUS_CLASSES.len()]> {
    let errors = AttemptError::ALL.iter().copied().map(Some).chain([None]);
    let of = |error: Option<AttemptError>| {
        let (outcome, word) = match error {
            None => ("delivered", "none"),
            Some(error) => ("failed", error.as_str()),
        };
        STATUS_CLASSES.map(|class| {
            let labels = [
                ("outcome", outcome),
                ("error", word),
                ("status_class", class),
            ];
            if is_usual(error, class) {
                family.shown(labels)
            } else {
                family.kept(labels)
            }
        })
    };
    errors.map(of).collect()
}

/// Whether it is shown before it has happened.
fn is_usual(error: Option<AttemptError>, class: &str) -> bool {
    match error {
        None => class == "2xx",
        Some(AttemptError::HttpStatus) => matches!(class, "4xx" | "5xx"),
        Some(AttemptError::Redirect) => class == "3xx",
        Some(_) => class == "none",
    }
}

fn place_of(error: Option<AttemptError>) -> usize {
    let all = AttemptError::ALL;
    let place = |error| all.iter().position(|other| *other == error);
    // Each is among all of them.
    error.and_then(place).unwrap_or(all.len())
}
