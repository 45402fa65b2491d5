//! Lists of deliveries: the outbox, the retries and what is settled, merged.
//!
//! Each of the three is read in the order of the list, newest event first, as far as
//! one page may go. What comes behind the place where any of them had to stop is left
//! for the next page.

mod candidates;
mod sources;

use ringback_model::{DeliveryId, DeliveryStatus, EventId, SubscriptionId};
use ringback_store::{Delivery, DeliveryCursor, DeliveryFilter, Page, StoreError};
use sqlx::{Connection, SqliteConnection, SqlitePool};

use self::sources::Found;
use crate::{events::the_app, failure::failed};

/// What to look for, in the terms of the tables.
#[derive(Debug)]
struct Search<'f> {
    filter: &'f DeliveryFilter,
    app: Option<i64>,
    /// Events from this id on.
    from: i64,
    /// Deliveries below this one.
    below: (i64, i64),
    /// Of these events alone: a JSON array.
    events: Option<String>,
    limit: u32,
}

/// See [`ringback_store::History::deliveries`].
pub(crate) async fn list(
    readers: &SqlitePool,
    filter: &DeliveryFilter,
    before: DeliveryCursor,
    limit: u32,
) -> Result<Page<Delivery, DeliveryCursor>, StoreError> {
    let Some(app) = the_app(filter.within, filter.app) else {
        return Ok(Page {
            items: Vec::new(),
            next: None,
        });
    };
    let before = (before.event.get(), before.subscription.get());
    let until = filter
        .until
        .map_or(before, |until| (EventId::floor(until).get(), i64::MIN));
    let mut search = Search {
        filter,
        app,
        from: filter.since.map_or(0, |since| EventId::floor(since).get()),
        below: before.min(until),
        events: None,
        limit,
    };
    let mut connection = readers.acquire().await.map_err(failed)?;
    // One snapshot, or a delivery that moves meanwhile could be missed.
    let mut snapshot = connection.begin().await.map_err(failed)?;
    let found = find(&mut snapshot, &mut search).await?;
    snapshot.rollback().await.map_err(failed)?;
    Ok(merge(found, limit as usize))
}

async fn find(
    connection: &mut SqliteConnection,
    search: &mut Search<'_>,
) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    if search.filter.event.is_some() || search.filter.label.is_some() {
        let (events, end) = candidates::candidates(connection, search).await?;
        search.events = Some(events);
        found.push(Found {
            deliveries: Vec::new(),
            end,
        });
    }
    let status = |statuses: &[DeliveryStatus]| {
        search
            .filter
            .status
            .is_none_or(|status| statuses.contains(&status))
    };
    let attempted = search.filter.status_code.is_some() || search.filter.error.is_some();
    if status(&[DeliveryStatus::Pending]) && !attempted {
        found.push(sources::outbox(connection, search).await?);
    }
    if status(&[
        DeliveryStatus::Pending,
        DeliveryStatus::Retrying,
        DeliveryStatus::Held,
    ]) {
        found.push(sources::retries(connection, search).await?);
    }
    if status(&[
        DeliveryStatus::Delivered,
        DeliveryStatus::Dead,
        DeliveryStatus::Cancelled,
    ]) {
        found.push(sources::settled(connection, search).await?);
    }
    Ok(found)
}

/// - `found`: live ones first, since they outrank settled ones.
fn merge(found: Vec<Found>, limit: usize) -> Page<Delivery, DeliveryCursor> {
    let end = found.iter().filter_map(|found| found.end).max();
    let mut items: Vec<Delivery> = found
        .into_iter()
        .flat_map(|found| found.deliveries)
        .filter(|delivery| end.is_none_or(|end| delivery.id >= end))
        .collect();
    // Stable, so that of two of the same delivery the live one stays first.
    items.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
    items.dedup_by_key(|delivery| delivery.id);
    let cut = items.len() > limit;
    items.truncate(limit);
    let next = if cut {
        items.last().map(|last| last.id)
    } else {
        end
    };
    Page { items, next }
}

fn place(event: i64, subscription: i64) -> DeliveryId {
    DeliveryId {
        event: EventId::new(event),
        subscription: SubscriptionId::new(subscription),
    }
}
