//! Nodes on one PostgreSQL, and a receiver of 64 subscriptions.

use std::{collections::BTreeSet, ops::RangeInclusive};

use ringback_model::{DeliveryId, Lane, SubscriptionId};
use ringback_testkit::{
    TestStore, fresh_postgres,
    receiver::{Gate, Reply},
};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;

use crate::harness::{self, Api, Inbox, Plan, Post, Sending, Server, connect, eventually, run};

const APP: &str = "nodes";
/// One for each event type, so that each event goes to one of them.
pub(super) const SUBSCRIPTIONS: usize = 64;
const EVENTS_PER_SECOND: u32 = 300;

pub(super) struct Trial {
    pub(super) inbox: Inbox,
    pub(super) plan: Plan,
    /// All that was posted.
    pub(super) posts: Vec<Post>,
    /// Of each subscription.
    pub(super) max_in_flight: u16,
    subscriptions: Vec<SubscriptionId>,
    key: String,
    /// To look at who owns what.
    database: Mutex<PgConnection>,
    // Dropped last: with it goes the database.
    store: TestStore,
}

impl Trial {
    pub(super) async fn start() -> Self {
        let store = fresh_postgres().await;
        let key = run(
            store.url(),
            &["keys", "create", "--scopes", "admin", "-o", "id"],
        );
        Self {
            inbox: Inbox::start().await,
            plan: Plan::new(APP, SUBSCRIPTIONS as u64, EVENTS_PER_SECOND),
            posts: Vec::new(),
            max_in_flight: 10,
            subscriptions: Vec::new(),
            key: key.trim().to_owned(),
            database: Mutex::new(PgConnection::connect(store.url()).await.unwrap()),
            store,
        }
    }

    pub(super) fn database_url(&self) -> &str {
        self.store.url()
    }

    /// Starts a node.
    pub(super) fn spawn(&self, name: &str, args: &[&str]) -> Server {
        let args = [&["--node-name", name], args].concat();
        Server::spawn_with_key(self.store.url(), &self.key, &args)
    }

    /// Starts two nodes, and waits until they share the lanes.
    pub(super) async fn spawn_pair(&mut self, names: [&str; 2]) -> [Server; 2] {
        let [first, second] = names.map(|name| self.spawn(name, &[]));
        self.subscribe(&first.api).await;
        self.is_shared_by(names).await;
        [first, second]
    }

    pub(super) async fn subscribe(&mut self, api: &Api) {
        api.app(APP).await;
        for index in 0..SUBSCRIPTIONS {
            let fields = json!({
                "event_types": [format!("t.{index}")],
                // Some receivers answer after many seconds.
                "timeout_s": 30,
                "max_in_flight": self.max_in_flight,
            });
            self.subscriptions
                .push(self.inbox.subscribe(api, APP, fields).await);
        }
    }

    /// Posts an event for each subscription; answers them.
    pub(super) async fn post_to_each(&mut self, api: &Api) -> Vec<Post> {
        let mut connection = connect(api).await.unwrap();
        let (mut posts, mut posted) = (Vec::new(), BTreeSet::new());
        while posted.len() < SUBSCRIPTIONS {
            let post = self.plan.post(&mut connection).await;
            assert!(post.accepted().is_some(), "{post:?}");
            posted.insert(post.number % SUBSCRIPTIONS as u64);
            posts.push(post);
        }
        self.posts.extend(&posts);
        posts
    }

    /// Answers what `condition` picks with this status, when `gate` is open, and all else
    /// at once.
    pub(super) fn answer_behind(
        &self,
        gate: &Gate,
        status: u16,
        condition: impl Fn(Sending) -> bool + Send + 'static,
    ) {
        let gate = gate.clone();
        self.inbox.script(move |sending| {
            if condition(sending) {
                Reply::status(status).behind(&gate)
            } else {
                Reply::status(204)
            }
        });
    }

    /// Waits until this node owns so many lanes.
    pub(super) async fn owned_by(&self, node: &str, counts: RangeInclusive<usize>) {
        eventually(&format!("{node} owns {counts:?} lanes"), async || {
            let count = self.lanes_of(node).await.len();
            if counts.contains(&count) {
                Ok(())
            } else {
                Err(count)
            }
        })
        .await;
    }

    /// Waits until both own about half of the lanes, and together all.
    pub(super) async fn is_shared_by(&self, nodes: [&str; 2]) {
        eventually(&format!("{nodes:?} share the lanes"), async || {
            let [one, other] = nodes;
            let counts = [
                self.lanes_of(one).await.len(),
                self.lanes_of(other).await.len(),
            ];
            let shared = counts.iter().sum::<usize>() == Lane::COUNT
                && counts.iter().all(|count| (90..=166).contains(count));
            if shared { Ok(()) } else { Err(counts) }
        })
        .await;
    }

    /// The subscriptions whose lanes this node owns.
    pub(super) async fn subscriptions_of(&self, node: &str) -> BTreeSet<SubscriptionId> {
        let lanes = self.lanes_of(node).await;
        let mut subscriptions: BTreeSet<_> = self.subscriptions.iter().copied().collect();
        subscriptions.retain(|subscription| lanes.contains(&Lane::of(*subscription)));
        subscriptions
    }

    /// The deliveries that were made of these.
    pub(super) fn deliveries_of(&self, posts: &[Post]) -> Vec<DeliveryId> {
        harness::deliveries_of(posts, |number| self.wants(number))
    }

    /// Waits until everything that was accepted has come.
    pub(super) async fn all_come(&self) {
        harness::all_come(&self.inbox, &self.posts, |number| self.wants(number)).await;
    }

    /// See [`harness::nothing_is_lost`].
    pub(super) async fn nothing_is_lost(&self, api: &Api) {
        let wants = |number| self.wants(number);
        harness::nothing_is_lost(api, APP, &self.inbox, &self.posts, wants).await;
    }

    /// What came more than once, which must be only twice.
    pub(super) fn repeated(&self) -> BTreeSet<Sending> {
        let mut repeated = BTreeSet::new();
        for (sending, before, again) in self.inbox.look(|books| books.repeats()) {
            assert!(
                repeated.insert(sending),
                "{sending:?} came {before:?} and {again:?}, and before"
            );
        }
        repeated
    }

    fn wants(&self, number: u64) -> Vec<SubscriptionId> {
        let count = self.subscriptions.len() as u64;
        vec![self.subscriptions[usize::try_from(number % count).unwrap()]]
    }

    async fn lanes_of(&self, node: &str) -> BTreeSet<Lane> {
        let lanes: Vec<i16> = sqlx::query_scalar(
            "select lane from ringback.lanes l \
             join ringback.nodes n on n.id = l.owner and n.epoch = l.owner_epoch \
             where n.name = $1",
        )
        .bind(node)
        .fetch_all(&mut *self.database.lock().await)
        .await
        .unwrap();
        let lane = |number: i16| Lane::new(u8::try_from(number).unwrap());
        lanes.into_iter().map(lane).collect()
    }
}
