//! Brings a database's schema up to this version.

use std::{collections::HashSet, sync::LazyLock};

use sqlx::{
    ConnectOptions, Connection, SqlSafeStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};
use tokio::task::JoinError;

/// A file of `migrations/`, by its number and name.
macro_rules! file {
    ($number:literal, $name:literal) => {
        (
            $number,
            $name,
            include_str!(concat!(
                "../../../migrations/sqlite/000",
                $number,
                "_",
                $name,
                ".sql"
            )),
        )
    };
}

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
        include_str!("../../../migrations/sqlite/0010_quotas.sql"),
    ),
];

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        let kind = MigrationType::Simple;
        Migration::new(version, name.into(), kind, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(FILES.iter().copied().map(migration).collect());
    migrator.dangerous_set_table_name("migrations");
    migrator
});

/// A schema was not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database failed.
    #[error("the database failed while its schema was brought up to date")]
    Database(#[from] sqlx::Error),
    /// A migration failed, or what was applied before is not what is here.
    #[error("the schema could not be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The task ended early: the process is shutting down.
    #[error("bringing the schema up to date was cut short")]
    Aborted(#[from] JoinError),
}

/// Applies what is missing, all or nothing; answers what that was, oldest first.
pub(crate) async fn migrate(options: SqliteConnectOptions) -> Result<Vec<String>, MigrateError> {
    // In a task of its own: a caller that goes away leaves no transaction behind.
    let task = tokio::spawn(async move {
        let mut connection = options.connect().await?;
        // Begun as a writer, so that two processes take turns.
        let mut transaction = connection.begin_with("begin immediate").await?;
        let missing = missing(&mut transaction).await?;
        // Also when nothing is missing: it checks that what was applied is what is here.
        // `run` is the same for a pool or a connection; in a task it does not compile.
        MIGRATOR.run_direct(None, &mut *transaction, false).await?;
        transaction.commit().await?;
        connection.close().await?;
        Ok(missing)
    });
    task.await?
}

/// What [`migrate`] would apply.
pub(crate) async fn pending(options: SqliteConnectOptions) -> Result<Vec<String>, MigrateError> {
    let mut connection = options.connect().await?;
    let missing = missing(&mut connection).await?;
    connection.close().await?;
    Ok(missing)
}

async fn missing(connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    let begun: bool = sqlx::query_scalar(
        "select exists (select 1 from sqlite_schema where type = 'table' and name = 'migrations')",
    )
    .fetch_one(&mut *connection)
    .await?;
    let applied: Vec<i64> = if begun {
        sqlx::query_scalar("select version from migrations where success")
            .fetch_all(connection)
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
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let known = |(version, name, _): &(i64, &str, &str)| format!("{version:04}_{name}.sql");
        assert_eq!(names, FILES.iter().map(known).collect::<Vec<_>>());
    }
}
