//! `ringback migrate`: brings the database's schema up to this version.

use crate::{database::Database, output, settings::Settings};

/// Brings the schema up, or says what that would do.
///
/// # Errors
///
/// If the database cannot be opened, or a migration fails.
pub async fn run(settings: &Settings, plan: bool) -> anyhow::Result<()> {
    let database = Database::open(&settings.database()?).await?;
    let (names, verb) = if plan {
        (database.pending_migrations().await?, "would apply")
    } else {
        (database.migrate().await?, "applied")
    };
    for name in &names {
        output::line(format_args!("{verb} {name}"))?;
    }
    if names.is_empty() {
        output::line("the schema is up to date")?;
    }
    database.close().await;
    Ok(())
}
