//! What is done in a run, and what must be true of it at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use ringback_testkit::TestStore;
use serde_json::{Value, json};

use super::books::{Arrivals, Books, Mood};
use crate::harness::Ringback;

const APPS: [&str; 2] = ["billing", "search"];
const TYPES: [&str; 3] = ["order.paid", "order.shipped", "refund.created"];
const PATTERNS: [&str; 4] = ["order.*", "order.paid", "refund.created", "*"];
const KEYS: [&str; 2] = ["one", "two"];
const SUBSCRIPTIONS: usize = 5;
/// The waits of every subscription, in seconds.
const SCHEDULE_S: [f64; 4] = [1.0, 10.0, 300.0, 3600.0];
/// The most that one step lets pass.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

pub(super) struct World {
    ringback: Option<Ringback>,
    rng: StdRng,
    books: Books,
    subscriptions: Vec<Subscription>,
    events: Vec<Event>,
    /// By delivery: how often it was replayed.
    replays: BTreeMap<String, usize>,
    cancelled: BTreeSet<String>,
    kills: usize,
}

struct Subscription {
    id: String,
    app: usize,
    pattern: &'static str,
    keeps_order: bool,
    deleted: bool,
}

struct Event {
    id: String,
    /// Its ordering key, if it has one.
    key: Option<&'static str>,
    /// The subscriptions that it had to go to.
    wanted: BTreeSet<usize>,
}

impl World {
    pub(super) async fn begin(store: TestStore, seed: u64) -> Self {
        let ringback = Ringback::start(store).await;
        for app in APPS {
            ringback.api.app(app).await;
        }
        let books = Books::open(seed).await;
        let mut world = Self {
            ringback: Some(ringback),
            rng: StdRng::seed_from_u64(seed),
            books,
            subscriptions: Vec::new(),
            events: Vec::new(),
            replays: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            kills: 0,
        };
        for _ in 0..SUBSCRIPTIONS {
            world.subscribe().await;
        }
        world
    }

    /// Does something.
    pub(super) async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..40 => self.emit().await,
            40..52 => self.change_a_mood(),
            52..58 => self.turn("pause").await,
            58..66 => self.turn("resume").await,
            66..72 => self.cancel().await,
            72..80 => self.replay().await,
            80..82 => self.delete_and_subscribe().await,
            82..85 => self.kill("test").await,
            85..87 => self.take_over().await,
            _ => self.let_time_pass().await,
        }
    }

    fn ringback(&self) -> &Ringback {
        self.ringback.as_ref().unwrap()
    }

    async fn subscribe(&mut self) {
        let app = self.rng.random_range(0..APPS.len());
        let pattern = PATTERNS[self.rng.random_range(0..PATTERNS.len())];
        let keeps_order = self.rng.random_bool(0.4);
        let fields = json!({
            "event_types": [pattern],
            "ordering": if keeps_order { "fifo" } else { "none" },
            "retry": {"schedule_s": SCHEDULE_S},
            "max_in_flight": self.rng.random_range(1..5),
        });
        let url = self.books.another();
        let made = self.ringback().api.subscribe(APPS[app], &url, fields).await;
        self.subscriptions.push(Subscription {
            id: made.id,
            app,
            pattern,
            keeps_order,
            deleted: false,
        });
    }

    async fn emit(&mut self) {
        for _ in 0..self.rng.random_range(1..6) {
            let app = self.rng.random_range(0..APPS.len());
            let event_type = TYPES[self.rng.random_range(0..TYPES.len())];
            let data = json!({"number": self.events.len()});
            let key = KEYS.get(self.rng.random_range(0..=KEYS.len())).copied();
            let mut body = json!({"app": APPS[app], "type": event_type, "data": data});
            if let Some(key) = key {
                body["ordering_key"] = json!(key);
            }
            let accepted = self.ringback().api.post("/v1/events", body).await.ok();
            let wants = |(_, one): &(usize, &Subscription)| {
                one.app == app && !one.deleted && matches(one.pattern, event_type)
            };
            let subscriptions = self.subscriptions.iter().enumerate();
            let wanted: BTreeSet<_> = subscriptions.filter(wants).map(|(at, _)| at).collect();
            assert_eq!(accepted["deliveries"], wanted.len(), "{accepted}");
            let id = accepted["id"].as_str().unwrap().to_owned();
            self.events.push(Event { id, key, wanted });
        }
    }

    fn change_a_mood(&mut self) {
        let receiver = self.rng.random_range(0..self.subscriptions.len());
        let moods = [Mood::Well, Mood::Moody, Mood::Down];
        self.books
            .set(receiver, moods[self.rng.random_range(0..moods.len())]);
    }

    /// Any that is there.
    fn pick(&mut self) -> usize {
        let there: Vec<usize> = (0..self.subscriptions.len())
            .filter(|at| !self.subscriptions[*at].deleted)
            .collect();
        there[self.rng.random_range(0..there.len())]
    }

    async fn turn(&mut self, action: &str) {
        let at = self.pick();
        let path = format!("/v1/subscriptions/{}/{action}", self.subscriptions[at].id);
        self.ringback().api.post(&path, json!({})).await.ok();
    }

    async fn cancel(&mut self) {
        let Some(delivery) = self.pick_delivery().await else {
            return;
        };
        let path = format!("/v1/deliveries/{delivery}/cancel");
        let answer = self.ringback().api.post(&path, json!({})).await;
        match answer.status {
            200 => drop(self.cancelled.insert(delivery)),
            // It was settled first.
            409 => {}
            other => panic!("{other} {}", answer.text),
        }
    }

    async fn replay(&mut self) {
        let Some(delivery) = self.pick_delivery().await else {
            return;
        };
        let path = format!("/v1/deliveries/{delivery}/replay");
        let answer = self.ringback().api.post(&path, json!({})).await;
        match answer.status {
            202 => {
                self.cancelled.remove(&delivery);
                *self.replays.entry(delivery).or_default() += 1;
            }
            // Its subscription is paused or deleted.
            409 => {}
            other => panic!("{other} {}", answer.text),
        }
    }

    /// Any delivery of the latest events.
    async fn pick_delivery(&mut self) -> Option<String> {
        let list = self
            .ringback()
            .api
            .get("/v1/deliveries?limit=50")
            .await
            .ok();
        let list = list["data"].as_array().unwrap();
        if list.is_empty() {
            return None;
        }
        let delivery = &list[self.rng.random_range(0..list.len())];
        Some(delivery["id"].as_str().unwrap().to_owned())
    }

    async fn delete_and_subscribe(&mut self) {
        let at = self.pick();
        let path = format!("/v1/subscriptions/{}", self.subscriptions[at].id);
        self.ringback().api.delete(&path).await.ok();
        self.subscriptions[at].deleted = true;
        self.subscribe().await;
    }

    async fn kill(&mut self, name: &str) {
        let ringback = self.ringback.take().unwrap();
        self.ringback = Some(ringback.killed_and_started_as(name).await);
        self.kills += 1;
    }

    /// Another node starts in its place, and has its lanes when the lease has ended.
    async fn take_over(&mut self) {
        self.kill(&format!("test-{}", self.kills)).await;
        self.ringback().later(Duration::from_secs(11)).await;
    }

    async fn let_time_pass(&mut self) {
        let share: f64 = self.rng.random::<f64>().powi(6);
        self.ringback().later(LONGEST.mul_f64(share)).await;
        // What is due by then has its chance to meet what comes next.
        for _ in 0..self.rng.random_range(0..50) {
            tokio::task::yield_now().await;
        }
    }

    /// All receivers work, nothing is paused, and time passes until nothing waits.
    pub(super) async fn heal(&mut self) {
        self.books.all_well();
        let there = self.subscriptions.iter().filter(|one| !one.deleted);
        for id in there.map(|one| one.id.clone()).collect::<Vec<_>>() {
            let path = format!("/v1/subscriptions/{id}/resume");
            self.ringback().api.post(&path, json!({})).await.ok();
        }
        for _ in 0..200 {
            if self.live().await.is_empty() {
                return;
            }
            self.ringback().later(Duration::from_secs(600)).await;
            self.come_to_rest().await;
        }
        panic!("this still waits: {:#?}", self.live().await);
    }

    async fn live(&self) -> Vec<Value> {
        let mut live = Vec::new();
        for status in ["pending", "retrying", "held"] {
            live.extend(
                self.ringback()
                    .api
                    .all(&format!("/v1/deliveries?status={status}"))
                    .await,
            );
        }
        live
    }

    /// Returns when nothing comes any more for a few looks.
    async fn come_to_rest(&self) {
        let mut quiet = 0;
        let mut before = self.books.count();
        while quiet < 3 {
            self.ringback().pass(Duration::from_millis(5));
            self.ringback().api.get("/readyz").await;
            let now = self.books.count();
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
    }

    /// Holds the books against what was done.
    pub(super) async fn judge(self) {
        let arrivals = self.books.close();
        let mut known = BTreeSet::new();
        for event in &self.events {
            let path = format!("/v1/deliveries?event={}", event.id);
            let deliveries = self.ringback().api.all(&path).await;
            assert_eq!(deliveries.len(), event.wanted.len(), "of {}", event.id);
            for delivery in &deliveries {
                let subscription = delivery["subscription"].as_str().unwrap();
                let at = self
                    .subscriptions
                    .iter()
                    .position(|one| one.id == subscription);
                let at = at.unwrap();
                assert!(event.wanted.contains(&at), "{delivery} was not wanted");
                known.insert((at, event.id.clone()));
                self.judge_delivery(delivery, &arrivals, (at, &event.id))
                    .await;
            }
        }
        self.judge_order(&arrivals);
        let phantoms = arrivals.keys().filter(|key| !known.contains(*key));
        assert_eq!(phantoms.collect::<Vec<_>>(), Vec::<&(usize, String)>::new());
        self.ringback.unwrap().finish().await;
    }

    async fn judge_delivery(
        &self,
        delivery: &Value,
        arrivals: &Arrivals,
        (subscription, event): (usize, &str),
    ) {
        let id = delivery["id"].as_str().unwrap();
        let came = arrivals.get(&(subscription, event.to_owned()));
        let came = came.map_or(&[][..], Vec::as_slice);
        let replays = self.replays.get(id).copied().unwrap_or_default();
        let told = format!("{delivery:#}\nreplayed {replays} times; came: {came:#?}");
        let taken = came.iter().filter(|one| one.is_taken()).count();

        match delivery["status"].as_str().unwrap() {
            "delivered" => assert!(taken > 0, "delivered to nobody: {told}"),
            "dead" => assert!(came.len() > SCHEDULE_S.len(), "given up early: {told}"),
            "cancelled" => assert!(
                self.cancelled.contains(id) || self.subscriptions[subscription].deleted,
                "cancelled by nobody: {told}"
            ),
            _ => panic!("still waiting: {told}"),
        }
        assert!(taken <= 1 + replays + self.kills, "taken too often: {told}");

        let attempts = self.ringback().api.attempts(delivery).await;
        let numbers: Vec<u64> = attempts
            .iter()
            .map(|one| one["number"].as_u64().unwrap())
            .collect();
        let expected: Vec<u64> = (1..).take(attempts.len()).collect();
        assert_eq!(numbers, expected, "{told}");
        assert_eq!(delivery["attempts"], attempts.len(), "{told}");
        assert!(
            attempts.len() <= came.len(),
            "recorded what never came: {told}"
        );
        assert!(
            came.len() <= attempts.len() + self.kills,
            "came unrecorded: {told}"
        );
        for one in &attempts {
            let (number, code) = (one["number"].as_u64(), one["status_code"].as_u64());
            let same = |arrival: &&super::books::Arrival| {
                Some(arrival.attempt) == number && arrival.answer.map(u64::from) == code
            };
            assert!(
                came.iter().any(|arrival| same(&arrival)),
                "{one} did not come so: {told}"
            );
        }
        if replays == 0 {
            self.judge_schedule(&attempts, &told);
        }
    }

    /// Where order is kept, what was never sent again by hand succeeded in the order of
    /// acceptance, key by key.
    fn judge_order(&self, arrivals: &Arrivals) {
        for (at, subscription) in self.subscriptions.iter().enumerate() {
            let mut last: BTreeMap<Option<&str>, (usize, &str)> = BTreeMap::new();
            for event in self.events.iter().filter(|_| subscription.keeps_order) {
                let delivery = format!(
                    "dlv_{}{}",
                    event.id.trim_start_matches("evt_"),
                    subscription.id.trim_start_matches("sub_")
                );
                let came = arrivals.get(&(at, event.id.clone()));
                let taken = came.and_then(|came| came.iter().find(|one| one.is_taken()));
                let Some(taken) = taken.filter(|_| !self.replays.contains_key(&delivery)) else {
                    continue;
                };
                let before = last.insert(event.key, (taken.number, &event.id));
                if let Some((number, id)) = before {
                    let told = format!("{} was taken before {id} at receiver {at}", event.id);
                    assert!(number < taken.number, "{told}: {arrivals:#?}");
                }
            }
        }
    }

    /// No attempt is early.
    fn judge_schedule(&self, attempts: &[Value], told: &str) {
        for (pair, wait_s) in attempts.windows(2).zip(SCHEDULE_S) {
            let [before, after] = pair else {
                return;
            };
            let waited = started_at(after) - started_at(before);
            let wait = Duration::from_secs_f64(wait_s);
            assert!(
                waited.to_std().unwrap() >= wait,
                "too early: {told}\n{attempts:#?}"
            );
        }
    }
}

fn started_at(attempt: &Value) -> DateTime<Utc> {
    attempt["started_at"].as_str().unwrap().parse().unwrap()
}

fn matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => event_type.starts_with(prefix),
        None => pattern == event_type,
    }
}
