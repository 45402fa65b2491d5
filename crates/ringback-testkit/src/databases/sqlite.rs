//! One test's database in SQLite.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use ringback_sqlite::{SqliteOptions, SqliteStore};
use ringback_store::{Lanes, Maintain};
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::{Database, TestStore};
use crate::seed;

/// A fresh, migrated database in a file of its own.
pub async fn fresh_sqlite() -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringback.db");
    let url = format!("sqlite:{}", path.display());
    let options = SqliteOptions {
        path: path.clone(),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(options).await.unwrap();
    store.migrate().await.unwrap();
    store.tend(seed::START).await.unwrap();
    store.tend(store.now().await.unwrap()).await.unwrap();
    let database = SqliteDatabase {
        path,
        url,
        _folder: folder,
    };
    TestStore::new(Arc::new(store), database)
}

pub(super) struct SqliteDatabase {
    path: PathBuf,
    url: String,
    _folder: TempDir,
}

#[async_trait]
impl Database for SqliteDatabase {
    fn url(&self) -> &str {
        &self.url
    }

    async fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(without_schema(sql));
        sqlx::raw_sql(sql)
            .execute(&mut self.connection().await?)
            .await
            .map(drop)
    }

    async fn number(&self, sql: &str) -> Result<i64, sqlx::Error> {
        let query = sqlx::query_scalar(AssertSqlSafe(without_schema(sql)));
        query.fetch_one(&mut self.connection().await?).await
    }
}

impl SqliteDatabase {
    async fn connection(&self) -> Result<SqliteConnection, sqlx::Error> {
        let options = SqliteConnectOptions::new().filename(&self.path);
        options
            .busy_timeout(Duration::from_secs(10))
            .connect()
            .await
    }
}

fn without_schema(sql: &str) -> String {
    sql.replace("ringback.", "")
}
