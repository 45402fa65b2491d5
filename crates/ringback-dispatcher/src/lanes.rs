//! Which lanes are ours, to be taken, or to be given up.
//!
//! The share of each node follows from the list of live nodes alone, so nobody has
//! to hand out lanes. Pure: says what to ask of the store, and hears what it did.

use std::array;

use ringback_model::{Lane, NodeId};
use ringback_store::{Beat, NodeLease};

/// The lanes that `node` should own, by rendezvous hashing: every node makes the same
/// division, and when one comes or goes, only its own lanes move.
///
/// - `nodes`: the live ones.
pub(crate) fn share(nodes: &[NodeId], node: NodeId) -> Vec<Lane> {
    let owner = |lane: Lane| nodes.iter().max_by_key(|other| weight(lane, **other));
    Lane::all()
        .filter(|lane| owner(*lane) == Some(&node))
        .collect()
}

/// The finaliser of splitmix64 over both numbers.
fn weight(lane: Lane, node: NodeId) -> u64 {
    let mut bits = (u64::from(node.get()) << 8 | u64::from(lane.get())) + 1;
    bits = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// What this node holds.
#[derive(Debug)]
pub(crate) struct Lanes {
    lease: Option<NodeLease>,
    holdings: [Holding; Lane::COUNT],
    /// Per lane: attempts under way and results not yet committed.
    at_work: [u32; Lane::COUNT],
    /// Lanes of our share that we do not hold.
    missing: Vec<Lane>,
    leaving: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    /// Another's, or nobody's. `listed` when the last beat said it is ours all the
    /// same: the answer to taking it was lost, or that beat is older than our release.
    None { listed: bool },
    /// Ours, since this mark. Not `confirmed` until a beat that is younger than the
    /// taking can be told apart from an older one.
    Owned { since: u64, confirmed: bool },
    /// Ours; nothing new is sent, and it is released when nothing is at work.
    Leaving,
    /// Being given back.
    Releasing,
}

/// What a beat changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// No longer ours: forget what waits in them.
    pub(crate) lost: Vec<Lane>,
    /// Ours from now on.
    pub(crate) gained: Vec<Lane>,
    /// Not of our share any more: stop sending from them.
    pub(crate) given_up: Vec<Lane>,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self {
            lease: None,
            holdings: [Holding::None { listed: false }; Lane::COUNT],
            at_work: [0; Lane::COUNT],
            missing: Vec::new(),
            leaving: 0,
        }
    }

    /// The lease that the lanes are held by: the last one heard of.
    pub(crate) fn lease(&self) -> Option<NodeLease> {
        self.lease
    }

    /// Takes in what a beat brought.
    ///
    /// - `mark`: the present.
    pub(crate) fn beat(&mut self, lease: NodeLease, beat: &Beat, mark: u64) -> Changes {
        let mut changes = Changes::default();
        if self.lease != Some(lease) {
            changes.lost = self.lose_all();
            self.lease = Some(lease);
        }
        let mut mine = [false; Lane::COUNT];
        share(&beat.dispatching, lease.node)
            .iter()
            .for_each(|lane| mine[at(*lane)] = true);
        for lane in Lane::all() {
            let listed = beat.owned.binary_search(&lane).is_ok();
            self.judge(lane, listed, mine[at(lane)], mark, &mut changes);
        }
        let held = |lane: &Lane| !matches!(self.holdings[at(*lane)], Holding::None { .. });
        self.missing = Lane::all()
            .filter(|lane| mine[at(*lane)] && !held(lane))
            .collect();
        self.count_leaving();
        changes
    }

    fn judge(&mut self, lane: Lane, listed: bool, mine: bool, mark: u64, changes: &mut Changes) {
        let holding = &mut self.holdings[at(lane)];
        *holding = match *holding {
            // Only the second such beat in a row is certain to be younger than a release.
            Holding::None { listed: true } if listed && mine => {
                changes.gained.push(lane);
                Holding::Owned {
                    since: mark,
                    confirmed: true,
                }
            }
            Holding::None { listed: true } if listed => Holding::Leaving,
            Holding::None { .. } => Holding::None { listed },
            Holding::Owned {
                confirmed: true, ..
            }
            | Holding::Leaving
                if !listed =>
            {
                changes.lost.push(lane);
                Holding::None { listed: false }
            }
            Holding::Owned { .. } if !mine => {
                changes.given_up.push(lane);
                Holding::Leaving
            }
            Holding::Owned { since, .. } => Holding::Owned {
                since,
                confirmed: true,
            },
            other => other,
        };
    }

    /// Says that the next beat is younger than every taking: lanes that it does not list
    /// are lost.
    pub(crate) fn confirm(&mut self) {
        for holding in &mut self.holdings {
            if let Holding::Owned { confirmed, .. } = holding {
                *confirmed = true;
            }
        }
    }

    /// Forgets all lanes: the lease is lost.
    pub(crate) fn lose_all(&mut self) -> Vec<Lane> {
        let held = |lane: &Lane| !matches!(self.holdings[at(*lane)], Holding::None { .. });
        let lost = Lane::all().filter(held).collect();
        self.holdings = [Holding::None { listed: false }; Lane::COUNT];
        self.missing.clear();
        self.leaving = 0;
        lost
    }

    /// Gives up all lanes, for good; answers which were owned.
    pub(crate) fn leave_all(&mut self) -> Vec<Lane> {
        let given_up: Vec<Lane> = Lane::all().filter(|lane| self.owns(*lane)).collect();
        given_up
            .iter()
            .for_each(|lane| self.holdings[at(*lane)] = Holding::Leaving);
        self.missing.clear();
        self.count_leaving();
        given_up
    }

    /// Lanes to be taken, if the store has them.
    pub(crate) fn missing(&self) -> &[Lane] {
        &self.missing
    }

    /// Takes lanes over that the store gave to `lease`.
    ///
    /// - `mark`: the present.
    pub(crate) fn taken(&mut self, lease: NodeLease, lanes: &[Lane], mark: u64) -> bool {
        if self.lease != Some(lease) {
            return false;
        }
        for lane in lanes {
            self.holdings[at(*lane)] = Holding::Owned {
                since: mark,
                confirmed: false,
            };
        }
        self.missing.retain(|lane| !lanes.contains(lane));
        true
    }

    /// Lanes with nothing left to do, to be given back now.
    pub(crate) fn release_idle(&mut self) -> Vec<Lane> {
        if self.leaving == 0 {
            return Vec::new();
        }
        let idle = |lane: &Lane| {
            self.holdings[at(*lane)] == Holding::Leaving && self.at_work[at(*lane)] == 0
        };
        let idle: Vec<Lane> = Lane::all().filter(idle).collect();
        idle.iter()
            .for_each(|lane| self.holdings[at(*lane)] = Holding::Releasing);
        self.count_leaving();
        idle
    }

    /// Whether [`Self::release_idle`] has something to say.
    pub(crate) fn has_idle(&self) -> bool {
        let idle =
            |lane: Lane| self.holdings[at(lane)] == Holding::Leaving && self.at_work[at(lane)] == 0;
        self.leaving > 0 && Lane::all().any(idle)
    }

    /// Says whether lanes could be given back; if not, they are tried again.
    pub(crate) fn released(&mut self, lanes: &[Lane], done: bool) {
        for lane in lanes {
            let holding = &mut self.holdings[at(*lane)];
            if *holding == Holding::Releasing {
                *holding = if done {
                    Holding::None { listed: false }
                } else {
                    Holding::Leaving
                };
            }
        }
        self.count_leaving();
    }

    /// Whether what is in the lane may be sent.
    pub(crate) fn owns(&self, lane: Lane) -> bool {
        matches!(self.holdings[at(lane)], Holding::Owned { .. })
    }

    /// Whether a read that began at `mark` can be trusted for this lane: it began
    /// after the lane was taken.
    pub(crate) fn owned_at(&self, lane: Lane, mark: u64) -> bool {
        matches!(self.holdings[at(lane)], Holding::Owned { since, .. } if since <= mark)
    }

    /// Lanes whose rows may be sent.
    pub(crate) fn owned(&self) -> impl Iterator<Item = Lane> {
        Lane::all().filter(|lane| self.owns(*lane))
    }

    /// Whether there is a lane whose rows may be sent.
    pub(crate) fn owns_any(&self) -> bool {
        self.owned().next().is_some()
    }

    /// Whether nothing is held, or being given back.
    pub(crate) fn is_empty(&self) -> bool {
        self.holdings
            .iter()
            .all(|holding| matches!(holding, Holding::None { .. }))
    }

    /// Something of this lane is under way and keeps it from being released.
    pub(crate) fn begin_work(&mut self, lane: Lane) {
        self.at_work[at(lane)] += 1;
    }

    /// It has ended, and what came of it is committed.
    pub(crate) fn end_work(&mut self, lane: Lane) {
        self.at_work[at(lane)] -= 1;
    }

    fn count_leaving(&mut self) {
        let leaving = self
            .holdings
            .iter()
            .filter(|holding| **holding == Holding::Leaving);
        self.leaving = leaving.count();
    }
}

fn at(lane: Lane) -> usize {
    usize::from(lane.get())
}

/// For each lane, what `value` says.
pub(crate) fn per_lane<T>(value: impl FnMut(usize) -> T) -> [T; Lane::COUNT] {
    array::from_fn(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const EPOCH: i64 = 1;

    fn node(number: u16) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn nodes(count: u16) -> Vec<NodeId> {
        (0..count).map(node).collect()
    }

    fn owners(nodes: &[NodeId]) -> BTreeMap<Lane, NodeId> {
        let of = |owner: &NodeId| {
            let owner = *owner;
            share(nodes, owner)
                .into_iter()
                .map(move |lane| (lane, owner))
        };
        nodes.iter().flat_map(of).collect()
    }

    fn lease(epoch: i64) -> NodeLease {
        NodeLease {
            node: node(0),
            epoch,
        }
    }

    fn beat(nodes: u16, owned: &[Lane]) -> Beat {
        Beat {
            dispatching: self::nodes(nodes),
            owned: owned.to_vec(),
        }
    }

    /// Holds all lanes alone, confirmed by a beat.
    fn sole_owner() -> (Lanes, Vec<Lane>) {
        let (mut lanes, all) = (Lanes::new(), Lane::all().collect::<Vec<_>>());
        lanes.beat(lease(EPOCH), &beat(1, &[]), 0);
        assert!(lanes.taken(lease(EPOCH), &all, 0));
        assert_eq!(
            lanes.beat(lease(EPOCH), &beat(1, &all), 0),
            Changes::default()
        );
        (lanes, all)
    }

    #[test]
    fn every_lane_has_one_owner_and_shares_are_even() {
        for count in [1, 2, 3, 7] {
            let nodes = nodes(count);
            assert_eq!(owners(&nodes).len(), Lane::COUNT, "{count} nodes");
            let fair = Lane::COUNT / usize::from(count);
            for node in &nodes {
                let size = share(&nodes, *node).len();
                assert!(
                    (fair / 2..=fair * 3 / 2).contains(&size),
                    "{size} of {count} nodes"
                );
            }
        }
        assert!(share(&nodes(2), node(9)).is_empty());
    }

    #[test]
    fn only_the_lanes_of_the_node_that_comes_or_goes_move() {
        let (before, after) = (owners(&nodes(4)), owners(&nodes(5)));
        for (lane, owner) in &after {
            assert!(*owner == node(4) || before[lane] == *owner, "{lane:?}");
        }
    }

    #[test]
    fn lanes_are_taken_kept_and_shared_with_who_comes() {
        let (mut lanes, all) = sole_owner();
        assert!(lanes.missing().is_empty());
        let changes = lanes.beat(lease(EPOCH), &beat(2, &all), 0);
        assert_eq!(changes.given_up, share(&nodes(2), node(1)));
        let leaving = changes.given_up[0];
        assert!(!lanes.owns(leaving));

        lanes.begin_work(leaving);
        assert_eq!(lanes.release_idle(), changes.given_up[1..]);
        lanes.end_work(leaving);
        assert_eq!(lanes.release_idle(), [leaving]);
        lanes.released(&changes.given_up, true);
        assert!(lanes.release_idle().is_empty());
        assert_eq!(lanes.owned().count(), share(&nodes(2), node(0)).len());
    }

    #[test]
    fn a_beat_older_than_a_release_does_not_bring_the_lane_back() {
        let (mut lanes, all) = sole_owner();
        let given_up = lanes.beat(lease(EPOCH), &beat(2, &all), 0).given_up;
        lanes.release_idle();
        lanes.released(&given_up, true);
        // The other node is gone again, but this beat was read before the release.
        let changes = lanes.beat(lease(EPOCH), &beat(1, &all), 0);
        assert!(changes.gained.is_empty());
        assert_eq!(lanes.missing(), given_up);
        // Listed twice: it is ours, and the answer to taking it was lost.
        let changes = lanes.beat(lease(EPOCH), &beat(1, &all), 0);
        assert_eq!(changes.gained, given_up);
    }

    #[test]
    fn a_lane_that_another_took_is_lost() {
        let (mut lanes, all) = sole_owner();
        let changes = lanes.beat(lease(EPOCH), &beat(1, &all[1..]), 0);
        assert_eq!(changes.lost, all[..1]);
        assert!(!lanes.owns(all[0]));
        assert_eq!(lanes.missing(), &all[..1]);
    }

    #[test]
    fn a_beat_older_than_a_taking_does_not_lose_the_lane() {
        let (mut lanes, all) = (Lanes::new(), Lane::all().collect::<Vec<_>>());
        lanes.beat(lease(EPOCH), &beat(1, &[]), 0);
        lanes.taken(lease(EPOCH), &all, 0);
        assert_eq!(lanes.beat(lease(EPOCH), &beat(1, &[]), 0).lost, []);
        assert_eq!(lanes.beat(lease(EPOCH), &beat(1, &[]), 0).lost, all);
    }

    /// A node that was stopped right after the taking sends nothing more from its lanes.
    #[test]
    fn the_first_beat_after_a_taking_loses_the_lane_if_it_is_surely_younger() {
        let (mut lanes, all) = (Lanes::new(), Lane::all().collect::<Vec<_>>());
        lanes.beat(lease(EPOCH), &beat(1, &[]), 0);
        lanes.taken(lease(EPOCH), &all, 0);
        lanes.confirm();
        assert_eq!(lanes.beat(lease(EPOCH), &beat(1, &[]), 0).lost, all);
    }

    #[test]
    fn a_new_epoch_starts_over() {
        let (mut lanes, all) = sole_owner();
        assert_eq!(lanes.beat(lease(2), &beat(1, &[]), 0).lost, all);
        assert_eq!(lanes.missing(), all);
        assert!(!lanes.taken(lease(1), &all, 0)); // in the name of the old one
        assert!(lanes.is_empty());
    }

    #[test]
    fn reads_from_before_the_taking_are_not_trusted() {
        let mut lanes = Lanes::new();
        lanes.beat(lease(EPOCH), &beat(1, &[]), 0);
        let lane = Lane::new(7);
        lanes.taken(lease(EPOCH), &[lane], 5);
        assert!(!lanes.owned_at(lane, 4) && lanes.owned_at(lane, 5));
    }
}
