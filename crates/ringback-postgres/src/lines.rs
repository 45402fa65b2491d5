//! A few connections that are kept for one hot statement each.
//!
//! The general pool asks a connection whether it is still alive each time it comes
//! back. Here that would be a round trip for every batch.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ringback_store::StoreError;
use sqlx::{
    ConnectOptions, Connection, PgConnection, Postgres,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::sync::Semaphore;

use crate::failure::{failed, is_unavailable};

/// Longer than any statement may run on the server: only a dead line is this silent.
const SILENCE: Duration = Duration::from_secs(15);

/// Connections for single statements.
#[derive(Debug)]
pub(crate) struct Lines {
    options: PgConnectOptions,
    free: Mutex<Vec<PgConnection>>,
    room: Semaphore,
}

impl Lines {
    /// At most `count` connections, made when they are first needed.
    pub(crate) fn new(options: PgConnectOptions, count: usize) -> Arc<Self> {
        Arc::new(Self {
            options,
            free: Mutex::default(),
            room: Semaphore::new(count),
        })
    }

    /// Runs one statement and brings its rows.
    ///
    /// It runs in a task of its own: a caller that goes away neither stops it half-way
    /// nor leaves a connection in the middle of an answer.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let lines = Arc::clone(self);
        let task = tokio::spawn(async move { lines.fetch_here(query).await });
        task.await.map_err(StoreError::unavailable)?.map_err(failed)
    }

    /// Closes what is free; a statement that still runs closes its own when it ends.
    pub(crate) async fn close(&self) {
        self.room.close();
        let free = std::mem::take(&mut *self.free.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in free {
            // The server notices by itself if this fails.
            let _ = connection.close().await;
        }
    }

    async fn fetch_here(
        &self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let _room = self
            .room
            .acquire()
            .await
            .map_err(|_| sqlx::Error::PoolClosed)?;
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let run = async {
            let mut connection = match free {
                Some(connection) => connection,
                None => self.options.connect().await?,
            };
            let result = query.fetch_all(&mut connection).await;
            Ok::<_, sqlx::Error>((connection, result))
        };
        let (connection, result) = tokio::time::timeout(SILENCE, run)
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)??;
        self.put_back(connection, &result);
        result
    }

    fn put_back(&self, connection: PgConnection, result: &Result<Vec<PgRow>, sqlx::Error>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if result.as_ref().is_err_and(is_unavailable) {
            // Whatever broke this one most likely broke the others.
            free.clear();
        } else if !self.room.is_closed() {
            free.push(connection);
        }
    }
}
