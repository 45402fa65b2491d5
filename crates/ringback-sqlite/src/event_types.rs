//! Event types by number: rows hold the number, memory knows the name.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use ringback_model::EventType;
use ringback_store::StoreError;
use sqlx::SqliteConnection;

use crate::{
    columns::{event_type, json},
    failure::failed,
    writer::Writer,
};

/// How many are remembered: a producer that makes up types must not fill the memory.
const REMEMBERED: usize = 50_000;

/// Numbers of event types. A type keeps its number for ever.
#[derive(Debug, Default)]
pub(crate) struct EventTypes(RwLock<HashMap<EventType, i64>>);

impl EventTypes {
    /// The numbers of these types, in their order. New types are stored first, in a
    /// commit of their own: what is remembered here must not be rolled back.
    pub(crate) async fn numbers<'t>(
        &self,
        writer: &Writer,
        types: impl Iterator<Item = &'t EventType> + Clone,
    ) -> Result<Vec<i64>, StoreError> {
        if let Some(numbers) = self.known(types.clone()) {
            return Ok(numbers);
        }
        let names: Vec<EventType> = types.clone().cloned().collect();
        let stored: HashMap<EventType, i64> = writer
            .run(move |connection| {
                let names = json(&names);
                Box::pin(store(connection, names))
            })
            .await?;
        let numbers = types
            .map(|name| stored.get(name).copied().ok_or_else(missing))
            .collect();
        self.remember(stored);
        numbers
    }

    fn known<'t>(&self, types: impl Iterator<Item = &'t EventType>) -> Option<Vec<i64>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        types.map(|name| known.get(name).copied()).collect()
    }

    fn remember(&self, stored: HashMap<EventType, i64>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() + stored.len() > REMEMBERED {
            known.clear();
        }
        known.extend(stored);
    }
}

/// - `names`: a JSON array.
async fn store(
    connection: &mut SqliteConnection,
    names: String,
) -> Result<HashMap<EventType, i64>, StoreError> {
    let insert = "insert into event_types (name) select value from json_each(?1) where true \
                  on conflict (name) do nothing";
    sqlx::query(insert)
        .bind(&names)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select name, id from event_types where name in (select value from json_each(?1))",
    )
    .bind(names)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|(name, id)| Ok((event_type(name)?, id)))
        .collect()
}

fn missing() -> StoreError {
    crate::columns::Column("event_types", "name").corrupt()
}
