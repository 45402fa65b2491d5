//! Owns lanes and sends what is in them, at least once each.
//!
//! One node owns a lane at a time in ordinary running, but correctness does not
//! rest on it: a node that dies between the POST and the settling causes a
//! repeat, never a loss, and a node that was paused past its lease can settle
//! only what it delivered.
//!
//! A hint from the store and the poll interval both only mean "look again". What
//! a hint says is never used as the truth, so a lost one costs time, not events.
//!
//! One task owns all state and never waits for anything but the next thing to
//! happen. Statements and attempts run in tasks of their own and report back. So the
//! order in which things happen is the order in which this loop hears of them, and the
//! modules below are pure: they take times and random numbers as arguments.
//!
//! | step | where | with |
//! |---|---|---|
//! | take lanes, give them up, stop | `ownership.rs` | `lanes.rs` |
//! | take rows in: handed over, read, looked up when due | `intake.rs` | `reader.rs`, `retries.rs` |
//! | keep the order of those that ask for it | `in_order.rs` | `order.rs` |
//! | take no row in twice | `intake.rs` | `known.rs`, `row.rs` |
//! | follow changes of subscriptions | `changes.rs` | `subscriptions.rs`, `sending.rs` |
//! | send, each in its turn | `serve.rs` | `schedule.rs`, `cache.rs`, `message.rs`, `send.rs` |
//! | settle, and learn how the receiver is | `results.rs` | `settle.rs`, `schedule.rs`, `health.rs`, `reports.rs` |
//! | park what cannot be sent soon; warn, disable | `aside.rs` | `schedule.rs`, `health.rs` |
//! | run statements, and again when they failed | `calls.rs` | `pace.rs`, `patience.rs`, `alarm.rs` |
//!
//! Retry or dead letter is decided by [`ringback_model::RetryPolicy`].

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use http::HeaderValue;
use ringback_egress::Egress;
use ringback_model::SubscriptionId;
use ringback_store::{
    Beat, Clock, HandOverReceiver, Hint, Membership, NodeLease, OutboxKey, Payload, Store, Vault,
};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError, error::TryRecvError},
        watch,
    },
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

mod config;
pub use config::DispatcherConfig;

mod ownership;

mod intake;

mod in_order;

mod changes;

mod serve;

mod results;

mod aside;

mod send;
pub use send::Transport;

mod alarm;
mod cache;
mod calls;
mod health;
mod known;
mod lanes;
mod message;
mod order;
mod pace;
mod patience;
mod reader;
mod reports;
mod retries;
mod row;
mod schedule;
mod sending;
mod settle;
mod subscriptions;

#[cfg(test)]
mod tests;

use crate::{
    alarm::Alarm,
    aside::Parking,
    cache::Cache,
    calls::{Calls, Database, Reply},
    health::Health,
    known::Known,
    lanes::Lanes,
    order::Order,
    pace::Pace,
    reader::Reader,
    reports::Reports,
    retries::Retries,
    schedule::Schedule,
    send::Attempted,
    serve::{InFlight, Wanting},
    settle::Settler,
    subscriptions::Subscriptions,
};

/// From every source, at most so much is taken in before the next turn.
const AT_ONCE: usize = 1024;

/// Sends what is in this node's lanes. To be made once per process, and [`Self::run`].
pub struct Dispatcher<T = Egress> {
    vault: Arc<Vault>,
    membership: Arc<Membership>,
    clock: Clock,
    transport: T,
    config: DispatcherConfig,
    user_agent: HeaderValue,

    // What comes in.
    database: Database,
    handed_over: HandOverReceiver,
    hints: broadcast::Receiver<Hint>,
    beats: watch::Receiver<Option<(NodeLease, Beat)>>,
    calls: Calls,
    attempts: JoinSet<Attempted>,

    // What is held.
    lanes: Lanes,
    reader: Reader,
    retries: Retries,
    order: Order,
    /// Rows of these came before it was known whether they keep order.
    passed_over: HashSet<SubscriptionId>,
    known: Known,
    subscriptions: Subscriptions,
    schedule: Schedule,
    cache: Cache,
    wanting: Wanting,
    in_flight: HashMap<Id, InFlight>,
    settler: Settler,
    parking: Parking,
    health: Health,
    /// They have failed for too long; the last attempt is not settled yet.
    given_up: HashSet<SubscriptionId>,
    /// Answered 410 or given up, and that attempt is settled; with the reason.
    to_disable: HashMap<SubscriptionId, &'static str>,
    disabling: usize,
    reports: Reports,

    // When to ask again.
    pace: Pace,
    stopping_at: Option<DateTime<Utc>>,
}

/// What woke the loop.
enum Wake {
    Stop,
    Beat,
    HandedOver(Payload, Vec<OutboxKey>),
    Hint(Hint),
    Reply(Box<Reply>),
    Attempted(Result<(Id, Attempted), JoinError>),
    Time,
}

impl<T: Transport> Dispatcher<T> {
    /// - `membership`: kept beating by somebody else.
    /// - `handed_over`: the other end is where events are accepted; may be gone.
    /// - `transport`: the guarded egress.
    pub fn new(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        membership: Arc<Membership>,
        handed_over: HandOverReceiver,
        transport: T,
        config: DispatcherConfig,
    ) -> Self {
        let database = Database {
            outbox: store.clone(),
            lanes: store.clone(),
            hints: store.clone(),
        };
        Self::over(database, vault, membership, handed_over, transport, config)
    }

    pub(crate) fn over(
        database: Database,
        vault: Arc<Vault>,
        membership: Arc<Membership>,
        handed_over: HandOverReceiver,
        transport: T,
        config: DispatcherConfig,
    ) -> Self {
        let clock = membership.clock().clone();
        let now = clock.now();
        let user_agent = HeaderValue::try_from(config.user_agent.as_str())
            .unwrap_or_else(|_| HeaderValue::from_static("Ringback"));
        Self {
            hints: database.hints.listen(),
            beats: membership.beats(),
            calls: Calls::new(
                database.clone(),
                handed_over.transit.clone(),
                clock.clone(),
                Arc::clone(&config.metrics),
            ),
            attempts: JoinSet::new(),
            lanes: Lanes::new(),
            reader: Reader::new(now),
            retries: Retries::default(),
            order: Order::default(),
            passed_over: HashSet::new(),
            known: Known::default(),
            subscriptions: Subscriptions::default(),
            schedule: Schedule::new(config.max_in_flight, config.max_in_flight_per_host),
            cache: Cache::new(config.payload_cache_bytes),
            wanting: Wanting::default(),
            in_flight: HashMap::new(),
            settler: Settler::default(),
            parking: Parking::default(),
            health: Health::default(),
            given_up: HashSet::new(),
            to_disable: HashMap::new(),
            disabling: 0,
            reports: Reports::default(),
            pace: Pace::new(now),
            stopping_at: None,
            vault,
            membership,
            clock,
            transport,
            config,
            user_agent,
            database,
            handed_over,
        }
    }

    /// Takes lanes and sends what is in them, until `shutdown`.
    ///
    /// Then nothing new is sent, what is in flight may end, all results are settled and
    /// the lanes given back. Returns when that is done, after 20 s at the latest.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut alarm = Alarm::default();
        self.take_beat();
        while !self.is_done() {
            self.turn();
            if let Some(at) = self.next_at() {
                alarm.set(&self.clock, at);
            }
            let wake = self.wake(&shutdown, &mut alarm).await;
            // Before taking in what was handed over: see `Known::passed`.
            let passed = self.known.passed(&self.handed_over.transit);
            self.take(wake);
            if self.take_all() {
                self.known.drop_passed(passed);
            }
        }
    }

    /// Waits for the next thing to happen.
    async fn wake(&mut self, shutdown: &CancellationToken, alarm: &mut Alarm) -> Wake {
        // A branch that has nothing to wait for is left out by its pattern.
        tokio::select! {
            () = shutdown.cancelled(), if self.stopping_at.is_none() => Wake::Stop,
            Ok(()) = self.beats.changed() => Wake::Beat,
            Some((payload, keys)) = self.handed_over.recv() => Wake::HandedOver(payload, keys),
            Some(reply) = self.calls.reply() => Wake::Reply(Box::new(reply)),
            Some(ended) = self.attempts.join_next_with_id() => Wake::Attempted(ended),
            Some(hint) = next_hint(&mut self.hints) => Wake::Hint(hint),
            () = alarm.ring() => Wake::Time,
        }
    }

    /// Takes in what happened.
    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Stop => self.stop(),
            Wake::Beat => self.take_beat(),
            Wake::HandedOver(payload, keys) => self.take_over(payload, &keys),
            Wake::Hint(hint) => self.take_hint(hint),
            Wake::Reply(reply) => self.take_reply(*reply),
            Wake::Attempted(ended) => self.take_attempted(ended),
            Wake::Time => {}
        }
    }

    /// Takes in what else is there already, to wake up less often. Whether all that was
    /// handed over is in.
    fn take_all(&mut self) -> bool {
        if self.beats.has_changed().unwrap_or(false) {
            self.take_beat();
        }
        for _ in 0..AT_ONCE {
            let Some(ended) = self.attempts.try_join_next_with_id() else {
                break;
            };
            self.take_attempted(ended);
        }
        for _ in 0..AT_ONCE {
            let Some(reply) = self.calls.try_reply() else {
                break;
            };
            self.take_reply(reply);
        }
        for _ in 0..AT_ONCE {
            match self.hints.try_recv() {
                Ok(hint) => self.take_hint(hint),
                Err(TryRecvError::Lagged(_)) => self.take_hint(Hint::Everything),
                Err(_) => break,
            }
        }
        for _ in 0..AT_ONCE {
            let Some((payload, keys)) = self.handed_over.try_recv() else {
                return true;
            };
            self.take_over(payload, &keys);
        }
        false
    }

    fn take_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Read { page, rows, begun } => self.take_page(&page, rows, &begun),
            Reply::Looked { look, rows, begun } => self.take_look(&look, rows, &begun),
            Reply::InOrder { look, found, begun } => self.take_in_order(&look, found, &begun),
            Reply::Waiting(found) => self.take_waiting(found),
            Reply::Payloads { events, found } => self.take_payloads(events, found),
            Reply::States { ids, found } => self.take_states(ids, found),
            Reply::Changed { at, found } => self.take_changed(at, found),
            Reply::Settled { batch, mark, done } => self.take_settled(batch, mark, done),
            Reply::Parked { keys, due_at, done } => self.take_parked(keys, due_at, done),
            Reply::Recorded { batch, done } => self.take_recorded(batch, done),
            Reply::Disabled {
                subscription,
                reason,
                done,
            } => self.take_disabled(subscription, reason, done),
            Reply::Reported { letters, done } => self.take_reported(letters, done),
            Reply::Taken { lease, taken } => self.take_taken(lease, taken),
            Reply::Released { lanes, done } => self.take_released(&lanes, done),
        }
    }

    fn take_hint(&mut self, hint: Hint) {
        let now = self.clock.now();
        match hint {
            Hint::Lane(lane) if self.lanes.owns(lane) => self.reader.want(lane),
            Hint::Due(lane, subscription) if self.lanes.owns(lane) => {
                self.retries.expect(subscription, lane, now);
            }
            Hint::Lane(_) | Hint::Due(..) => {}
            Hint::Subscription(subscription) => self.subscriptions.changed(subscription),
            Hint::Withdrawn(delivery) => self.withdraw(delivery),
            // For those who accept.
            Hint::Emitted => {}
            Hint::Everything => {
                self.reader.want_all();
                self.subscriptions.all_changed();
                self.pace.scan_at = now;
            }
        }
    }

    /// Does all there is to do now.
    fn turn(&mut self) {
        let now = self.clock.now();
        self.take_ripe(now);
        self.schedule.wake(now);
        self.queue_in_order();
        self.serve(now);
        self.fetch(now);
        self.settle(now);
        self.hold_back(now);
        self.park(now);
        self.record(now);
        self.disable(now);
        self.report(now);
        self.load(now);
        self.read(now);
        self.move_lanes(now);
        self.tidy(now);
        self.show();
    }

    /// Shows how much is at hand.
    fn show(&self) {
        let delivering = &self.config.metrics.delivering;
        delivering.in_flight.set(self.in_flight.len() as i64);
        delivering.queued.set(self.held_in_memory() as i64);
        delivering.unsettled.set(self.settler.unsettled() as i64);
        let stats = self.schedule.stats();
        delivering.slow_in_flight.set(stats.slow_in_flight as i64);
        delivering.open_breakers.set(stats.open_breakers as i64);
        delivering.waiting_for_time.set(stats.waiting as i64);
        delivering
            .waiting_for_host
            .set(stats.waiting_for_host as i64);
    }

    /// When there is something to do next, if nothing happens before.
    fn next_at(&self) -> Option<DateTime<Utc>> {
        let pace = &self.pace;
        let now = Some(DateTime::<Utc>::MIN_UTC);
        let looks = !self.reader.is_held() && !pace.looking;
        let looks_in_order = !pace.looking_in_order;
        [
            pace.read.not_before(self.reader.next_at()),
            pace.look
                .not_before(self.retries.look_at().filter(|_| looks)),
            self.retries.ripe_at(),
            pace.look
                .not_before(self.order.look_at().filter(|_| looks_in_order)),
            pace.settle.not_before(self.settler.next_at()),
            pace.fetch
                .not_before(now.filter(|_| self.wanting.has_fetch())),
            pace.load
                .not_before(now.filter(|_| self.subscriptions.has_load())),
            self.schedule.next_at(),
            pace.park.not_before(now.filter(|_| self.can_park())),
            pace.record.not_before(self.health.next_at()),
            pace.disable
                .not_before(now.filter(|_| !self.to_disable.is_empty())),
            pace.report
                .not_before(now.filter(|_| self.reports.has_next())),
            pace.lanes.not_before(self.lanes_move_at()),
            Some(pace.changes_at).filter(|_| !self.subscriptions.is_empty()),
            pace.look
                .not_before(Some(pace.scan_at).filter(|_| self.lanes.owns_any())),
            Some(pace.tidy_at).filter(|_| !self.subscriptions.is_empty()),
            self.stop_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// What is late is everything: some hints are lost. `None` when there will be none.
async fn next_hint(hints: &mut broadcast::Receiver<Hint>) -> Option<Hint> {
    match hints.recv().await {
        Ok(hint) => Some(hint),
        Err(RecvError::Lagged(_)) => Some(Hint::Everything),
        Err(RecvError::Closed) => None,
    }
}
