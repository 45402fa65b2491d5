//! Event types by number, so that rows are small.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use ringback_model::{EventType, EventTypePattern};
use ringback_store::StoreError;
use sqlx::PgPool;

use crate::{failure::failed, transaction::Tx};

/// More than any catalogue of people; a producer that makes up types pays for it.
const REMEMBERED: usize = 10_000;

/// How often another may number the same new type at the same moment.
const TRIES: usize = 5;

/// Numbers that were given, which never change.
#[derive(Debug, Default)]
pub(crate) struct EventTypes(RwLock<HashMap<EventType, i32>>);

impl EventTypes {
    /// The numbers of `types`, in their order; new types get one.
    pub(crate) async fn numbers<'t>(
        &self,
        pool: &PgPool,
        types: impl Iterator<Item = &'t EventType> + Clone,
    ) -> Result<Vec<i32>, StoreError> {
        for _ in 0..TRIES {
            let unknown = match self.known(types.clone()) {
                Ok(numbers) => return Ok(numbers),
                Err(unknown) => unknown,
            };
            self.remember(number(pool, &unknown).await?);
        }
        Err(failed(sqlx::Error::RowNotFound))
    }

    /// The numbers, or the names that have none here.
    fn known<'t>(
        &self,
        types: impl Iterator<Item = &'t EventType> + Clone,
    ) -> Result<Vec<i32>, Vec<&'t str>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let numbers: Option<Vec<i32>> =
            types.clone().map(|name| known.get(name).copied()).collect();
        let unknown = || {
            types
                .filter(|name| !known.contains_key(name))
                .map(EventType::as_str)
        };
        numbers.ok_or_else(|| unknown().collect())
    }

    fn remember(&self, rows: Vec<(i32, EventType)>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() + rows.len() > REMEMBERED {
            known.clear();
        }
        known.extend(rows.into_iter().map(|(id, name)| (name, id)));
    }
}

/// Numbers of the types that a pattern means.
pub(crate) async fn matching(
    tx: &mut Tx,
    pattern: &EventTypePattern,
) -> Result<Option<Vec<i32>>, StoreError> {
    let (sql, text) = match pattern {
        EventTypePattern::Any => return Ok(None),
        EventTypePattern::Exactly(name) => (
            "select id from ringback.event_types where name = $1",
            name.as_str(),
        ),
        EventTypePattern::Below(prefix) => (
            "select id from ringback.event_types where starts_with(name, $1)",
            prefix.as_str(),
        ),
    };
    sqlx::query_scalar(sql)
        .bind(text)
        .fetch_all(&mut **tx)
        .await
        .map(Some)
        .map_err(failed)
}

/// A type's name, as a row gives it.
pub(crate) fn named(name: String) -> Result<EventType, StoreError> {
    let corrupt = StoreError::Corrupt {
        table: "event_types",
        column: "name",
    };
    EventType::try_from(name).map_err(|_| corrupt)
}

/// Numbers what is new. What another numbers at the same moment is not seen yet, and
/// is left out.
async fn number(pool: &PgPool, names: &[&str]) -> Result<Vec<(i32, EventType)>, StoreError> {
    // Looked up first: a conflict would use up a number each time. In order, so that
    // two who number the same types wait for each other in one direction.
    let rows: Vec<(i32, String)> = sqlx::query_as(
        r#"
        with old as (
            select id, name from ringback.event_types where name = any($1)
        ), new as (
            insert into ringback.event_types (name)
            select distinct name from unnest($1) as t (name)
            where name not in (select name from old)
            order by name
            on conflict do nothing
            returning id, name
        )
        select id, name from old union all select id, name from new
        "#,
    )
    .bind(names)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|(id, name)| Ok((id, named(name)?)))
        .collect()
}
