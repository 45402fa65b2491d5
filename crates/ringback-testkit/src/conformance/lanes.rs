//! Which node owns which lanes: one at a time.

use std::collections::BTreeSet;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use ringback_model::{Lane, NodeId};
use ringback_store::NodeLease;

use super::scene::twenty_at_once;
use crate::{TestStore, seed::START};

pub async fn a_process_that_comes_back_gets_its_number_at_once(store: &TestStore) {
    let first = join(store, "a", START).await;
    let other = join(store, "b", START).await;
    assert_ne!(first.node, other.node);
    take(store, &first, &[1, 2], START).await;

    let again = join(store, "a", START).await;
    assert_eq!(again.node, first.node);
    assert!(again.epoch > first.epoch);
    // Its lanes of the old epoch are nobody's, at once.
    assert!(owned(store, &again, START).await.is_empty());
    assert_eq!(take(store, &other, &[1, 2], START).await, [1, 2]);
    assert!(store.beat(&first, START).await.unwrap().is_none());
    assert!(take(store, &first, &[3], START).await.is_empty());
}

pub async fn a_lane_has_one_owner_while_its_lease_lasts(store: &TestStore) {
    let [a, b] = [join(store, "a", START).await, join(store, "b", START).await];
    assert_eq!(take(store, &a, &[0, 7, 255], START).await, [0, 7, 255]);
    assert_eq!(take(store, &b, &[7, 8], START).await, [8]);
    // Who owns it already may take it again.
    assert_eq!(owned(store, &a, START).await, [0, 7, 255]);

    let lapsed = after(NodeLease::LENGTH, 1);
    store.beat(&b, lapsed).await.unwrap().unwrap();
    assert_eq!(take(store, &b, &[7], lapsed).await, [7]);
    assert_eq!(owned(store, &b, lapsed).await, [7, 8]);
}

pub async fn a_beat_renews_the_lease(store: &TestStore) {
    let [a, b] = [join(store, "a", START).await, join(store, "b", START).await];
    take(store, &a, &[7], START).await;
    for seconds in [3, 6, 9, 12, 15] {
        let now = START + TimeDelta::seconds(seconds);
        let beat = store.beat(&a, now).await.unwrap().unwrap();
        assert_eq!(beat.owned, [Lane::new(7)]);
        store.beat(&b, now).await.unwrap().unwrap();
        assert!(take(store, &b, &[7], now).await.is_empty());
    }
}

pub async fn a_lease_that_only_expired_keeps_what_nobody_took(store: &TestStore) {
    let [a, b] = [join(store, "a", START).await, join(store, "b", START).await];
    take(store, &a, &[1, 2, 3], START).await;
    let lapsed = after(NodeLease::LENGTH, 1);
    store.beat(&b, lapsed).await.unwrap().unwrap();
    assert_eq!(take(store, &b, &[2], lapsed).await, [2]);
    let beat = store.beat(&a, lapsed).await.unwrap().unwrap();
    assert_eq!(beat.owned, [1, 3].map(Lane::new));
    // And keeps them again.
    assert!(take(store, &b, &[1], lapsed).await.is_empty());
}

pub async fn a_beat_names_the_living_that_want_lanes(store: &TestStore) {
    let mut dispatching = Vec::new();
    for name in ["c", "a", "b"] {
        dispatching.push(join(store, name, START).await);
    }
    let api = store.join("api", false, START).await.unwrap().unwrap();
    let mut expected: Vec<NodeId> = dispatching.iter().map(|lease| lease.node).collect();
    expected.sort();
    for lease in [dispatching[0], api] {
        let beat = store.beat(&lease, START).await.unwrap().unwrap();
        assert_eq!((beat.dispatching, beat.owned), (expected.clone(), vec![]));
    }

    // Two live on, one of them leaves.
    let lapsed = after(NodeLease::LENGTH, 1);
    store.beat(&dispatching[0], lapsed).await.unwrap().unwrap();
    store.beat(&dispatching[1], lapsed).await.unwrap().unwrap();
    store.leave(&dispatching[1], lapsed).await.unwrap();
    let beat = store.beat(&api, lapsed).await.unwrap().unwrap();
    assert_eq!(beat.dispatching, [dispatching[0].node]);
}

pub async fn what_is_given_back_can_be_taken_at_once(store: &TestStore) {
    let [a, b] = [join(store, "a", START).await, join(store, "b", START).await];
    take(store, &a, &[1, 2, 3, 4], START).await;
    store.release(&a, &[1, 2].map(Lane::new)).await.unwrap();
    assert_eq!(owned(store, &a, START).await, [3, 4]);
    assert_eq!(take(store, &b, &[1, 3], START).await, [1]);
    // What another owns cannot be given back.
    store.release(&a, &[Lane::new(1)]).await.unwrap();
    assert_eq!(owned(store, &b, START).await, [1]);
    store.leave(&a, START).await.unwrap();
    assert_eq!(take(store, &b, &[2, 3, 4], START).await, [2, 3, 4]);
}

pub async fn who_left_may_come_back(store: &TestStore) {
    let first = join(store, "a", START).await;
    store.leave(&first, START).await.unwrap();
    let again = join(store, "a", START).await;
    assert!(again.node != first.node || again.epoch > first.epoch);
    assert_eq!(take(store, &again, &[1], START).await, [1]);
    // An old lease that leaves late takes nothing with it.
    store.leave(&first, START).await.unwrap();
    assert_eq!(owned(store, &again, START).await, [1]);
}

pub async fn twenty_that_take_at_once_share_without_overlap(store: &TestStore) {
    let mut leases = Vec::new();
    for index in 0..20 {
        leases.push(join(store, &format!("node-{index}"), START).await);
    }
    let taken = twenty_at_once(|index| {
        let (store, lease) = (store.shared(), leases[index]);
        async move {
            let all: Vec<Lane> = Lane::all().collect();
            store.take(&lease, &all, START).await.unwrap()
        }
    })
    .await;
    let all: Vec<Lane> = taken.concat();
    assert_eq!(all.len(), Lane::COUNT);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), Lane::COUNT);
}

pub async fn twenty_that_join_at_once_get_twenty_numbers(store: &TestStore) {
    let leases = twenty_at_once(|index| {
        let store = store.shared();
        async move {
            store
                .join(&format!("node-{index}"), true, START)
                .await
                .unwrap()
                .unwrap()
        }
    })
    .await;
    let numbers: BTreeSet<NodeId> = leases.iter().map(|lease| lease.node).collect();
    assert_eq!(numbers.len(), 20);
}

pub async fn a_thousand_and_twenty_four_nodes_are_all_there_can_be(store: &TestStore) {
    let mut leases = Vec::new();
    for index in 0..NodeId::COUNT {
        leases.push(join(store, &format!("node-{index}"), START).await);
    }
    let numbers: BTreeSet<NodeId> = leases.iter().map(|lease| lease.node).collect();
    assert_eq!(numbers.len(), usize::from(NodeId::COUNT));
    assert!(store.join("late", true, START).await.unwrap().is_none());

    // A number whose lease is over is given away, and its old lease with it.
    let lapsed = after(NodeLease::LENGTH, 1);
    for lease in &leases[1..5] {
        store.beat(lease, lapsed).await.unwrap().unwrap();
    }
    let late = store.join("late", true, lapsed).await.unwrap().unwrap();
    let former = leases.iter().find(|lease| lease.node == late.node).unwrap();
    assert!(
        !leases[1..5].contains(former),
        "a live node's number was given away"
    );
    assert!(late.epoch > former.epoch);
    assert!(store.beat(former, lapsed).await.unwrap().is_none());
    assert!(store.beat(&late, lapsed).await.unwrap().is_some());
}

pub async fn the_databases_clock_goes_forward(store: &TestStore) {
    let first = store.now().await.unwrap();
    assert!(store.now().await.unwrap() >= first);
}

/// A node went by a clock that was set back since: who comes goes on from there, or its
/// leases would seem to last for ever and new ids would sort before old ones.
pub async fn a_clock_that_was_set_back_is_carried_on(store: &TestStore) {
    let before = store.now().await.unwrap();
    // Whole seconds: databases round what is finer.
    let ahead = before.trunc_subsecs(0) + TimeDelta::hours(1);
    let lease = join(store, "node-1", ahead).await;
    let carried_on = store.now().await.unwrap();
    assert!(carried_on >= ahead && carried_on < ahead + TimeDelta::minutes(10));
    // Also when it has left.
    store.leave(&lease, ahead).await.unwrap();
    assert!(store.now().await.unwrap() >= ahead - NodeLease::LENGTH);
    // A clock that was days ahead is a mistake that a restart mends.
    join(store, "node-2", before + TimeDelta::days(2)).await;
    assert!(store.now().await.unwrap() < before + TimeDelta::days(1));
}

async fn join(store: &TestStore, name: &str, now: DateTime<Utc>) -> NodeLease {
    store.join(name, true, now).await.unwrap().unwrap()
}

async fn take(store: &TestStore, lease: &NodeLease, lanes: &[u8], now: DateTime<Utc>) -> Vec<u8> {
    let lanes: Vec<Lane> = lanes.iter().copied().map(Lane::new).collect();
    let mut taken: Vec<u8> = store
        .take(lease, &lanes, now)
        .await
        .unwrap()
        .into_iter()
        .map(Lane::get)
        .collect();
    taken.sort();
    taken
}

async fn owned(store: &TestStore, lease: &NodeLease, now: DateTime<Utc>) -> Vec<u8> {
    let beat = store.beat(lease, now).await.unwrap().unwrap();
    beat.owned.into_iter().map(Lane::get).collect()
}

/// So many seconds after what began at the start has lasted `length`.
fn after(length: std::time::Duration, seconds: i64) -> DateTime<Utc> {
    START + length + TimeDelta::seconds(seconds)
}
