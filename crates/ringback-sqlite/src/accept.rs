//! Accepts events: one transaction writes them, their deliveries and their keys.
//!
//! Only one transaction writes at a time, so keys are looked up and judged before
//! anything is written: there is no race to lose.

mod judge;
mod write;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ringback_store::{
    Accept, AcceptItem, AcceptOutcome, AppRef, AppRoutes, EmittedId, EmittedPage, RouteChanges,
    StoreError,
};
use sqlx::SqliteConnection;

use self::judge::Judge;
use crate::{
    SqliteStore, emitted,
    failure::failed,
    routes,
    writer::{Writer, commit},
};

#[async_trait]
impl Accept for SqliteStore {
    async fn accept(
        &self,
        items: Vec<AcceptItem>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Result<AcceptOutcome, StoreError>>, StoreError> {
        let types = items
            .iter()
            .flat_map(|item| &item.events)
            .map(|event| &event.event_type);
        let types = self.0.event_types.numbers(&self.0.writer, types).await?;
        accept(&self.0.writer, Batch::new(items, types, now)).await
    }

    async fn routes(&self, app: &AppRef) -> Result<Option<AppRoutes>, StoreError> {
        routes::all(&self.0.readers, app).await
    }

    async fn routes_since(
        &self,
        app: &AppRef,
        version: i64,
    ) -> Result<Option<RouteChanges>, StoreError> {
        routes::since(&self.0.readers, app, version).await
    }

    async fn emitted(
        &self,
        after: EmittedId,
        except: &[EmittedId],
        limit: u32,
    ) -> Result<EmittedPage, StoreError> {
        emitted::page(&self.0.readers, after, except, limit).await
    }

    async fn discard_emitted(&self, rows: &[EmittedId]) -> Result<Vec<EmittedId>, StoreError> {
        let rows = Arc::new(rows.to_vec());
        commit!(self, |connection, rows| emitted::discard(connection, &rows))
    }
}

/// What one caller wants accepted.
#[derive(Debug)]
struct Batch {
    items: Vec<AcceptItem>,
    /// The numbers of all events' types, in order.
    types: Vec<i64>,
    now: DateTime<Utc>,
}

impl Batch {
    fn new(items: Vec<AcceptItem>, types: Vec<i64>, now: DateTime<Utc>) -> Self {
        Self { items, types, now }
    }

    /// Each item by itself.
    fn split(&self) -> Vec<Self> {
        let mut types = self.types.iter().copied();
        let alone = |item: &AcceptItem| {
            let types = types.by_ref().take(item.events.len()).collect();
            Self::new(vec![item.clone()], types, self.now)
        };
        self.items.iter().map(alone).collect()
    }
}

/// Writes a batch whole; if the database refuses it, its items one by one.
async fn accept(
    writer: &Writer,
    batch: Batch,
) -> Result<Vec<Result<AcceptOutcome, StoreError>>, StoreError> {
    let batch = Arc::new(batch);
    match write_batch(writer, &batch).await {
        Ok(outcomes) => Ok(outcomes.into_iter().map(Ok).collect()),
        Err(error @ StoreError::Unavailable(_)) => Err(error),
        Err(error) if batch.items.len() == 1 => Ok(vec![Err(error)]),
        Err(_) => {
            let mut outcomes = Vec::with_capacity(batch.items.len());
            for item in batch.split() {
                match write_batch(writer, &Arc::new(item)).await {
                    Ok(alone) => outcomes.extend(alone.into_iter().map(Ok)),
                    Err(error) => outcomes.push(Err(error)),
                }
            }
            Ok(outcomes)
        }
    }
}

async fn write_batch(
    writer: &Writer,
    batch: &Arc<Batch>,
) -> Result<Vec<AcceptOutcome>, StoreError> {
    let batch = Arc::clone(batch);
    writer
        .run(move |connection| {
            let batch = Arc::clone(&batch);
            Box::pin(async move { judge_and_write(connection, &batch).await })
        })
        .await
}

async fn judge_and_write(
    connection: &mut SqliteConnection,
    batch: &Batch,
) -> Result<Vec<AcceptOutcome>, StoreError> {
    let apps: BTreeSet<i64> = batch
        .items
        .iter()
        .flat_map(|item| &item.events)
        .map(|event| event.app.get())
        .collect();
    let versions = versions(connection, &apps).await?;
    let known = judge::look_up(connection, &batch.items).await?;
    let emitted: Vec<EmittedId> = batch.items.iter().filter_map(|item| item.emitted).collect();
    let emitted = emitted::present(connection, &emitted).await?;
    let mut judge = Judge::new(versions, known, emitted, batch.now);
    let outcomes = judge.judge_all(&batch.items, &batch.types)?;
    write::write(connection, &judge.to_write, batch.now).await?;
    if !judge.to_write.picked_up.is_empty() {
        emitted::discard(connection, &judge.to_write.picked_up).await?;
    }
    Ok(outcomes)
}

/// The versions of these applications; deleted ones have none.
async fn versions(
    connection: &mut SqliteConnection,
    apps: &BTreeSet<i64>,
) -> Result<Vec<(i64, i64)>, StoreError> {
    sqlx::query_as(
        "select a.id, a.version from json_each(?1) j cross join apps a on a.id = j.value \
         where a.deleted_at is null",
    )
    .bind(crate::columns::json(apps))
    .fetch_all(connection)
    .await
    .map_err(failed)
}

/// See [`ringback_store::Usage::came_before`].
pub(crate) async fn came_before(
    connection: &mut SqliteConnection,
    item: &AcceptItem,
    now: DateTime<Utc>,
) -> Result<Option<AcceptOutcome>, StoreError> {
    let known = judge::look_up(connection, std::slice::from_ref(item)).await?;
    Judge::new(Vec::new(), known, Vec::new(), now).came_before(item)
}
