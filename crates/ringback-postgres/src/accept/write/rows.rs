//! Accepted events as columns.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use ringback_model::OrderKey;
use ringback_store::{NewDelivery, NewEvent};
use sqlx::{Postgres, postgres::PgArguments, query::Query};

use super::Batch;
use crate::accept::judge::{ABANDONED, Plan};

/// A statement with its values.
pub(super) type Bound = Query<'static, Postgres, PgArguments>;

/// What a plan's rows hang on: its place in the batch if it has a key or was emitted,
/// else 0.
pub(super) fn guard(number: usize, plan: &Plan) -> i32 {
    // Batches are of hundreds.
    if is_guarded(plan) {
        i32::try_from(number + 1).unwrap_or(i32::MAX)
    } else {
        0
    }
}

/// Whether it is not known beforehand that a plan may be written.
pub(super) fn is_guarded(plan: &Plan) -> bool {
    !plan.keys.is_empty() || plan.emitted.is_some()
}

/// The rows to be written, a column each.
#[derive(Debug, Default)]
pub(super) struct Rows<'i> {
    versions: BTreeSet<(i64, i64)>,
    events: Vec<&'i NewEvent>,
    types: Vec<i32>,
    guards: Vec<i32>,
    /// Place in `events`, and the delivery.
    sent: Vec<(usize, NewDelivery)>,
    /// To wait in the retries: for a subscription that is paused, or for a time.
    held: Vec<(usize, NewDelivery)>,
    due_at: Vec<DateTime<Utc>>,
    labels: Vec<(usize, &'i str, &'i str)>,
}

impl<'i> Rows<'i> {
    pub(super) fn of(batch: &Batch<'i>, plans: &[Plan], atomic: bool) -> Self {
        let mut rows = Self::default();
        for (number, plan) in plans.iter().enumerate() {
            let guard = if atomic { 0 } else { guard(number, plan) };
            for ((event, event_type), accepted) in batch.items[plan.item].iter().zip(&plan.accepted)
            {
                rows.versions.insert((event.app.get(), event.app_version));
                if !accepted.duplicate {
                    rows.push(event, *event_type, guard, batch.now);
                }
            }
        }
        rows
    }

    fn push(&mut self, event: &'i NewEvent, event_type: i32, guard: i32, now: DateTime<Utc>) {
        let place = self.events.len();
        self.events.push(event);
        self.types.push(event_type);
        self.guards.push(guard);
        for delivery in &event.deliveries {
            match event.waits_until(delivery, now) {
                Some(due_at) => {
                    self.held.push((place, *delivery));
                    self.due_at.push(due_at);
                }
                None => self.sent.push((place, *delivery)),
            }
        }
        let labels = event
            .labels
            .iter()
            .map(|(name, value)| (place, &**name, &**value));
        self.labels.extend(labels);
    }

    /// Whether events and outbox are all there is to write.
    pub(super) fn are_plain(&self) -> bool {
        self.held.is_empty()
            && self.labels.is_empty()
            && self
                .sent
                .iter()
                .all(|(_, delivery)| delivery.order.is_none())
            && self
                .events
                .iter()
                .all(|event| event.ordering_key.is_none() && event.deliver_at.is_none())
    }

    pub(super) fn bind(&self, sql: &'static str) -> Bound {
        let (apps, versions): (Vec<i64>, Vec<i64>) = self.versions.iter().copied().unzip();
        let events = || self.events.iter();
        sqlx::query(sql)
            .bind(apps)
            .bind(versions)
            .bind(events().map(|event| event.id.get()).collect::<Vec<_>>())
            .bind(events().map(|event| event.app.get()).collect::<Vec<_>>())
            .bind(&self.types)
            .bind(
                events()
                    .map(|event| event.external.as_ref().map(|external| &*external.id))
                    .collect::<Vec<_>>(),
            )
            .bind(
                events()
                    .map(|event| event.traceparent.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(events().map(|event| labels_text(event)).collect::<Vec<_>>())
            .bind(events().map(|event| &*event.data).collect::<Vec<&[u8]>>())
            .bind(self.event_ids(&self.sent))
            .bind(subscriptions(&self.sent))
            .bind(lanes(&self.sent))
    }

    pub(super) fn bind_more(&self, query: Bound) -> Bound {
        let guards = |rows: &[(usize, NewDelivery)]| -> Vec<i32> {
            rows.iter().map(|(place, _)| self.guards[*place]).collect()
        };
        let labels = || self.labels.iter();
        query
            .bind(&self.guards)
            .bind(guards(&self.sent))
            .bind(self.event_ids(&self.held))
            .bind(subscriptions(&self.held))
            .bind(lanes(&self.held))
            .bind(
                self.held
                    .iter()
                    .map(|row| self.events[row.0].app.get())
                    .collect::<Vec<_>>(),
            )
            .bind(
                self.held
                    .iter()
                    .map(|row| self.types[row.0])
                    .collect::<Vec<_>>(),
            )
            .bind(guards(&self.held))
            .bind(
                labels()
                    .map(|row| self.events[row.0].app.get())
                    .collect::<Vec<_>>(),
            )
            .bind(labels().map(|row| row.1).collect::<Vec<_>>())
            .bind(labels().map(|row| row.2).collect::<Vec<_>>())
            .bind(
                labels()
                    .map(|row| self.events[row.0].id.get())
                    .collect::<Vec<_>>(),
            )
            .bind(labels().map(|row| self.guards[row.0]).collect::<Vec<_>>())
            .bind(&self.due_at)
    }

    /// Adds what events have for order and time. To be called behind [`bind_keys`].
    pub(super) fn bind_order(&self, query: Bound) -> Bound {
        let events = || self.events.iter();
        query
            .bind(
                events()
                    .map(|event| event.ordering_key.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(events().map(|event| event.deliver_at).collect::<Vec<_>>())
            .bind(orders(&self.sent))
            .bind(orders(&self.held))
    }

    fn event_ids(&self, rows: &[(usize, NewDelivery)]) -> Vec<i64> {
        rows.iter()
            .map(|(place, _)| self.events[*place].id.get())
            .collect()
    }
}

fn subscriptions(rows: &[(usize, NewDelivery)]) -> Vec<i64> {
    rows.iter()
        .map(|(_, delivery)| delivery.subscription.get())
        .collect()
}

fn orders(rows: &[(usize, NewDelivery)]) -> Vec<Option<i64>> {
    rows.iter()
        .map(|(_, delivery)| delivery.order.map(OrderKey::get))
        .collect()
}

fn lanes(rows: &[(usize, NewDelivery)]) -> Vec<i16> {
    rows.iter()
        .map(|(_, delivery)| i16::from(delivery.lane.get()))
        .collect()
}

fn labels_text(event: &NewEvent) -> Option<String> {
    // Texts with texts for keys are JSON in any case.
    (!event.labels.is_empty()).then(|| serde_json::to_string(&event.labels).unwrap_or_default())
}

/// Adds the keys of these plans.
pub(super) fn bind_keys(query: Bound, plans: &[Plan], now: DateTime<Utc>) -> Bound {
    let rows = || {
        let numbered = plans.iter().enumerate();
        numbered
            .flat_map(|(number, plan)| plan.keys.iter().map(move |row| (guard(number, plan), row)))
    };
    query
        .bind(rows().map(|(_, row)| row.key.0).collect::<Vec<_>>())
        .bind(rows().map(|(_, row)| row.key.1).collect::<Vec<_>>())
        .bind(rows().map(|(_, row)| row.body_hash).collect::<Vec<_>>())
        .bind(
            rows()
                .map(|(_, row)| row.first.map(|(id, _)| id.get()))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows()
                .map(|(_, row)| row.first.map(|(_, deliveries)| deliveries.cast_signed()))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows()
                .map(|(_, row)| row.answer.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(rows().map(|(guard, _)| guard).collect::<Vec<_>>())
        .bind(now)
        .bind(now - ABANDONED)
}

/// Adds the rows that these plans were emitted in. To be called last.
pub(super) fn bind_emitted(query: Bound, plans: &[Plan]) -> Bound {
    let emitted = || {
        let numbered = plans.iter().enumerate();
        numbered.filter_map(|(number, plan)| Some((plan.emitted?, guard(number, plan))))
    };
    query
        .bind(emitted().map(|(row, _)| row.get()).collect::<Vec<_>>())
        .bind(emitted().map(|(_, guard)| guard).collect::<Vec<_>>())
}
