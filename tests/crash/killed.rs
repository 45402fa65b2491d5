//! `kill -9`, again and again, on one database.

use std::{collections::BTreeSet, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use ringback_model::{EventId, SubscriptionId};
use ringback_testkit::{fresh_postgres, receiver::Reply};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::late::Late;
use crate::harness::{
    Inbox, Outcome, Plan, Post, Sending, Server, Traffic, nothing_is_lost, undisturbed, unsettled,
};

const APP: &str = "crash";
/// Kills that found something unsettled.
const KILLS: usize = 20;
/// Events per second that producers aim at. What they reach is the machine's: each kill
/// needs events before it, however long they take.
const AIM: u32 = 400;
/// Events that are accepted between two kills, at least.
const ACCEPTED: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_loses_nothing_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ringback.db");
    loses_nothing(&format!("sqlite:{}", file.display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_loses_nothing_on_postgres() {
    let store = fresh_postgres().await;
    loses_nothing(store.url()).await;
}

async fn loses_nothing(database_url: &str) {
    let _undisturbed = undisturbed().await;
    let mut random = seeded();
    let mut trial = Trial::start(database_url).await;
    while trial.counted() < KILLS {
        assert!(
            trial.kills.len() < 2 * KILLS,
            "kills find nothing unsettled"
        );
        let life = Duration::from_micros(random.random_range(200_000..900_000));
        trial.live_and_die(life).await;
    }
    trial.end().await;
}

/// Random numbers by a seed that is printed; `RINGBACK_TEST_SEED` repeats them.
fn seeded() -> StdRng {
    let given = std::env::var("RINGBACK_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("RINGBACK_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

struct Trial<'a> {
    database_url: &'a str,
    key: String,
    inbox: Inbox,
    subscriptions: Vec<SubscriptionId>,
    late: Late,
    plan: Plan,
    posts: Vec<Post>,
    /// How long events were posted.
    posting: Duration,
    /// Per kill, in the same order as the inbox's rounds: what was not settled.
    kills: Vec<BTreeSet<Sending>>,
    /// The one that runs next.
    server: Option<Server>,
}

impl<'a> Trial<'a> {
    /// Starts a service with two subscriptions: one whose receiver is prompt, and one
    /// whose is late, and refuses some first attempts.
    async fn start(database_url: &'a str) -> Self {
        let server = Server::spawn(database_url, &NAMED);
        let inbox = Inbox::start().await;
        server.api.app(APP).await;
        let prompt = inbox.subscribe(&server.api, APP, json!({})).await;
        let soon = json!({"retry": {"schedule_s": [0.1, 0.1, 0.1, 0.1]}});
        let fickle = inbox.subscribe(&server.api, APP, soon).await;
        let late = Late::default();
        let waiting = late.clone();
        inbox.script(move |sending| {
            let Sending { delivery, attempt } = sending;
            if delivery.subscription == prompt {
                return Reply::status(204);
            }
            let refused = attempt == 1 && is_refused_once(delivery.event);
            // Not 503, which would ask for fewer at once: many are to be under way.
            waiting.hold(Reply::status(if refused { 500 } else { 204 }))
        });
        Self {
            database_url,
            key: server.api.key().to_owned(),
            inbox,
            subscriptions: vec![prompt, fickle],
            late,
            plan: Plan::new(APP, 1, AIM),
            posts: Vec::new(),
            posting: Duration::ZERO,
            kills: Vec::new(),
            server: Some(server),
        }
    }

    fn counted(&self) -> usize {
        self.kills
            .iter()
            .filter(|unsettled| !unsettled.is_empty())
            .count()
    }

    /// Posts to a service, and kills it when it answers, after `life`.
    async fn live_and_die(&mut self, life: Duration) {
        let server = self.server.take().unwrap_or_else(|| self.restart());
        let began = Instant::now();
        let traffic = Traffic::start(&self.plan, &[&server.api]);
        // The moment is what is being tried out; nothing is concluded from it.
        tokio::join!(sleep(life), traffic.wait_for_more(ACCEPTED));
        // With an answer just given: what it promised must be true already.
        traffic.wait_for_more(1).await;
        server.kill();
        self.posting += began.elapsed();
        self.kills.push(unsettled(self.database_url).await);
        self.posts.extend(traffic.broken().await);
        self.inbox.next_round();
    }

    fn restart(&self) -> Server {
        Server::spawn_with_key(self.database_url, &self.key, &NAMED)
    }

    /// Starts it once more, and looks at all that came.
    async fn end(self) {
        let server = self.restart();
        self.late.end();
        let subscriptions = self.subscriptions.clone();
        nothing_is_lost(&server.api, APP, &self.inbox, &self.posts, |_| {
            subscriptions.clone()
        })
        .await;
        assert_eq!(server.terminate(), Some(0));
        assert_eq!(unsettled(self.database_url).await, BTreeSet::new());
        self.repeats_were_under_way();
        self.sent_no_more_than_refused();
        let accepted = self.posts.iter().filter_map(Post::accepted).count();
        let broken = self
            .posts
            .iter()
            .filter(|post| post.outcome == Outcome::Broken)
            .count();
        let offered = self.posts.len() as f64 / self.posting.as_secs_f64();
        println!("{offered:.0} events/s offered; {accepted} accepted, {broken} without an answer");
    }

    /// Whatever came again had been sent in the life before, and was not settled when
    /// that ended.
    fn repeats_were_under_way(&self) {
        let repeats = self.inbox.look(|books| books.repeats());
        let mut in_flight = 0;
        for (round, unsettled) in self.kills.iter().enumerate() {
            let sent = self.inbox.look(|books| books.of_round(round));
            in_flight += sent.intersection(unsettled).count();
        }
        for (sending, before, again) in &repeats {
            let excused = before.round < again.round && self.kills[before.round].contains(sending);
            assert!(
                excused,
                "{sending:?} came in life {before:?}, and again in {again:?}"
            );
        }
        let waiting: usize = self.kills.iter().map(BTreeSet::len).sum();
        println!(
            "{} kills found {waiting} unsettled, {in_flight} of them sent; {} repeats",
            self.counted(),
            repeats.len()
        );
        assert!(repeats.len() <= in_flight);
    }

    /// No attempt followed one that was answered with success.
    fn sent_no_more_than_refused(&self) {
        let fickle = self.subscriptions[1];
        for (delivery, attempts) in self.inbox.look(|books| books.deliveries()) {
            let refused = delivery.subscription == fickle && is_refused_once(delivery.event);
            assert_eq!(attempts, if refused { 2 } else { 1 }, "{delivery}");
        }
    }
}

/// The same name each time, so that it need not wait for its own lease.
const NAMED: [&str; 2] = ["--node-name", "crash"];

/// A quarter of all events, whichever they are.
fn is_refused_once(event: EventId) -> bool {
    // Ids hold the time: their last bits alone are nearly always the same.
    event
        .get()
        .unsigned_abs()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        >> 62
        == 0
}
