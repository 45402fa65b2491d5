//! Clients that go away in the middle of a publish, ten thousand of them (R16): a
//! dropped request must leave nothing behind, least of all an open transaction.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ringback_model::SubscriptionId;
use ringback_testkit::{databases::PrivatePostgres, fresh_sqlite};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::harness::{
    Inbox, Outcome, Plan, Post, Server, connect, nothing_is_lost, server_address, undisturbed,
};

const APP: &str = "storm";
const ABORTS: usize = 10_000;
/// How many are under way at once.
const AT_ONCE: usize = 64;
/// Publishes after the storm.
const AFTERWARDS: usize = 1_000;
/// A session that was left in a transaction is one that idles in it for longer.
const LEFT: Duration = Duration::from_secs(1);

/// After what a client resets its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Head,
    HalfOfTheBody,
    /// All of the body and this much time, so that it is being handled.
    Body(Duration),
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_leave_sqlite_working() {
    let _undisturbed = undisturbed().await;
    let store = fresh_sqlite().await;
    let trial = Trial::start(store.url()).await;
    let posts = storm(&trial.server, &trial.plan).await;
    trial.works_afterwards(posts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_leave_no_transaction_open_on_postgres() {
    let _undisturbed = undisturbed().await;
    let cluster = PrivatePostgres::start();
    let trial = Trial::start(&cluster.url()).await;
    let posts = storm(&trial.server, &trial.plan).await;
    // Before anything else is posted: the next transaction on a session would end the one
    // that was left open.
    sleep(LEFT).await;
    assert_none_is_left_open(&cluster).await;
    trial.works_afterwards(posts).await;
    assert_none_is_left_open(&cluster).await;
    let log = cluster.log();
    let failed = log
        .lines()
        .find(|line| line.contains("current transaction is aborted"));
    assert_eq!(failed, None, "25P02");
}

/// Asserts that no session idles in a transaction that is older than [`LEFT`].
async fn assert_none_is_left_open(cluster: &PrivatePostgres) {
    let mut connection = PgConnection::connect(&cluster.url()).await.unwrap();
    let left: Vec<String> = sqlx::query_scalar(
        "select left(btrim(query, e' \\n'), 60) from pg_stat_activity \
         where state like 'idle in transaction%' \
         and extract(epoch from now() - xact_start)::float8 > $1",
    )
    .bind(LEFT.as_secs_f64())
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(left.is_empty(), "left in a transaction, after {left:?}");
}

struct Trial {
    server: Server,
    inbox: Inbox,
    subscription: SubscriptionId,
    plan: Plan,
}

impl Trial {
    async fn start(database_url: &str) -> Self {
        let server = Server::spawn(database_url, &[]);
        let inbox = Inbox::start().await;
        server.api.app(APP).await;
        let fields = json!({"max_in_flight": 100});
        let subscription = inbox.subscribe(&server.api, APP, fields).await;
        let plan = Plan::new(APP, 1, 1);
        Self {
            server,
            inbox,
            subscription,
            plan,
        }
    }

    /// Every publish is accepted and delivered, and what was cut off is whole or nothing.
    ///
    /// - `posts`: what was cut off, and may have been accepted.
    async fn works_afterwards(self, mut posts: Vec<Post>) {
        let mut connection = connect(&self.server.api).await.unwrap();
        for _ in 0..AFTERWARDS {
            let post = self.plan.post(&mut connection).await;
            assert!(post.accepted().is_some(), "{post:?}");
            posts.push(post);
        }
        let wants = |_| vec![self.subscription];
        nothing_is_lost(&self.server.api, APP, &self.inbox, &posts, wants).await;
        assert_eq!(self.inbox.look(|books| books.repeats().len()), 0);
        let came = self.inbox.look(|books| books.deliveries().len());
        println!("{} were cut off and accepted", came - AFTERWARDS);
        let log = self.server.log();
        let errors: Vec<_> = log.iter().filter(|line| line.contains("ERROR")).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        assert_eq!(self.server.terminate(), Some(0));
    }
}

/// Answers what may have been accepted: only what was sent whole.
async fn storm(server: &Server, plan: &Plan) -> Vec<Post> {
    let index = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE {
        let client = Client {
            address: server_address(&server.api),
            key: server.api.key().to_owned(),
            plan: plan.clone(),
        };
        let index = Arc::clone(&index);
        clients.spawn(async move {
            let mut whole = Vec::new();
            while let Some(cut) = cut(index.fetch_add(1, Ordering::Relaxed)) {
                let post = client.post_and_reset(cut).await.unwrap();
                whole.extend(matches!(cut, Cut::Body(_)).then_some(post));
            }
            whole
        });
    }
    clients.join_all().await.concat()
}

/// Where the n-th is cut, while there are more to come.
fn cut(index: usize) -> Option<Cut> {
    let kinds = [
        Cut::Head,
        Cut::HalfOfTheBody,
        // From before the body is read to after the event is stored.
        Cut::Body(Duration::from_micros(index as u64 % 17 * 300)),
    ];
    (index < ABORTS).then(|| kinds[index % kinds.len()])
}

struct Client {
    address: SocketAddr,
    key: String,
    plan: Plan,
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "a test talks to its own service")]
    async fn post_and_reset(&self, cut: Cut) -> io::Result<Post> {
        let (number, body) = self.plan.next();
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            self.key,
            body.len()
        );
        let sent = match cut {
            Cut::Head => 0,
            Cut::HalfOfTheBody => body.len() / 2,
            Cut::Body(_) => body.len(),
        };
        let began = Instant::now();
        let mut stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        stream
            .write_all(&[head.as_bytes(), &body.as_bytes()[..sent]].concat())
            .await?;
        if let Cut::Body(wait) = cut {
            sleep(wait).await;
        }
        // Dropped now, it sends RST instead of FIN.
        stream.set_zero_linger()?;
        Ok(Post {
            number,
            began,
            took: began.elapsed(),
            outcome: Outcome::Broken,
        })
    }
}
