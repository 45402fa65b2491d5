//! Databases for tests: each test has a fresh, migrated one, which is gone with it.
//!
//! PostgreSQL's are made on the server that `scripts/test` starts, or that
//! `RINGBACK_TEST_DATABASE_URL` names; without one a test fails, it never skips.

use std::{env, ops::Deref, sync::Arc};

use async_trait::async_trait;
use ringback_model::IdGenerator;
use ringback_store::Store;

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
pub use postgres::fresh_postgres;

#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
pub use sqlite::fresh_sqlite;

#[cfg(feature = "postgres")]
mod server;

mod cluster;
pub use cluster::PrivatePostgres;

/// A store on a database of its own, made ready for [`crate::seed::START`] and for
/// the present.
///
/// It is used like the [`Store`] that it is. Its database is dropped with it.
pub struct TestStore {
    // Before the database, so that it lets go of it first.
    store: Arc<dyn Store>,
    database: Box<dyn Database>,
    /// Makes the ids of this store's seeds.
    pub ids: IdGenerator,
}

/// A database behind a store, as the two kinds of it differ.
#[async_trait]
trait Database: Send + Sync {
    fn url(&self) -> &str;
    async fn execute(&self, sql: &str) -> Result<(), sqlx::Error>;
    async fn number(&self, sql: &str) -> Result<i64, sqlx::Error>;
}

impl TestStore {
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    fn new(store: Arc<dyn Store>, database: impl Database + 'static) -> Self {
        Self {
            store,
            database: Box::new(database),
            ids: IdGenerator::new(crate::seed::NODE),
        }
    }

    /// The store, for tasks that outlive a borrow.
    pub fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// What `--database-url` takes, for a whole service on this database.
    pub fn url(&self) -> &str {
        self.database.url()
    }

    /// Whether this is PostgreSQL, for what is promised of it alone.
    pub fn is_postgres(&self) -> bool {
        self.url().starts_with("postgres")
    }

    /// Runs SQL behind the store's back. Tables have the same names on both
    /// databases, with or without `ringback.` before them.
    ///
    /// # Panics
    ///
    /// If the database refuses it.
    pub async fn execute(&self, sql: &str) {
        self.database.execute(sql).await.unwrap()
    }

    /// The one integer that a query gives.
    ///
    /// # Panics
    ///
    /// If it gives anything else.
    pub async fn number(&self, sql: &str) -> i64 {
        self.database.number(sql).await.unwrap()
    }

    /// How many rows of `table` fulfil `condition`, like `attempts_made > 1`; an empty
    /// one counts all.
    pub async fn count(&self, table: &str, condition: &str) -> i64 {
        let condition = if condition.is_empty() {
            "true"
        } else {
            condition
        };
        self.number(&format!("select count(*) from {table} where {condition}"))
            .await
    }
}

impl Deref for TestStore {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

/// What `scripts/test` tells the tests.
///
/// # Panics
///
/// If it told nothing.
pub(crate) fn from_scripts_test(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests with scripts/test, which prepares what they need")
    })
}

#[cfg(all(test, feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::seed::{self, START};

    #[tokio::test]
    async fn every_fresh_database_is_empty_and_its_own() {
        for [one, other] in [
            [fresh_postgres().await, fresh_postgres().await],
            [fresh_sqlite().await, fresh_sqlite().await],
        ] {
            seed::app(&one, "billing", START).await;
            assert_eq!(
                (one.count("apps", "").await, other.count("apps", "").await),
                (1, 0)
            );
            assert_ne!(one.url(), other.url());
        }
    }

    #[tokio::test]
    async fn sql_is_the_same_on_both_databases() {
        for store in [fresh_postgres().await, fresh_sqlite().await] {
            seed::app(&store, "billing", START).await;
            seed::app(&store, "shipping", START).await;
            store
                .execute("delete from ringback.apps where slug = 'billing'")
                .await;
            assert_eq!(store.count("ringback.apps", "").await, 1);
            assert_eq!(store.count("apps", "slug = 'billing'").await, 0);
            assert_eq!(
                store
                    .number("select length(max(slug)) from ringback.apps")
                    .await,
                8
            );
        }
    }
}
