//! Several nodes on one PostgreSQL: they share the lanes, and take over from each other.

mod trial;

use std::{collections::BTreeSet, time::Duration};

use ringback_model::DeliveryId;
use ringback_testkit::receiver::Gate;
use tokio::time::Instant;

use self::trial::{SUBSCRIPTIONS, Trial};
use crate::harness::{Books, Sending, Server, Traffic, unsettled};

/// A lease lasts 10 s; the rest is for noticing, taking and sending.
const TAKEN_OVER: Duration = Duration::from_secs(15);
/// Nobody waits for a lease here, but for heartbeats, of 3 s each.
const MOVED: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_late_takes_its_share_and_gives_it_back_when_it_stops() {
    let mut trial = Trial::start().await;
    let first = trial.spawn("first", &[]);
    trial.subscribe(&first.api).await;
    trial.owned_by("first", 256..=256).await;
    let throughout = Traffic::start(&trial.plan, &[&first.api]);
    throughout.wait_for_more(300).await;

    let late = trial.spawn("late", &[]);
    trial.is_shared_by(["first", "late"]).await;
    let also = Traffic::start(&trial.plan, &[&first.api, &late.api]);
    also.wait_for_more(2_000).await;
    trial.posts.extend(also.stop().await);
    each_sends_its_share(&mut trial, &first, &late).await;

    let began = Instant::now();
    assert_eq!(late.terminate(), Some(0));
    trial.owned_by("first", 256..=256).await;
    let moved = began.elapsed();
    throughout.wait_for_more(300).await;
    trial.posts.extend(throughout.stop().await);

    trial.nothing_is_lost(&first.api).await;
    assert_eq!(trial.repeated(), BTreeSet::new());
    println!("{} events; lanes moved in {moved:?}", trial.posts.len());
    assert!(moved <= MOVED, "{moved:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nodes_lanes_are_served_within_15_seconds() {
    let mut trial = Trial::start().await;
    let [survivor, killed] = trial.spawn_pair(["survivor", "killed"]).await;
    let traffic = Traffic::start(&trial.plan, &[&survivor.api, &killed.api]);
    traffic.wait_for_more(500).await;

    let began = Instant::now();
    killed.kill();
    let in_flight = unsettled(trial.database_url()).await;
    trial.inbox.next_round();
    // What is accepted now for lanes that nobody serves has to wait.
    traffic.wait_for_more(500).await;
    trial.posts = traffic.stop().await;
    trial.all_come().await;
    let served = began.elapsed();

    trial.nothing_is_lost(&survivor.api).await;
    let repeats = trial.inbox.look(|books| books.repeats());
    for (sending, before, again) in &repeats {
        let excused = in_flight.contains(sending) && (before.round, again.round) == (0, 1);
        assert!(excused, "{sending:?} came {before:?} and {again:?}");
    }
    println!("all served after {served:?}; {} repeats", repeats.len());
    assert!(served <= TAKEN_OVER, "{served:?}");
}

/// What it had in flight is in flight from the lanes' new owner when it wakes. Its own
/// requests are answered 503, the new owner's 204: its failures must move nothing. They
/// are there before it wakes, so that it has room at once for what it still holds, and
/// what the new owner has sent meanwhile: it must send none of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_stopped_past_its_lease_repeats_only_what_it_had_in_flight() {
    let mut trial = Trial::start().await;
    trial.max_in_flight = 1;
    let [owner, paused] = trial.spawn_pair(["owner", "paused"]).await;
    let [failing, succeeding] = [(); 2].map(|()| Gate::shut());
    let its_own = trial.subscriptions_of("paused").await;
    trial.answer_behind(&failing, 503, {
        let its_own = its_own.clone();
        move |sending| its_own.contains(&sending.delivery.subscription)
    });
    trial.post_to_each(&owner.api).await;
    trial.all_come().await;
    let mut in_flight = trial.inbox.look(|books| books.of_round(0));
    in_flight.retain(|sending| its_own.contains(&sending.delivery.subscription));
    // What it accepts itself it holds by the time it answers, and there is no room for it.
    let held = trial.post_to_each(&paused.api).await;

    paused.signal("STOP");
    trial.inbox.next_round();
    // Half of it stays in flight from the new owner, which sends what is behind the rest.
    let halved: BTreeSet<_> = in_flight.iter().copied().step_by(2).collect();
    let mut held = trial.deliveries_of(&held);
    held.retain(|delivery| {
        let is_behind = |sending: &Sending| sending.delivery.subscription == delivery.subscription;
        its_own.contains(&delivery.subscription) && !halved.iter().any(is_behind)
    });
    trial.answer_behind(&succeeding, 204, move |sending| halved.contains(&sending));
    trial.owned_by("owner", 256..=256).await;
    trial.post_to_each(&owner.api).await;
    let again = |books: &Books| {
        let all_held = held.iter().all(|delivery| books.has(*delivery));
        all_held && books.of_round(1).is_superset(&in_flight)
    };
    trial
        .inbox
        .wait_until("what was in flight to come again, and what was held", again)
        .await;

    failing.open();
    paused.signal("CONT");
    // It has noticed, and holds lanes anew: what it had to say of the old ones is said.
    trial.owned_by("paused", 1..=256).await;
    succeeding.open();
    trial.post_to_each(&paused.api).await;

    trial.nothing_is_lost(&owner.api).await;
    assert_eq!(trial.repeated(), in_flight);
    let attempts = trial.inbox.look(|books| books.deliveries());
    let retried = attempts
        .iter()
        .filter(|(_, attempts)| **attempts > 1)
        .count();
    assert_eq!(retried, 0, "were tried again after they had been delivered");
    assert_eq!([owner, paused].map(Server::terminate), [Some(0); 2]);
    assert_eq!(unsettled(trial.database_url()).await, BTreeSet::new());
    println!("{} were in flight, and repeated", in_flight.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_only_accept_and_only_send_work_together() {
    let mut trial = Trial::start().await;
    let api = trial.spawn("api", &["--roles", "api"]);
    let dispatcher = trial.spawn("dispatcher", &["--roles", "dispatcher"]);
    trial.subscribe(&api.api).await;
    trial.owned_by("dispatcher", 256..=256).await;
    let traffic = Traffic::start(&trial.plan, &[&api.api]);
    traffic.wait_for_more(500).await;
    trial.posts = traffic.stop().await;

    trial.nothing_is_lost(&api.api).await;
    assert_eq!(trial.repeated(), BTreeSet::new());
    assert_eq!([api, dispatcher].map(Server::terminate), [Some(0); 2]);
}

/// While one is stopped, the other sends what is in its own lanes, and nothing else.
async fn each_sends_its_share(trial: &mut Trial, first: &Server, late: &Server) {
    let its_own = trial.subscriptions_of("late").await;
    let range = SUBSCRIPTIONS / 4..SUBSCRIPTIONS * 3 / 4;
    assert!(range.contains(&its_own.len()), "{its_own:?}");
    first.signal("STOP");
    let posts = trial.post_to_each(&late.api).await;
    let wanted = trial.deliveries_of(&posts);
    let is_its_own = |delivery: &DeliveryId| its_own.contains(&delivery.subscription);
    let (late_sends, first_sends): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_its_own);
    let all = |books: &Books| late_sends.iter().all(|delivery| books.has(*delivery));
    trial
        .inbox
        .wait_until("what the late node sends", all)
        .await;
    let none = |books: &Books| !first_sends.iter().any(|delivery| books.has(*delivery));
    assert!(
        trial.inbox.look(none),
        "it sent from lanes that are not its own"
    );
    first.signal("CONT");
}
