//! `pg_ctl stop -m immediate` under a running service, which outlives it.

use std::{collections::BTreeSet, time::Duration};

use ringback_model::SubscriptionId;
use ringback_testkit::databases::PrivatePostgres;
use serde_json::json;
use tokio::time::Instant;

use super::late::Late;
use crate::harness::{
    Inbox, Outcome, Plan, Post, Server, Traffic, nothing_is_lost, undisturbed, unsettled,
};

const APP: &str = "crash";
const STOPS: usize = 5;
/// How soon a publish must be turned away.
const LONGEST_REFUSAL: Duration = Duration::from_secs(3);
/// How long a publish may take, whatever happens: as long as a statement.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);
/// How soon events are accepted again.
const RECOVERY: Duration = Duration::from_secs(5);
/// Results are committed without waiting for the disk: those of this long before a
/// crash may be lost, which is more than three times `wal_writer_delay`.
const UNFLUSHED: Duration = Duration::from_secs(1);

/// A time without a database.
struct Outage {
    /// From here on it was being stopped.
    began: Instant,
    /// From here on nobody answered.
    away: Instant,
    /// From here on it was being started.
    starting: Instant,
    /// From here on it answered.
    back: Instant,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres_loses_nothing_and_ends_no_process() {
    let _undisturbed = undisturbed().await;
    let cluster = PrivatePostgres::start();
    let mut server = Server::spawn(&cluster.url(), &[]);
    let inbox = Inbox::start().await;
    let subscriptions = subscribe(&server, &inbox).await;
    let late = Late::default();
    let waiting = late.clone();
    let prompt = subscriptions[0];
    inbox.script(move |sending| {
        let reply = ringback_testkit::receiver::Reply::status(204);
        if sending.delivery.subscription == prompt {
            reply
        } else {
            waiting.hold(reply)
        }
    });

    let traffic = Traffic::start(&Plan::new(APP, 1, 300), &[&server.api]);
    let mut outages = Vec::new();
    for _ in 0..STOPS {
        traffic.wait_for_more(200).await;
        outages.push(crash(&cluster, &traffic).await);
    }
    traffic.wait_for_more(200).await;
    let posts = traffic.stop().await;
    late.end();

    assert!(server.is_running());
    nothing_is_lost(&server.api, APP, &inbox, &posts, |_| subscriptions.clone()).await;
    answered_as_they_must(&posts, &outages);
    repeats_were_not_on_disk(&inbox, &outages);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(unsettled(&cluster.url()).await, BTreeSet::new());
}

async fn subscribe(server: &Server, inbox: &Inbox) -> Vec<SubscriptionId> {
    server.api.app(APP).await;
    let mut subscriptions = Vec::new();
    for _ in 0..2 {
        subscriptions.push(inbox.subscribe(&server.api, APP, json!({})).await);
    }
    subscriptions
}

/// Stops it at once, and starts it again when some have been turned away.
async fn crash(cluster: &PrivatePostgres, traffic: &Traffic) -> Outage {
    let began = Instant::now();
    tokio::task::block_in_place(|| cluster.stop_immediate());
    let away = Instant::now();
    traffic
        .wait_until("some to be turned away", |posts| {
            let turned_away =
                |post: &&Post| post.began > away && post.outcome == Outcome::Unavailable;
            posts.iter().filter(turned_away).count() >= 20
        })
        .await;
    let starting = Instant::now();
    tokio::task::block_in_place(|| cluster.restart());
    let back = Instant::now();
    Outage {
        began,
        away,
        starting,
        back,
    }
}

/// 202 only while there is a database, at once in any case, and soon again.
fn answered_as_they_must(posts: &[Post], outages: &[Outage]) {
    for post in posts {
        let longest = match post.outcome {
            Outcome::Accepted(_) => LONGEST_ANSWER,
            Outcome::Unavailable => LONGEST_REFUSAL,
            Outcome::Broken => panic!("{post:?}"),
        };
        assert!(post.took <= longest, "{post:?}");
        let ended = post.began + post.took;
        let within = |outage: &Outage| post.began > outage.away && ended < outage.starting;
        if outages.iter().any(within) {
            assert_eq!(post.outcome, Outcome::Unavailable, "{post:?}");
        }
    }
    for outage in outages {
        let accepted = posts.iter().filter(|post| post.accepted().is_some());
        let later = accepted
            .map(|post| post.began + post.took)
            .filter(|ended| *ended > outage.back);
        let recovered = later.min().unwrap() - outage.back;
        println!("accepted again after {recovered:?}");
        assert!(recovered <= RECOVERY, "{recovered:?}");
    }
}

/// Whatever came again had come shortly before a crash, or while there was no database.
fn repeats_were_not_on_disk(inbox: &Inbox, outages: &[Outage]) {
    let repeats = inbox.look(|books| books.repeats());
    for (sending, before, again) in &repeats {
        let excused = outages.iter().any(|outage| {
            before.at + UNFLUSHED > outage.began
                && before.at < outage.back
                && again.at > outage.began
        });
        assert!(excused, "{sending:?} came {before:?} and {again:?}");
    }
    println!("{} repeats in {} crashes", repeats.len(), outages.len());
}
