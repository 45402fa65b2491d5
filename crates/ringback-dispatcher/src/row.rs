//! A delivery's rows, told apart by how far the delivery has come.

use ringback_model::{DeliveryId, Lane};
use ringback_store::Source;

/// A row of the outbox or the retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) delivery: DeliveryId,
    pub(crate) stage: Stage,
    /// The subscription's lane.
    pub(crate) lane: Lane,
}

/// Names one row of a delivery: the outbox's, or the retries' by its counts.
///
/// The rows of one delivery follow each other in this order, so whatever is not
/// beyond the last one known is out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stage(u32);

impl Stage {
    /// The row that was written with the event.
    pub(crate) const OUTBOX: Self = Self(0);
    /// Beyond every row there is.
    pub(crate) const WITHDRAWN: Self = Self(u32::MAX);

    /// A row of the retries.
    pub(crate) const fn retries(attempts_made: u16, round_start: u16) -> Self {
        let counts = (attempts_made as u32) << 16 | round_start as u32;
        Self(counts.saturating_add(1))
    }

    /// The last row that could have come before this one.
    pub(crate) const fn before(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(stage) => Some(Self(stage)),
            None => None,
        }
    }

    /// No attempt was ever made.
    pub(crate) const fn is_first_attempt(self) -> bool {
        self.attempts_made() == 0
    }

    /// The row, as the store names it.
    pub(crate) const fn source(self) -> Source {
        if self.0 == 0 {
            return Source::Outbox;
        }
        Source::Retries {
            attempts_made: self.attempts_made(),
            round_start: self.round_start(),
        }
    }

    /// Attempts that have ended, over all rounds.
    pub(crate) const fn attempts_made(self) -> u16 {
        (self.0.saturating_sub(1) >> 16) as u16
    }

    /// The attempt after which the schedule started afresh.
    pub(crate) const fn round_start(self) -> u16 {
        (self.0.saturating_sub(1) & 0xffff) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_comes_forward_stage_by_stage() {
        let stages = [
            Stage::OUTBOX,
            Stage::retries(0, 0), // parked, or not due before
            Stage::retries(1, 0),
            Stage::retries(10, 0),
            Stage::retries(10, 10), // replayed
            Stage::retries(11, 10),
            Stage::WITHDRAWN,
        ];
        assert!(stages.is_sorted() && stages.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_stage_names_its_row() {
        assert_eq!(Stage::OUTBOX.source(), Source::Outbox);
        assert_eq!(Stage::OUTBOX.attempts_made(), 0);
        for (attempts_made, round_start) in [(0, 0), (1, 0), (12, 10), (65_000, 65_000)] {
            let source = Stage::retries(attempts_made, round_start).source();
            assert_eq!(
                source,
                Source::Retries {
                    attempts_made,
                    round_start
                }
            );
        }
    }
}
