//! Posts events on several connections at a steady rate, and remembers what became of
//! each.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ringback_model::EventId;
use ringback_testkit::load::{Answer, Connection};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Api, PATIENCE};

/// How many connections post to one server.
const CONNECTIONS: u32 = 8;

/// What to post. Clones continue the same numbers.
#[derive(Clone)]
pub(crate) struct Plan {
    /// The application.
    pub(crate) app: &'static str,
    /// How many event types take turns: `t.0`, `t.1`, …
    pub(crate) types: u64,
    /// On all of them.
    pub(crate) events_per_second: u32,
    next: Arc<AtomicU64>,
}

/// An event that was posted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Post {
    /// Tells it from all others; also in its `id` and `data`.
    pub(crate) number: u64,
    /// When it was sent.
    pub(crate) began: Instant,
    /// How long the answer took.
    pub(crate) took: Duration,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

/// What became of an event that was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 202, under this id.
    Accepted(EventId),
    /// 503: it may be stored, or not.
    Unavailable,
    /// No answer: likewise.
    Broken,
}

/// Posts until it is stopped. A connection that breaks ends.
pub(crate) struct Traffic {
    stop: CancellationToken,
    posters: JoinSet<()>,
    posts: Posts,
}

#[derive(Clone, Default)]
struct Posts {
    all: Arc<Mutex<Vec<Post>>>,
    count: watch::Sender<usize>,
}

impl Plan {
    pub(crate) fn new(app: &'static str, types: u64, events_per_second: u32) -> Self {
        Self {
            app,
            types,
            events_per_second,
            next: Arc::default(),
        }
    }

    /// Posts the next event.
    pub(crate) async fn post(&self, connection: &mut Connection) -> Post {
        let (number, body) = self.next();
        let began = Instant::now();
        let answer = connection.send("POST", "/v1/events", body.as_bytes()).await;
        let outcome = answer.map_or(Outcome::Broken, |answer| outcome(&answer));
        Post {
            number,
            began,
            took: began.elapsed(),
            outcome,
        }
    }

    /// The number of the next event, and its body.
    pub(crate) fn next(&self) -> (u64, String) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (app, event_type, data) = (self.app, number % self.types, data(number));
        let body = format!(
            r#"{{"app":"{app}","type":"t.{event_type}","id":"own-{number}","data":{data}}}"#
        );
        (number, body)
    }
}

/// What an event of this number carries.
pub(crate) fn data(number: u64) -> String {
    let text = "x".repeat(usize::try_from(number % 300).unwrap_or_default());
    format!(r#"{{"n":{number},"text":"{text}"}}"#)
}

impl Post {
    /// Its id, if it was accepted.
    pub(crate) fn accepted(&self) -> Option<EventId> {
        match self.outcome {
            Outcome::Accepted(id) => Some(id),
            Outcome::Unavailable | Outcome::Broken => None,
        }
    }
}

impl Traffic {
    /// Posts to these servers at once.
    pub(crate) fn start(plan: &Plan, to: &[&Api]) -> Self {
        let stop = CancellationToken::new();
        let posts = Posts::default();
        let connections = CONNECTIONS * u32::try_from(to.len()).unwrap();
        let pause = Duration::from_secs(1) * connections / plan.events_per_second;
        let mut posters = JoinSet::new();
        for api in to {
            for _ in 0..CONNECTIONS {
                let poster = Poster {
                    plan: plan.clone(),
                    api: Api::clone(api),
                    posts: posts.clone(),
                };
                posters.spawn(poster.run(pause, stop.clone()));
            }
        }
        Self {
            stop,
            posters,
            posts,
        }
    }

    /// Waits until what was posted so far fulfils `condition`.
    pub(crate) async fn wait_until(&self, what: &str, condition: impl Fn(&[Post]) -> bool) {
        let mut count = self.posts.count.subscribe();
        let fulfilled = count.wait_for(|_| condition(&self.posts.all.lock().unwrap()));
        let fulfilled = timeout(PATIENCE, fulfilled).await;
        assert!(
            fulfilled.is_ok(),
            "waited for {what} after {} posts",
            self.posts.all.lock().unwrap().len()
        );
    }

    /// Waits until this many more were accepted.
    pub(crate) async fn wait_for_more(&self, count: usize) {
        let accepted = |posts: &[Post]| posts.iter().filter_map(Post::accepted).count();
        let before = accepted(&self.posts.all.lock().unwrap());
        self.wait_until(&format!("{count} more to be accepted"), |posts| {
            accepted(posts) >= before + count
        })
        .await;
    }

    /// Lets what is under way end; answers all that was posted.
    pub(crate) async fn stop(self) -> Vec<Post> {
        self.stop.cancel();
        self.broken().await
    }

    /// Waits until all connections are broken; answers all that was posted.
    pub(crate) async fn broken(self) -> Vec<Post> {
        let ended = timeout(PATIENCE, self.posters.join_all()).await;
        ended.expect("a post has no answer, and no end");
        std::mem::take(&mut *self.posts.all.lock().unwrap())
    }
}

struct Poster {
    plan: Plan,
    api: Api,
    posts: Posts,
}

impl Poster {
    async fn run(self, pause: Duration, stop: CancellationToken) {
        let Ok(mut connection) = connect(&self.api).await else {
            return;
        };
        // What was missed is made up for, so that the rate is kept.
        let mut due = interval(pause);
        while stop.run_until_cancelled(due.tick()).await.is_some() {
            let post = self.plan.post(&mut connection).await;
            self.posts.all.lock().unwrap().push(post);
            self.posts.count.send_modify(|count| *count += 1);
            if post.outcome == Outcome::Broken {
                return;
            }
        }
    }
}

/// A connection of one's own to an API.
pub(crate) async fn connect(api: &Api) -> std::io::Result<Connection> {
    Connection::open(server_address(api), api.key()).await
}

/// Where an API listens.
pub(crate) fn server_address(api: &Api) -> SocketAddr {
    let address = api.base().strip_prefix("http://").unwrap_or_default();
    address.parse().unwrap()
}

fn outcome(answer: &Answer) -> Outcome {
    match answer.status {
        202 => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            Outcome::Accepted(body["id"].as_str().unwrap().parse().unwrap())
        }
        503 => Outcome::Unavailable,
        status => panic!("{status} {}", String::from_utf8_lossy(&answer.body)),
    }
}
