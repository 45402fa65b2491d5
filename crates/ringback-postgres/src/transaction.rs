//! Transactions of several statements.
//!
//! Beginning one is not safe to drop half-way in sqlx 0.9: the connection would go
//! back to the pool inside a transaction that nobody ends. So this is the only place
//! that begins one, in a task that nobody drops.

use ringback_store::StoreError;
use sqlx::{PgPool, Postgres, Transaction};

use crate::failure::{failed, is_collision};

/// A transaction under way. Dropped without a commit, it is rolled back.
pub(crate) type Tx = Transaction<'static, Postgres>;

/// How often transactions may collide before their caller is told.
const TRIES: usize = 5;

/// Several statements that change things, each seeing what was committed before it.
const READ_COMMITTED: &str = "begin";
/// Several reads of one moment.
const SNAPSHOT: &str = "begin isolation level repeatable read, read only";

/// Runs `work`, which has to commit; again if it collided with another.
pub(crate) async fn transact<T, W, F>(pool: &PgPool, work: W) -> Result<T, StoreError>
where
    T: Send + 'static,
    W: FnOnce(Tx) -> F + Clone + Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send,
{
    retry_collisions(|| run(pool, READ_COMMITTED, work.clone())).await
}

/// Runs `work`, which has to commit, once.
pub(crate) async fn transact_once<T, W, F>(pool: &PgPool, work: W) -> Result<T, StoreError>
where
    T: Send + 'static,
    W: FnOnce(Tx) -> F + Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send,
{
    run(pool, READ_COMMITTED, work).await
}

/// Runs `work`, whose statements all read the same moment.
pub(crate) async fn snapshot<T, W, F>(pool: &PgPool, work: W) -> Result<T, StoreError>
where
    T: Send + 'static,
    W: FnOnce(Tx) -> F + Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send,
{
    run(pool, SNAPSHOT, work).await
}

/// Does `work` again while it collides with others.
pub(crate) async fn retry_collisions<T, F>(mut work: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for _ in 1..TRIES {
        match work().await {
            Err(error) if is_collision(&error) => {}
            done => return done,
        }
    }
    work().await
}

async fn run<T, W, F>(pool: &PgPool, begin: &'static str, work: W) -> Result<T, StoreError>
where
    T: Send + 'static,
    W: FnOnce(Tx) -> F + Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send,
{
    let pool = pool.clone();
    let task = tokio::spawn(async move {
        let tx = pool.begin_with(begin).await.map_err(failed)?;
        work(tx).await
    });
    task.await.map_err(StoreError::unavailable)?
}
