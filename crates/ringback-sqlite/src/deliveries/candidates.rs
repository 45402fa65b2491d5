//! Which events a list is about, when it names one or a label.

use ringback_model::DeliveryId;
use ringback_store::StoreError;
use sqlx::SqliteConnection;

use super::{Search, place};
use crate::{columns::json, failure::failed};

/// How many events of a label one page looks at.
const AT_ONCE: u32 = 100;

/// The events, newest first, as a JSON array; and where the next page goes on.
pub(super) async fn candidates(
    connection: &mut SqliteConnection,
    search: &Search<'_>,
) -> Result<(String, Option<DeliveryId>), StoreError> {
    let (name, value) = search
        .filter
        .label
        .as_ref()
        .map(|(name, value)| (name, value))
        .unzip();
    let text = match (search.filter.event, &search.filter.label) {
        (Some(_), None) => "select id from events where id = ?1 and id >= ?2 and id <= ?3 limit ?7",
        _ => {
            "select event_id from event_labels \
             where app_id in (select id from apps where ?4 is null or id = ?4) \
             and name = ?5 and value = ?6 and event_id >= ?2 and event_id <= ?3 \
             and (?1 is null or event_id = ?1) order by event_id desc limit ?7"
        }
    };
    let events: Vec<i64> = sqlx::query_scalar(text)
        .bind(search.filter.event.map(|event| event.get()))
        .bind(search.from)
        .bind(search.below.0)
        .bind(search.app)
        .bind(name)
        .bind(value)
        .bind(AT_ONCE)
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    // The last of them is looked at whole.
    let end = events.last().filter(|_| events.len() >= AT_ONCE as usize);
    Ok((json(&events), end.map(|&last| place(last, 0))))
}
