//! Chooses the places to look in, and the index to look by.

use ringback_model::DeliveryStatus;

use super::{
    super::statements::{self, Settled, Statement},
    Search,
};

/// How many strands a statement goes through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Strands {
    One,
    Lanes,
    Apps,
    Events,
    EventsAndLanes,
}

impl Search {
    /// Where to look, live rows first, by the index that fits best.
    pub(super) fn places(&self) -> Vec<(Statement, Strands)> {
        use DeliveryStatus::{Cancelled, Dead, Delivered, Held, Pending, Retrying};
        let may_be = |some: &[DeliveryStatus]| self.status.is_none_or(|one| some.contains(&one));
        let mut places = Vec::with_capacity(3);
        // What has not been attempted has no outcome.
        if may_be(&[Pending]) && self.codes.is_none() && self.error.is_none() {
            places.push(self.outbox());
        }
        if may_be(&[Pending, Retrying, Held]) {
            places.push(self.retries());
        }
        if may_be(&[Delivered, Dead, Cancelled]) {
            if self.from < self.first_of_days {
                places.push(self.settled(statements::KEPT));
            }
            places.push(self.settled(statements::SETTLED));
        }
        places
    }

    fn outbox(&self) -> (Statement, Strands) {
        if self.events.is_some() {
            (statements::OUTBOX_OF_EVENTS, Strands::EventsAndLanes)
        } else if self.subscription.is_some() {
            (statements::OUTBOX_OF_SUBSCRIPTION, Strands::One)
        } else {
            (statements::OUTBOX, Strands::Lanes)
        }
    }

    fn retries(&self) -> (Statement, Strands) {
        if self.events.is_some() {
            (statements::RETRIES_OF_EVENTS, Strands::Events)
        } else if self.subscription.is_some() {
            (statements::RETRIES_OF_SUBSCRIPTION, Strands::One)
        } else if self.app.is_some() {
            (statements::RETRIES_OF_APP, Strands::One)
        } else {
            (statements::RETRIES, Strands::Apps)
        }
    }

    fn settled(&self, table: Settled) -> (Statement, Strands) {
        let failed = matches!(
            self.status,
            Some(DeliveryStatus::Dead | DeliveryStatus::Cancelled)
        ) || self.error.is_some()
            || self.codes.is_some_and(|(from, to)| from >= 300 || to < 200);
        if self.events.is_some() {
            (table.of_events, Strands::Events)
        } else if failed && self.subscription.is_some() {
            (table.failed_of_subscription, Strands::One)
        } else if failed && self.app.is_some() {
            (table.failed_of_app, Strands::One)
        } else {
            (table.any, Strands::One)
        }
    }
}
