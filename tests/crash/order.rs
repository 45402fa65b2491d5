//! Order per key, over a `kill -9` and two accepting nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ringback_model::EventId;
use ringback_testkit::{
    fresh_postgres,
    receiver::{Receiver, Reply},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Api, Server, eventually, run, undisturbed};

const APP: &str = "order";
const KEYS: u64 = 100;
/// Each posts one event of every key.
const BATCHES: u64 = 100;
/// Its first event is refused until all other keys are done.
const BLOCKED: u64 = 0;

#[tokio::test(flavor = "multi_thread")]
async fn order_outlives_a_kill_and_no_key_waits_for_another_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("ringback.db").display());
    order_outlives_a_kill(&url, ["same", "same"]).await;
}

/// The lanes of the one that was killed are free when its lease has ended.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_takes_over_in_order_and_no_key_waits_for_another_on_postgres() {
    let store = fresh_postgres().await;
    order_outlives_a_kill(store.url(), ["first", "second"]).await;
}

async fn order_outlives_a_kill(database_url: &str, nodes: [&str; 2]) {
    let _undisturbed = undisturbed().await;
    let began = Instant::now();
    let first = Server::spawn(database_url, &["--node-name", nodes[0]]);
    let key = first.api.key().to_owned();
    let inbox = Inbox::start().await;
    inbox.subscribe(&first.api).await;

    let mut accepted = BTreeSet::new();
    for number in 0..BATCHES / 2 {
        accepted.extend(post_batch(&first.api, number).await.unwrap());
    }
    // While it still accepts, and has not sent half of it.
    let api = first.api.clone();
    let broken = tokio::spawn(async move {
        let mut accepted = BTreeSet::new();
        for number in BATCHES / 2..BATCHES {
            match post_batch(&api, number).await {
                Some(events) => accepted.extend(events),
                None => return (accepted, number),
            }
        }
        (accepted, BATCHES)
    });
    inbox.wait_for(2_000).await;
    first.kill();
    let (more, next) = broken.await.unwrap();
    accepted.extend(more);

    let second = Server::spawn_with_key(database_url, &key, &["--node-name", nodes[1]]);
    for number in next..BATCHES {
        accepted.extend(post_batch(&second.api, number).await.unwrap());
    }
    let others = |seen: &[Seen]| done(seen, &accepted, |key| key != BLOCKED);
    inbox.wait_until("all other keys are done", others).await;
    assert!(
        !inbox.look(|seen| seen.iter().any(|one| one.key == BLOCKED && one.delivered)),
        "the blocked key was not blocked"
    );
    inbox.released.store(true, Ordering::SeqCst);
    inbox
        .wait_until("the blocked key is done", |seen| {
            done(seen, &accepted, |_| true)
        })
        .await;

    inbox.look(assert_in_order);
    let refused = inbox.look(|seen| seen.iter().filter(|one| !one.delivered).count());
    let repeats = inbox.look(repeats);
    println!(
        "{} accepted, {refused} refused, {repeats} repeated; {:?}",
        accepted.len(),
        began.elapsed()
    );
    assert!(refused as u64 > KEYS * BATCHES / 10, "{refused} refused");
    assert!(repeats <= KEYS as usize, "{repeats} repeats");
    assert_eq!(second.terminate(), Some(0));
}

/// A publisher that waits for each answer is served in order, whichever node it asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_alternates_between_two_nodes_is_served_in_order() {
    let store = fresh_postgres().await;
    let key = run(
        store.url(),
        &["keys", "create", "--scopes", "admin", "-o", "id"],
    );
    let spawn = |name| Server::spawn_with_key(store.url(), key.trim(), &["--node-name", name]);
    let nodes = ["one", "other"].map(spawn);
    let inbox = Inbox::start().await;
    inbox.released.store(true, Ordering::SeqCst);
    inbox.subscribe(&nodes[0].api).await;
    let mut posted = Vec::new();
    for number in 0..300 {
        let event = event(number, number % 3);
        let answer = nodes[(number % 2) as usize]
            .api
            .post("/v1/events", event)
            .await;
        posted.push((id(&answer.ok()), number));
    }
    let accepted: BTreeSet<EventId> = posted.iter().map(|(event, _)| *event).collect();
    inbox
        .wait_until("all are done", |seen| done(seen, &accepted, |_| true))
        .await;
    for key in 0..3 {
        let came: Vec<u64> = inbox.look(|seen| {
            let delivered = seen.iter().filter(|one| one.delivered && one.key == key);
            delivered.map(|one| one.number).collect()
        });
        assert!(came.is_sorted(), "{came:?}");
    }
    nodes.into_iter().for_each(|node| {
        node.terminate();
    });
}

fn event(number: u64, key: u64) -> Value {
    json!({"app": APP, "type": "t", "ordering_key": format!("key-{key}"),
        "data": {"n": number, "key": key}})
}

/// Posts one event of each key; `None` if nobody answers.
async fn post_batch(api: &Api, number: u64) -> Option<Vec<EventId>> {
    let events: Vec<_> = (0..KEYS).map(|key| event(number, key)).collect();
    let body = json!({"events": events}).to_string().into_bytes();
    let answer = api
        .try_send("POST", "/v1/events/batch", &[], Some(body))
        .await?;
    let answer = answer.ok();
    Some(answer["data"].as_array().unwrap().iter().map(id).collect())
}

fn id(accepted: &Value) -> EventId {
    accepted["id"].as_str().unwrap().parse().unwrap()
}

/// One request.
#[derive(Clone, Copy)]
struct Seen {
    event: EventId,
    number: u64,
    key: u64,
    delivered: bool,
}

/// Refuses a fifth of all first attempts, and the first event of one key.
struct Inbox {
    receiver: Receiver,
    seen: Arc<Mutex<Vec<Seen>>>,
    released: Arc<AtomicBool>,
}

impl Inbox {
    async fn start() -> Self {
        let inbox = Self {
            receiver: Receiver::start().await,
            seen: Arc::default(),
            released: Arc::default(),
        };
        let (seen, released) = (Arc::clone(&inbox.seen), Arc::clone(&inbox.released));
        inbox.receiver.script(move |request| {
            let data = &request.json()["data"];
            let event: EventId = request.webhook_id().parse().unwrap();
            let (number, key) = (data["n"].as_u64().unwrap(), data["key"].as_u64().unwrap());
            let is_first = request.header("ringback-attempt") == Some("1");
            let blocked = key == BLOCKED && !released.load(Ordering::SeqCst);
            let refused = blocked || (is_first && (number + key) % 5 == 0);
            seen.lock().unwrap().push(Seen {
                event,
                number,
                key,
                delivered: !refused,
            });
            Reply::status(if refused { 500 } else { 204 })
        });
        inbox
    }

    async fn subscribe(&self, api: &Api) {
        api.app(APP).await;
        // Soon for most, and for the blocked one longer than the rest takes.
        let mut waits = vec![0.6; 99];
        waits[0] = 0.2;
        let fields = json!({"ordering": "fifo", "max_in_flight": 100,
            "retry": {"schedule_s": waits}});
        api.subscribe(APP, &self.receiver.url("/"), fields).await;
    }

    fn look<T>(&self, look: impl FnOnce(&[Seen]) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    async fn wait_for(&self, count: usize) {
        self.wait_until("so many requests", |seen| seen.len() >= count)
            .await;
    }

    async fn wait_until(&self, what: &str, is_so: impl Fn(&[Seen]) -> bool) {
        eventually(what, async || {
            // Looked at again and again: it need not be at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.look(|seen| if is_so(seen) { Ok(()) } else { Err(seen.len()) })
        })
        .await;
    }
}

/// Whether all that was accepted of these keys was delivered.
fn done(seen: &[Seen], accepted: &BTreeSet<EventId>, of: impl Fn(u64) -> bool) -> bool {
    let delivered: BTreeMap<EventId, u64> = seen
        .iter()
        .filter(|one| one.delivered)
        .map(|one| (one.event, one.key))
        .collect();
    let blocked: usize = if of(BLOCKED) {
        0
    } else {
        accepted.len() / KEYS as usize
    };
    let missing = accepted
        .iter()
        .filter(|event| !delivered.contains_key(event));
    missing.count() <= blocked
}

/// Of each key, nothing was sent after what follows it: not even again.
fn assert_in_order(seen: &[Seen]) {
    for key in 0..KEYS {
        let events: Vec<_> = seen
            .iter()
            .filter(|one| one.key == key)
            .map(|one| (one.event, one.number))
            .collect();
        assert!(events.is_sorted(), "key {key}: {events:?}");
    }
}

/// How many deliveries were sent again although they had been delivered.
fn repeats(seen: &[Seen]) -> usize {
    let delivered: Vec<_> = seen.iter().filter(|one| one.delivered).collect();
    let different: BTreeSet<_> = delivered.iter().map(|one| one.event).collect();
    delivered.len() - different.len()
}
