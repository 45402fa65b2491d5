//! The schema, and how it is brought up to date.

use std::{collections::HashSet, sync::LazyLock};

use sqlx::{
    PgPool, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
};

use crate::connect::pool;

/// The schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be reached, or refused a question about what it has.
    #[error("the database did not answer")]
    Unavailable(#[from] sqlx::Error),
    /// A migration failed, or what was applied before is not what is known here.
    #[error("a migration could not be applied")]
    Refused(#[from] sqlx::migrate::MigrateError),
    /// The task that did it ended early.
    #[error("the migration was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// A file of `migrations/`, by its number and name.
macro_rules! file {
    ($number:literal, $name:literal) => {
        (
            $number,
            $name,
            include_str!(concat!(
                "../../../migrations/postgres/000",
                $number,
                "_",
                $name,
                ".sql"
            )),
        )
    };
}

/// Every migration, in order. A file that was released is never changed.
const FILES: &[(i64, &str, &str)] = &[
    file!(1, "registry"),
    file!(2, "events"),
    file!(3, "outbox"),
    file!(4, "nodes"),
    file!(5, "order"),
    file!(6, "payload_filter"),
    file!(7, "retention"),
    file!(8, "health"),
    file!(9, "emit"),
    (
        10,
        "quotas",
        include_str!("../../../migrations/postgres/0010_quotas.sql"),
    ),
];

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        let kind = MigrationType::Simple;
        Migration::new(version, name.into(), kind, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(FILES.iter().copied().map(migration).collect());
    migrator.create_schema("ringback");
    migrator.dangerous_set_table_name("ringback.migrations");
    migrator
});

/// Applies what is missing; answers what that was, oldest first.
pub(crate) async fn migrate(options: &PgConnectOptions) -> Result<Vec<String>, MigrateError> {
    // Rewriting a large table takes its time, and so does another who migrates.
    let options = options
        .clone()
        .options([("statement_timeout", "0"), ("lock_timeout", "0")]);
    let task = tokio::spawn(async move {
        let pool = pool(options, 1);
        let missing = missing(&pool).await?;
        // Also when nothing is missing: it checks that what was applied is what is here.
        MIGRATOR.run(&pool).await?;
        pool.close().await;
        Ok(missing)
    });
    task.await?
}

/// What [`migrate`] would apply.
pub(crate) async fn pending(pool: &PgPool) -> Result<Vec<String>, MigrateError> {
    Ok(missing(pool).await?)
}

async fn missing(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    let begun: bool = sqlx::query_scalar("select to_regclass('ringback.migrations') is not null")
        .fetch_one(pool)
        .await?;
    let applied: Vec<i64> = if begun {
        sqlx::query_scalar("select version from ringback.migrations where success")
            .fetch_all(pool)
            .await?
    } else {
        Vec::new()
    };
    let applied: HashSet<i64> = applied.into_iter().collect();
    let missing = FILES
        .iter()
        .filter(|(version, ..)| !applied.contains(version));
    Ok(missing
        .map(|(version, name, _)| format!("{version:04}_{name}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_migration_in_its_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/postgres");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let known = |(version, name, _): &(i64, &str, &str)| format!("{version:04}_{name}.sql");
        assert_eq!(names, FILES.iter().map(known).collect::<Vec<_>>());
    }
}
