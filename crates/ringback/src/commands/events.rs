//! `ringback events`: what was emitted.

use clap::Subcommand;

use crate::{
    client::Client,
    commands::trigger::{self, TriggerArgs},
    output::{self, Column, Format},
};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("TYPE", "/type"),
    ("APP", "/app"),
    ("EXTERNAL ID", "/external_id"),
    ("CREATED", "/created_at"),
];

/// What to do with events.
#[derive(Clone, Debug, Subcommand)]
pub enum EventsCommand {
    /// Emit events; the same as `ringback trigger`
    Create(TriggerArgs),
    /// List events, newest first
    List {
        /// Of this application, by id or slug
        #[arg(long, default_value = "")]
        app: String,
        /// Of these types, like `order.*`
        #[arg(long = "type", default_value = "")]
        event_type: String,
        /// Accepted since then, like `2h` or `2026-01-05T09:00:00Z`
        #[arg(long, default_value = "")]
        since: String,
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one event
    Get {
        /// Its id
        event: String,
    },
}

/// Does it.
///
/// # Errors
///
/// If the service refuses or cannot be reached.
pub async fn run(client: &Client, command: &EventsCommand, format: Format) -> anyhow::Result<()> {
    match command {
        EventsCommand::Create(args) => trigger::run(client, args, format).await?,
        EventsCommand::List {
            app,
            event_type,
            since,
            limit,
        } => {
            let query = [
                ("app", &**app),
                ("type", &**event_type),
                ("since", &**since),
            ];
            output::items(
                format,
                &client.list("/v1/events", &query, *limit).await?,
                COLUMNS,
            )?;
        }
        EventsCommand::Get { event } => {
            output::item(format, &client.get(&format!("/v1/events/{event}")).await?)?;
        }
    }
    Ok(())
}
