//! The PostgreSQL server that all tests of this process share.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::runtime::{Builder, Runtime};

use super::from_scripts_test;

/// Of advisory locks: "this process's databases are in use".
const LOCK_CLASS: i32 = 0x52_42_4b;

/// The server, by connections on threads of their own: databases are also dropped where
/// a test's runtime is gone.
///
/// Nobody waits for a drop. What is left when the process ends is dropped by the next
/// one: nobody holds its lock any more.
pub(super) struct Server {
    url: String,
    /// Of the names of this process's databases.
    prefix: String,
    count: AtomicU32,
    orders: mpsc::Sender<Order>,
    to_drop: mpsc::Sender<String>,
}

struct Order {
    sql: String,
    done: mpsc::Sender<Result<(), sqlx::Error>>,
}

impl Server {
    /// The one of this process.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(super) fn get() -> &'static Self {
        static SERVER: LazyLock<Server> = LazyLock::new(Server::start);
        // Before the lock is tried, so that each test says what is missing.
        from_scripts_test("RINGBACK_TEST_DATABASE_URL");
        &SERVER
    }

    fn start() -> Self {
        let url = from_scripts_test("RINGBACK_TEST_DATABASE_URL");
        let (orders, inbox) = mpsc::channel();
        let (to_drop, dropping) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let (carrying_out, sweeping) = (url.clone(), url.clone());
        thread::spawn(move || carry_out(&carrying_out, &ready, &inbox));
        thread::spawn(move || sweep(&sweeping, &dropping));
        let prefix = started.recv().unwrap_or_else(|_| {
            panic!("the server of RINGBACK_TEST_DATABASE_URL does not answer: see above")
        });
        Self {
            url,
            prefix,
            count: AtomicU32::new(0),
            orders,
            to_drop,
        }
    }

    /// A name that no other database has.
    pub(super) fn fresh_name(&self) -> String {
        format!(
            "{}{}",
            self.prefix,
            self.count.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Runs one statement on the server's own database; returns when it is done.
    pub(super) fn execute(&self, sql: String) -> Result<(), sqlx::Error> {
        let (done, answer) = mpsc::channel();
        let lost = |_| sqlx::Error::WorkerCrashed;
        self.orders
            .send(Order { sql, done })
            .map_err(|_| sqlx::Error::WorkerCrashed)?;
        answer.recv().map_err(lost)?
    }

    /// Drops a database soon.
    pub(super) fn drop_database(&self, name: String) {
        // If the thread has ended, it has said why.
        let _ = self.to_drop.send(name);
    }

    /// The URL of another database on this server.
    pub(super) fn url_of(&self, database: &str) -> String {
        with_database(&self.url, database)
    }
}

/// Replaces the path of a PostgreSQL URL.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url.split_at(url.find('?').unwrap_or(url.len()));
    let (scheme, rest) = base.split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{authority}/{database}{query}")
}

fn carry_out(url: &str, ready: &mpsc::Sender<String>, inbox: &mpsc::Receiver<Order>) {
    let runtime = runtime();
    let mut connection = runtime.block_on(PgConnection::connect(url)).unwrap();
    ready
        .send(runtime.block_on(claim_prefix(&mut connection)).unwrap())
        .unwrap();
    while let Ok(order) = inbox.recv() {
        let result = runtime.block_on(execute(&mut connection, order.sql));
        // Whoever ordered may have panicked meanwhile.
        let _ = order.done.send(result);
    }
}

fn sweep(url: &str, dropping: &mpsc::Receiver<String>) {
    let runtime = runtime();
    let mut connection = runtime.block_on(PgConnection::connect(url)).unwrap();
    runtime.block_on(drop_left_behind(&mut connection)).unwrap();
    while let Ok(name) = dropping.recv() {
        runtime
            .block_on(drop_database(&mut connection, &name))
            .unwrap();
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Locks a number for as long as this process lives, and names its databases by it.
async fn claim_prefix(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let mut number = std::process::id().cast_signed();
    while !try_lock(connection, number).await? {
        number = number.wrapping_add(1);
    }
    Ok(format!("ringback_test_{number}_"))
}

/// Drops what processes could not that have ended.
async fn drop_left_behind(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where datname like 'ringback_test_%'")
            .fetch_all(&mut *connection)
            .await?;
    for name in names {
        let number = name
            .split('_')
            .nth(2)
            .and_then(|number| number.parse().ok());
        let Some(number) = number else { continue };
        if try_lock(connection, number).await? {
            drop_database(connection, &name).await?;
            unlock(connection, number).await?;
        }
    }
    Ok(())
}

async fn try_lock(connection: &mut PgConnection, number: i32) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
        .bind(LOCK_CLASS)
        .bind(number)
        .fetch_one(connection)
        .await
}

async fn unlock(connection: &mut PgConnection, number: i32) -> Result<(), sqlx::Error> {
    let unlocking = sqlx::query("select pg_advisory_unlock($1, $2)")
        .bind(LOCK_CLASS)
        .bind(number);
    unlocking.execute(connection).await.map(drop)
}

async fn drop_database(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    execute(
        connection,
        format!("drop database if exists {name} with (force)"),
    )
    .await
}

async fn execute(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_of_a_url_is_replaced() {
        let cases = [
            ("postgres://a:b@h:1/x", "postgres://a:b@h:1/new"),
            ("postgres://h", "postgres://h/new"),
            (
                "postgres://u@localhost/x?host=/tmp/d",
                "postgres://u@localhost/new?host=/tmp/d",
            ),
        ];
        for (url, expected) in cases {
            assert_eq!(with_database(url, "new"), expected);
        }
    }
}
