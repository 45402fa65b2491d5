//! One test's database in PostgreSQL.

use std::{str::FromStr, sync::Arc};

use async_trait::async_trait;
use ringback_postgres::{PostgresOptions, PostgresStore};
use ringback_store::{Lanes, Maintain};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

use super::{Database, TestStore, server::Server};
use crate::seed;

/// A fresh, migrated database on the server of the tests.
///
/// # Panics
///
/// If there is no server: run the tests with `scripts/test`.
pub async fn fresh_postgres() -> TestStore {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let server = Server::get();
    let template = TEMPLATE.get_or_init(|| make_template(server)).await;
    let name = server.fresh_name();
    server
        .execute(format!("create database {name} template {template}"))
        .unwrap();
    let database = PostgresDatabase {
        url: server.url_of(&name),
        name,
    };
    let store = connect(database.url()).await;
    TestStore::new(Arc::new(store), database)
}

/// Migrates once; every test's database is a copy.
async fn make_template(server: &Server) -> String {
    let name = server.fresh_name();
    server.execute(format!("create database {name}")).unwrap();
    let store = connect(&server.url_of(&name)).await;
    store.migrate().await.unwrap();
    store.tend(seed::START).await.unwrap();
    store.tend(store.now().await.unwrap()).await.unwrap();
    drop(store);
    // A copy is refused while anybody is connected.
    server
        .execute(format!(
            "alter database {name} with allow_connections false"
        ))
        .unwrap();
    let connected = format!("pg_stat_activity where datname = '{name}'");
    server
        .execute(format!(
            "select pg_terminate_backend(pid, 10000) from {connected}"
        ))
        .unwrap();
    name
}

async fn connect(url: &str) -> PostgresStore {
    let options = PostgresOptions {
        url: url.to_owned(),
        ..PostgresOptions::default()
    };
    PostgresStore::connect(options).await.unwrap()
}

pub(super) struct PostgresDatabase {
    name: String,
    url: String,
}

#[async_trait]
impl Database for PostgresDatabase {
    fn url(&self) -> &str {
        &self.url
    }

    async fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql)
            .execute(&mut self.connection().await?)
            .await
            .map(drop)
    }

    async fn number(&self, sql: &str) -> Result<i64, sqlx::Error> {
        let query = sqlx::query_scalar(AssertSqlSafe(format!("select ({sql})::int8")));
        query.fetch_one(&mut self.connection().await?).await
    }
}

impl PostgresDatabase {
    async fn connection(&self) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::from_str(&self.url)?;
        options
            .options([("search_path", "ringback,public")])
            .connect()
            .await
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        Server::get().drop_database(std::mem::take(&mut self.name));
    }
}
