//! Which rows are held, so that none is sent twice.
//!
//! A row comes back from every read until it is settled, and from reads that began
//! before it was settled even later. So a row stays known until its settling has
//! committed *and* every read and hand-over that began before has been taken in.

use std::collections::{HashMap, VecDeque, hash_map};

use ringback_model::DeliveryId;
use ringback_store::Transit;

use crate::row::Stage;

/// The known-set.
#[derive(Debug, Default)]
pub(crate) struct Known {
    entries: HashMap<DeliveryId, Entry>,
    /// What is done with, by the mark that must be passed first; marks rise.
    leaving: VecDeque<(u64, Vec<DeliveryId>)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Rows up to this one are not taken in.
    stage: Stage,
    /// Set when the row is done with.
    leaves_at: Option<u64>,
}

/// What [`Known::take_in`] makes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeIn {
    /// It was not known, and is held now.
    New,
    /// It is held already.
    Held,
    /// It is out of date, or what came before it is not done with yet: if it is
    /// still there later, it can be taken in then.
    NotNow,
}

impl Known {
    /// Takes a row in hand, if it is new.
    pub(crate) fn take_in(&mut self, delivery: DeliveryId, stage: Stage) -> TakeIn {
        match self.entries.entry(delivery) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry {
                    stage,
                    leaves_at: None,
                });
                TakeIn::New
            }
            hash_map::Entry::Occupied(mut occupied) => match *occupied.get() {
                Entry {
                    stage: held,
                    leaves_at: None,
                } if held == stage => TakeIn::Held,
                Entry {
                    stage: done,
                    leaves_at: Some(_),
                } if done < stage => {
                    occupied.insert(Entry {
                        stage,
                        leaves_at: None,
                    });
                    TakeIn::New
                }
                _ => TakeIn::NotNow,
            },
        }
    }

    /// Whether anything is known of a delivery.
    pub(crate) fn contains(&self, delivery: DeliveryId) -> bool {
        self.entries.contains_key(&delivery)
    }

    /// Whether this row is in hand.
    pub(crate) fn holds(&self, delivery: DeliveryId, stage: Stage) -> bool {
        let held = |entry: &Entry| entry.stage == stage && entry.leaves_at.is_none();
        self.entries.get(&delivery).is_some_and(held)
    }

    /// Lets go of a row that was not sent: it may be taken in again at once. Rows that
    /// came before it may not.
    ///
    /// - `mark`: the present.
    pub(crate) fn forget(&mut self, delivery: DeliveryId, stage: Stage, mark: u64) {
        if !self.holds(delivery, stage) {
            return;
        }
        match stage.before() {
            Some(before) => self.leave_at(delivery, before, mark),
            None => drop(self.entries.remove(&delivery)),
        }
    }

    /// Is done with rows whose settling has committed.
    ///
    /// - `mark`: taken after the commit.
    pub(crate) fn settled(&mut self, deliveries: Vec<DeliveryId>, mark: u64) {
        for delivery in &deliveries {
            if let Some(entry) = self.entries.get_mut(delivery) {
                entry.leaves_at = Some(mark);
            }
        }
        self.leaving.push_back((mark, deliveries));
    }

    /// Is done with a delivery whose rows were all taken away: reads under way bring
    /// none of them back.
    ///
    /// - `mark`: taken after they were.
    pub(crate) fn withdraw(&mut self, delivery: DeliveryId, mark: u64) {
        self.leave_at(delivery, Stage::WITHDRAWN, mark);
    }

    /// How much is done with and can be dropped: everything that began before has been
    /// taken in, except hand-overs that are still in their channel. So take those in
    /// before calling [`Self::drop_passed`].
    pub(crate) fn passed(&self, transit: &Transit) -> usize {
        self.leaving
            .iter()
            .take_while(|(mark, _)| transit.passed(*mark))
            .count()
    }

    /// Drops as much as [`Self::passed`] said.
    pub(crate) fn drop_passed(&mut self, passed: usize) {
        for (mark, deliveries) in self.leaving.drain(..passed) {
            for delivery in deliveries {
                // It may have come back meanwhile, and even be done with again.
                if self
                    .entries
                    .get(&delivery)
                    .is_some_and(|entry| entry.leaves_at == Some(mark))
                {
                    self.entries.remove(&delivery);
                }
            }
        }
    }

    /// Gives memory back after a rush.
    pub(crate) fn shrink(&mut self) {
        if self.entries.capacity() > 4 * self.entries.len() + 1024 {
            self.entries.shrink_to_fit();
        }
    }

    fn leave_at(&mut self, delivery: DeliveryId, stage: Stage, mark: u64) {
        self.entries.insert(
            delivery,
            Entry {
                stage,
                leaves_at: Some(mark),
            },
        );
        match self.leaving.back_mut() {
            Some((last, deliveries)) if *last == mark => deliveries.push(delivery),
            _ => self.leaving.push_back((mark, vec![delivery])),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringback_model::{EventId, SubscriptionId};

    use super::*;

    const PARKED: Stage = Stage::retries(0, 0);
    const SECOND: Stage = Stage::retries(1, 0);

    fn delivery(number: i64) -> DeliveryId {
        DeliveryId {
            event: EventId::new(number),
            subscription: SubscriptionId::new(1),
        }
    }

    fn drop_passed(known: &mut Known, transit: &Transit) {
        let passed = known.passed(transit);
        known.drop_passed(passed);
    }

    #[test]
    fn a_settled_row_stays_known_while_an_older_read_is_under_way() {
        let (mut known, transit) = (Known::default(), Transit::default());
        assert_eq!(known.take_in(delivery(1), Stage::OUTBOX), TakeIn::New);
        assert_eq!(known.take_in(delivery(1), Stage::OUTBOX), TakeIn::Held);
        let read = transit.begin();
        known.settled(vec![delivery(1)], transit.mark());
        drop_passed(&mut known, &transit);
        assert_eq!(known.take_in(delivery(1), Stage::OUTBOX), TakeIn::NotNow);
        drop(read);
        drop_passed(&mut known, &transit);
        assert!(known.entries.is_empty() && known.leaving.is_empty());
    }

    #[test]
    fn a_retry_is_taken_in_while_its_first_row_is_still_remembered() {
        let (mut known, transit) = (Known::default(), Transit::default());
        known.take_in(delivery(1), Stage::OUTBOX);
        assert_eq!(known.take_in(delivery(1), SECOND), TakeIn::NotNow); // settled, but not yet heard
        let read = transit.begin();
        known.settled(vec![delivery(1)], transit.mark());
        assert_eq!(known.take_in(delivery(1), SECOND), TakeIn::New);
        // That read brings the first row, late.
        assert_eq!(known.take_in(delivery(1), Stage::OUTBOX), TakeIn::NotNow);
        drop(read);
        drop_passed(&mut known, &transit);
        assert!(known.holds(delivery(1), SECOND));
    }

    #[test]
    fn what_was_let_go_comes_back_but_not_what_came_before_it() {
        let (mut known, transit) = (Known::default(), Transit::default());
        known.take_in(delivery(1), PARKED);
        let read = transit.begin();
        known.forget(delivery(1), PARKED, transit.mark());
        assert_eq!(known.take_in(delivery(1), Stage::OUTBOX), TakeIn::NotNow);
        assert_eq!(known.take_in(delivery(1), PARKED), TakeIn::New);
        known.forget(delivery(1), PARKED, transit.mark());
        drop(read);
        drop_passed(&mut known, &transit);
        assert!(known.entries.is_empty());
        known.take_in(delivery(2), Stage::OUTBOX);
        known.forget(delivery(2), Stage::OUTBOX, transit.mark());
        assert_eq!(known.take_in(delivery(2), Stage::OUTBOX), TakeIn::New);
    }

    #[test]
    fn what_was_withdrawn_cannot_come_back_from_an_older_read() {
        let (mut known, transit) = (Known::default(), Transit::default());
        known.take_in(delivery(1), SECOND);
        let read = transit.begin();
        known.withdraw(delivery(1), transit.mark());
        assert!(!known.holds(delivery(1), SECOND));
        assert_eq!(known.take_in(delivery(1), SECOND), TakeIn::NotNow);
        drop(read);
        drop_passed(&mut known, &transit);
        assert_eq!(known.take_in(delivery(1), SECOND), TakeIn::New); // replayed
    }

    proptest! {
        /// Whatever reads, settles and ends in whatever order: a row that was settled is
        /// not taken in again by a read that saw it before.
        #[test]
        fn no_interleaving_takes_a_row_in_twice(steps in prop::collection::vec(0u8..5, 1..200)) {
            let (mut known, transit) = (Known::default(), Transit::default());
            let (mut in_database, mut next) = (Vec::new(), 0);
            let mut reads: VecDeque<(ringback_store::Ticket, Vec<i64>)> = VecDeque::new();
            let mut held = VecDeque::new();
            let mut taken = std::collections::BTreeSet::new();
            for step in steps {
                match step {
                    0 => { in_database.push(next); next += 1; }
                    1 => reads.push_back((transit.begin(), in_database.clone())),
                    // Reads come back in any order: the oldest, or the newest.
                    2 | 3 => {
                        let read = if step == 2 { reads.pop_front() } else { reads.pop_back() };
                        for row in read.iter().flat_map(|(_, rows)| rows) {
                            if known.take_in(delivery(*row), Stage::OUTBOX) == TakeIn::New {
                                prop_assert!(taken.insert(*row), "row {} taken in twice", row);
                                held.push_back(*row);
                            }
                        }
                    }
                    _ => if let Some(row) = held.pop_front() {
                        in_database.retain(|other| *other != row);
                        known.settled(vec![delivery(row)], transit.mark());
                    }
                }
                drop_passed(&mut known, &transit);
            }
            reads.clear();
            drop_passed(&mut known, &transit);
            prop_assert_eq!(known.entries.len(), held.len());
        }
    }
}
