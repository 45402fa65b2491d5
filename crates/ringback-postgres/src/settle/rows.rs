//! Settlements as columns.

use chrono::{DateTime, Utc};
use ringback_model::{AttemptError, DeadReason, DeliveryStatus};
use ringback_store::{AttemptRecord, Next, NodeLease, Settlement, Source};
use sqlx::{Postgres, postgres::PgArguments, query::Query};

use crate::rows::small;

type Bound = Query<'static, Postgres, PgArguments>;

/// Settlements of different deliveries, each attempt packed once.
#[derive(Debug)]
pub(super) struct Rows<'s> {
    settlements: &'s [(&'s Settlement, i32)],
    records: Vec<Option<Vec<u8>>>,
}

impl<'s> Rows<'s> {
    /// - `settlements`: with the numbers of their event types.
    pub(super) fn of(settlements: &'s [(&'s Settlement, i32)]) -> Self {
        let pack = |(settlement, _): &(&Settlement, i32)| {
            settlement.attempt.as_ref().map(AttemptRecord::pack)
        };
        Self {
            settlements,
            records: settlements.iter().map(pack).collect(),
        }
    }

    /// Whether all are the first attempts of their deliveries, and went well.
    pub(super) fn are_first_successes(&self) -> bool {
        self.settlements.iter().all(|(settlement, _)| {
            settlement.next == Next::Delivered
                && settlement.source == Source::Outbox
                && settlement
                    .attempt
                    .as_ref()
                    .is_some_and(|attempt| attempt.number == 1)
        })
    }

    pub(super) fn bind_successes(&self, sql: &'static str, now: DateTime<Utc>) -> Bound {
        self.bind_common(sql).bind(now)
    }

    pub(super) fn bind(&self, sql: &'static str, lease: &NodeLease, now: DateTime<Utc>) -> Bound {
        self.bind_common(sql)
            .bind(self.each(|one| one.source == Source::Outbox))
            .bind(self.each(|one| small(came_from(one).0)))
            .bind(self.each(|one| small(came_from(one).1)))
            .bind(self.each(|one| small(attempts(one))))
            .bind(self.each(last_error))
            .bind(self.each(|one| status(one).code()))
            .bind(self.each(dead_reason))
            .bind(self.each(due_at))
            .bind(now)
            .bind(lease.node.get().cast_signed())
            .bind(lease.epoch)
    }

    pub(super) fn bind_attempts(&self, sql: &'static str) -> Bound {
        let made: Vec<(&Settlement, &[u8])> = self
            .settlements
            .iter()
            .zip(&self.records)
            .filter_map(|((settlement, _), record)| Some((*settlement, record.as_deref()?)))
            .collect();
        let made = || made.iter();
        let events = || made().map(|(one, _)| one.delivery.event.get());
        sqlx::query(sql)
            .bind(events().collect::<Vec<_>>())
            .bind(
                made()
                    .map(|(one, _)| one.delivery.subscription.get())
                    .collect::<Vec<_>>(),
            )
            .bind(
                made()
                    .map(|(one, _)| small(attempts(one)))
                    .collect::<Vec<_>>(),
            )
            .bind(made().map(|(one, _)| last_code(one)).collect::<Vec<_>>())
            .bind(made().map(|(one, _)| last_error(one)).collect::<Vec<_>>())
            .bind(made().map(|(_, record)| *record).collect::<Vec<_>>())
            .bind(events().min())
            .bind(events().max())
    }

    fn bind_common(&self, sql: &'static str) -> Bound {
        let types: Vec<i32> = self.settlements.iter().map(|(_, number)| *number).collect();
        sqlx::query(sql)
            .bind(self.each(|one| i16::from(one.lane.get())))
            .bind(self.each(|one| one.delivery.event.get()))
            .bind(self.each(|one| one.delivery.subscription.get()))
            .bind(self.each(|one| one.app.get()))
            .bind(types)
            .bind(self.each(last_code))
            .bind(&self.records)
    }

    fn each<T>(&self, column: impl Fn(&Settlement) -> T) -> Vec<T> {
        self.settlements
            .iter()
            .map(|(settlement, _)| column(settlement))
            .collect()
    }
}

/// Attempts made, and the round's start, when the row was read.
fn came_from(settlement: &Settlement) -> (u16, u16) {
    match settlement.source {
        Source::Outbox => (0, 0),
        Source::Retries {
            attempts_made,
            round_start,
        } => (attempts_made, round_start),
    }
}

/// Attempts made by now.
fn attempts(settlement: &Settlement) -> u16 {
    let attempt = settlement.attempt.as_ref();
    attempt.map_or_else(|| came_from(settlement).0, |attempt| attempt.number)
}

fn last_code(settlement: &Settlement) -> Option<i16> {
    settlement
        .attempt
        .as_ref()?
        .answer
        .as_ref()
        .map(|answer| small(answer.status_code))
}

fn last_error(settlement: &Settlement) -> Option<i16> {
    settlement.attempt.as_ref()?.error.map(AttemptError::code)
}

fn status(settlement: &Settlement) -> DeliveryStatus {
    match settlement.next {
        Next::Delivered => DeliveryStatus::Delivered,
        Next::Dead(_) => DeliveryStatus::Dead,
        Next::Cancelled => DeliveryStatus::Cancelled,
        Next::Retry { .. } => DeliveryStatus::Retrying,
    }
}

fn dead_reason(settlement: &Settlement) -> Option<i16> {
    match settlement.next {
        Next::Dead(reason) => Some(DeadReason::code(reason)),
        Next::Delivered | Next::Cancelled | Next::Retry { .. } => None,
    }
}

fn due_at(settlement: &Settlement) -> Option<DateTime<Utc>> {
    match settlement.next {
        Next::Retry { due_at } => Some(due_at),
        Next::Delivered | Next::Dead(_) | Next::Cancelled => None,
    }
}
