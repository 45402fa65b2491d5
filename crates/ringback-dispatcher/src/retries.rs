//! When to look for retries, and those that were read a little before their time.
//!
//! One time per subscription: when its next retry is due, as far as known. Looking
//! brings what is due within a second, and the time of the one after. Pure: no I/O,
//! no clock.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{Lane, SubscriptionId};

use crate::row::Row;

/// Retries are read up to this long before they are due …
pub(crate) const AHEAD: TimeDelta = TimeDelta::seconds(1);
/// … but a look begins only this long before, so that it brings many.
const EARLY: TimeDelta = TimeDelta::milliseconds(100);
/// When a row could not be taken in yet, look again then.
const AGAIN: TimeDelta = TimeDelta::seconds(1);

/// Of one subscription, this many retries are held in memory at most.
const MANY: usize = 1024;
/// What most subscriptions are looked at for.
const FEW: usize = 32;
/// Subscriptions in one look.
const BATCH_OF_FEW: usize = 256;
const BATCH_OF_MANY: usize = 8;

/// What is known of the retries.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    waits: HashMap<SubscriptionId, Wait>,
    /// When to look at whom.
    looks: BTreeSet<(DateTime<Utc>, SubscriptionId)>,
    /// Read already, but not due yet.
    ripening: BinaryHeap<Reverse<(DateTime<Utc>, Row)>>,
}

#[derive(Debug)]
struct Wait {
    lane: Lane,
    /// As in `looks`.
    look_at: Option<DateTime<Utc>>,
    /// A look is under way.
    looking: bool,
    /// The last look brought as much as it could: there is more.
    full: bool,
    /// It could not be looked at when its time came: it is as soon as it can be.
    owed: bool,
    /// Its retries that are in memory.
    held: usize,
}

/// Whether a subscription is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayLook {
    /// It is.
    Now,
    /// Only for what became due after this time: what is older is parked, and could not
    /// be sent.
    After(DateTime<Utc>),
    /// Nothing could be sent before then.
    NotBefore(DateTime<Utc>),
    /// Not until [`Retries::can_look`].
    No,
}

/// One statement's worth of looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Each with the time that only what was due after it is wanted of.
    pub(crate) subscriptions: Vec<(Lane, SubscriptionId, DateTime<Utc>)>,
    /// Rows per subscription.
    pub(crate) limit: usize,
    /// What is due by then is taken in; rows beyond only tell when to look again.
    pub(crate) until: DateTime<Utc>,
}

/// What a look brought for one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Rows, due or not.
    pub(crate) rows: usize,
    /// Rows that were taken in.
    pub(crate) taken: usize,
    /// A row that is due could not be taken in yet.
    pub(crate) refused: bool,
    /// When the first row beyond [`Look::until`] is due.
    pub(crate) next_due: Option<DateTime<Utc>>,
}

impl Retries {
    /// A retry of this subscription is due then, or should be looked for then.
    pub(crate) fn expect(
        &mut self,
        subscription: SubscriptionId,
        lane: Lane,
        due_at: DateTime<Utc>,
    ) {
        let fresh = Wait {
            lane,
            look_at: None,
            looking: false,
            full: false,
            owed: false,
            held: 0,
        };
        let wait = self.waits.entry(subscription).or_insert(fresh);
        if wait.look_at.is_some_and(|known| known <= due_at) {
            return;
        }
        if let Some(known) = wait.look_at.replace(due_at) {
            self.looks.remove(&(known, subscription));
        }
        self.looks.insert((due_at, subscription));
    }

    /// Whom to look at now, if anybody. `may_look` says who can be served and has room;
    /// whoever cannot is left out until [`Self::can_look`]. Not to be called while a
    /// look is under way.
    pub(crate) fn next(
        &mut self,
        now: DateTime<Utc>,
        mut may_look: impl FnMut(SubscriptionId, Lane) -> MayLook,
    ) -> Option<Look> {
        let mut look = Look {
            subscriptions: Vec::new(),
            limit: FEW,
            until: now + AHEAD,
        };
        let mut most = BATCH_OF_FEW;
        while let Some((at, subscription)) = self.looks.first().copied() {
            if at > now + EARLY || look.subscriptions.len() >= most {
                break;
            }
            self.looks.pop_first();
            let Some(wait) = self.waits.get_mut(&subscription) else {
                continue;
            };
            wait.look_at = None;
            let lane = wait.lane;
            let may_look = if wait.held > MANY / 2 {
                MayLook::No
            } else {
                may_look(subscription, lane)
            };
            wait.owed = may_look == MayLook::No;
            let after = match may_look {
                MayLook::No => continue,
                MayLook::NotBefore(at) if at > now + EARLY => {
                    self.expect(subscription, lane, at);
                    continue;
                }
                MayLook::Now | MayLook::NotBefore(_) => DateTime::UNIX_EPOCH,
                MayLook::After(after) => after,
            };
            if wait.full || wait.held > FEW / 2 {
                (look.limit, most) = (MANY, BATCH_OF_MANY);
            }
            wait.looking = true;
            look.subscriptions.push((lane, subscription, after));
        }
        (!look.subscriptions.is_empty()).then_some(look)
    }

    /// Takes note of what a look brought for one of its subscriptions.
    pub(crate) fn looked(
        &mut self,
        subscription: SubscriptionId,
        look: &Look,
        seen: Seen,
        now: DateTime<Utc>,
    ) {
        let Some(wait) = self.waits.get_mut(&subscription) else {
            return;
        };
        wait.looking = false;
        let lane = wait.lane;
        wait.full = seen.rows >= look.limit && seen.next_due.is_none();
        if wait.full && seen.taken > 0 {
            self.expect(subscription, lane, now);
        } else if wait.full || seen.refused {
            self.expect(subscription, lane, now + AGAIN);
        }
        if let Some(due_at) = seen.next_due {
            self.expect(subscription, lane, due_at);
        }
        self.drop_if_done(subscription);
    }

    /// A look failed: it is repeated.
    pub(crate) fn failed(&mut self, look: &Look, now: DateTime<Utc>) {
        for (lane, subscription, _) in &look.subscriptions {
            if let Some(wait) = self.waits.get_mut(subscription) {
                wait.looking = false;
                self.expect(*subscription, *lane, now);
            }
        }
    }

    /// A retry is in memory now.
    pub(crate) fn hold(&mut self, subscription: SubscriptionId) {
        if let Some(wait) = self.waits.get_mut(&subscription) {
            wait.held += 1;
        }
    }

    /// Keeps a row that was read before its time.
    pub(crate) fn ripen(&mut self, row: Row, due_at: DateTime<Utc>) {
        self.ripening.push(Reverse((due_at, row)));
    }

    /// A row whose time has come.
    pub(crate) fn ripe(&mut self, now: DateTime<Utc>) -> Option<Row> {
        let Reverse((due_at, row)) = *self.ripening.peek()?;
        if due_at > now {
            return None;
        }
        self.ripening.pop();
        Some(row)
    }

    /// Takes out what is not due yet and matches.
    pub(crate) fn unripe(&mut self, matches: impl Fn(&Row) -> bool) -> Vec<Row> {
        let mut out = Vec::new();
        self.ripening.retain(|Reverse((_, row))| {
            let matched = matches(row);
            if matched {
                out.push(*row);
            }
            !matched
        });
        out
    }

    /// A retry is no longer in memory: sent and settled, or let go.
    pub(crate) fn let_go(&mut self, subscription: SubscriptionId, now: DateTime<Utc>) {
        let Some(wait) = self.waits.get_mut(&subscription) else {
            return;
        };
        wait.held = wait.held.saturating_sub(1);
        self.can_look(subscription, now);
        self.drop_if_done(subscription);
    }

    /// A subscription can be served again, or its queue has room again.
    pub(crate) fn can_look(&mut self, subscription: SubscriptionId, now: DateTime<Utc>) {
        let Some(wait) = self.waits.get_mut(&subscription) else {
            return;
        };
        if wait.owed && wait.held <= MANY / 2 {
            wait.owed = false;
            let lane = wait.lane;
            self.expect(subscription, lane, now);
        }
    }

    /// Forgets lanes.
    pub(crate) fn drop_lanes(&mut self, of: impl Fn(Lane) -> bool) {
        let looks = &mut self.looks;
        self.waits.retain(|subscription, wait| {
            let dropped = of(wait.lane);
            if let Some(look_at) = wait.look_at.filter(|_| dropped) {
                looks.remove(&(look_at, *subscription));
            }
            !dropped
        });
    }

    /// When to ask [`Self::next`] again.
    pub(crate) fn look_at(&self) -> Option<DateTime<Utc>> {
        self.looks.first().map(|(at, _)| *at - EARLY)
    }

    /// When to ask [`Self::ripe`] again.
    pub(crate) fn ripe_at(&self) -> Option<DateTime<Utc>> {
        self.ripening.peek().map(|Reverse((due_at, _))| *due_at)
    }

    fn drop_if_done(&mut self, subscription: SubscriptionId) {
        let done =
            |wait: &Wait| wait.held == 0 && wait.look_at.is_none() && !wait.looking && !wait.owed;
        if self.waits.get(&subscription).is_some_and(done) {
            self.waits.remove(&subscription);
        }
    }
}

#[cfg(test)]
mod tests {
    use ringback_model::{DeliveryId, EventId};

    use super::*;
    use crate::row::Stage;

    const LANE: Lane = Lane::new(0);

    fn start() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    fn after(ms: i64) -> DateTime<Utc> {
        start() + TimeDelta::milliseconds(ms)
    }

    fn sub(number: i64) -> SubscriptionId {
        SubscriptionId::new(number)
    }

    fn look(retries: &mut Retries, ms: i64) -> Option<(Vec<i64>, usize)> {
        let look = retries.next(after(ms), |_, _| MayLook::Now)?;
        Some((
            look.subscriptions
                .iter()
                .map(|(_, sub, _)| sub.get())
                .collect(),
            look.limit,
        ))
    }

    /// Looks at subscription 1, which brings `seen`.
    fn looked(retries: &mut Retries, ms: i64, seen: Seen) {
        let look = retries.next(after(ms), |_, _| MayLook::Now).unwrap();
        (0..seen.taken).for_each(|_| retries.hold(sub(1)));
        retries.looked(sub(1), &look, seen, after(ms));
    }

    #[test]
    fn a_subscription_is_looked_at_just_before_its_first_retry_is_due() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, after(5000));
        retries.expect(sub(1), LANE, after(9000));
        retries.expect(sub(2), LANE, after(7000));
        assert_eq!(retries.look_at(), Some(after(4900)));
        assert_eq!(look(&mut retries, 4899), None);
        assert_eq!(look(&mut retries, 4900), Some((vec![1], FEW)));
        assert_eq!(retries.look_at(), Some(after(6900)));
    }

    #[test]
    fn what_was_not_due_yet_tells_when_to_look_again() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, start());
        let next_due = Some(after(60_000));
        looked(
            &mut retries,
            0,
            Seen {
                rows: 2,
                taken: 1,
                refused: false,
                next_due,
            },
        );
        assert_eq!(retries.look_at(), Some(after(59_900)));
        retries.let_go(sub(1), start());
        assert_eq!(retries.look_at(), Some(after(59_900)));
    }

    #[test]
    fn a_look_that_brought_nothing_is_the_last() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, start());
        looked(&mut retries, 0, Seen::default());
        assert_eq!((retries.look_at(), retries.waits.len()), (None, 0));
    }

    #[test]
    fn a_row_that_could_not_be_taken_in_is_looked_for_again() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, start());
        looked(
            &mut retries,
            0,
            Seen {
                rows: 1,
                refused: true,
                ..Seen::default()
            },
        );
        assert_eq!(look(&mut retries, 899), None);
        assert_eq!(look(&mut retries, 900), Some((vec![1], FEW)));
    }

    #[test]
    fn a_long_backlog_is_brought_in_as_room_is_made() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, start());
        looked(
            &mut retries,
            0,
            Seen {
                rows: FEW,
                taken: FEW,
                ..Seen::default()
            },
        );
        // There is more: the next look takes more, and then waits for room.
        looked(
            &mut retries,
            0,
            Seen {
                rows: MANY,
                taken: MANY - FEW,
                ..Seen::default()
            },
        );
        assert_eq!(look(&mut retries, 0), None);
        assert_eq!(retries.look_at(), None);
        for _ in 0..MANY / 2 - 1 {
            retries.let_go(sub(1), start());
        }
        assert_eq!(look(&mut retries, 0), None);
        retries.let_go(sub(1), start());
        assert_eq!(look(&mut retries, 0), Some((vec![1], MANY)));
    }

    #[test]
    fn who_cannot_be_served_is_not_looked_at_until_it_can() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, start());
        assert_eq!(retries.next(start(), |_, _| MayLook::No), None);
        assert_eq!(retries.look_at(), None);
        retries.can_look(sub(1), after(70));
        assert_eq!(look(&mut retries, 70), Some((vec![1], FEW)));
    }

    #[test]
    fn who_cannot_be_served_before_a_time_is_looked_at_then() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, start());
        let blocked = |_, _| MayLook::NotBefore(after(90_000));
        assert_eq!(retries.next(start(), blocked), None);
        assert_eq!(retries.look_at(), Some(after(89_900)));
        // What is due before, or found again, makes it no earlier.
        retries.expect(sub(1), LANE, after(500));
        assert_eq!(retries.next(after(500), blocked), None);
        assert_eq!(retries.look_at(), Some(after(89_900)));
        let look = retries.next(after(89_900), blocked).unwrap();
        assert_eq!(look.subscriptions, [(LANE, sub(1), DateTime::UNIX_EPOCH)]);
    }

    #[test]
    fn what_is_parked_can_be_left_out() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, after(500));
        let look = retries.next(after(500), |_, _| MayLook::After(start()));
        assert_eq!(look.unwrap().subscriptions, [(LANE, sub(1), start())]);
    }

    #[test]
    fn a_look_that_failed_is_repeated() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, start());
        let failed = retries.next(start(), |_, _| MayLook::Now).unwrap();
        retries.failed(&failed, start());
        assert_eq!(retries.next(start(), |_, _| MayLook::Now), Some(failed));
    }

    #[test]
    fn nothing_ripens_early() {
        let mut retries = Retries::default();
        let row = |number| Row {
            delivery: DeliveryId {
                event: EventId::new(number),
                subscription: sub(1),
            },
            stage: Stage::retries(1, 0),
            lane: LANE,
        };
        for (number, ms) in [(1, 700), (2, 300), (3, 300)] {
            retries.ripen(row(number), after(ms));
        }
        assert_eq!(retries.ripe_at(), Some(after(300)));
        assert_eq!(retries.ripe(after(299)), None);
        assert_eq!(retries.ripe(after(300)), Some(row(2)));
        assert_eq!(retries.unripe(|other| *other == row(3)), [row(3)]);
        assert_eq!(retries.ripe(after(699)), None);
        assert_eq!(retries.ripe(after(700)), Some(row(1)));
    }

    #[test]
    fn retries_of_a_lane_that_is_lost_are_forgotten() {
        let mut retries = Retries::default();
        retries.expect(sub(1), LANE, start());
        retries.expect(sub(2), Lane::new(9), start());
        retries.drop_lanes(|lane| lane == LANE);
        assert_eq!(look(&mut retries, 0), Some((vec![2], FEW)));
    }
}
