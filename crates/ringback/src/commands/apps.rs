//! `ringback apps`: applications.

use clap::Subcommand;
use serde_json::json;

use crate::{
    client::Client,
    output::{self, Column, Format},
};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("SLUG", "/slug"),
    ("NAME", "/name"),
    ("CREATED", "/created_at"),
];

/// What to do with applications.
#[derive(Clone, Debug, Subcommand)]
pub enum AppsCommand {
    /// Create an application
    Create {
        /// Its name in paths and commands, like `billing`
        slug: String,
        /// For people [default: the slug]
        #[arg(long)]
        name: Option<String>,
    },
    /// List applications, newest first
    List {
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one application
    Get {
        /// Its id or slug
        app: String,
    },
    /// Delete an application and its subscriptions
    Delete {
        /// Its id or slug
        app: String,
    },
}

/// Does it.
///
/// # Errors
///
/// If the service refuses or cannot be reached.
pub async fn run(client: &Client, command: &AppsCommand, format: Format) -> anyhow::Result<()> {
    match command {
        AppsCommand::Create { slug, name } => {
            let body = json!({"slug": slug, "name": name.as_ref().unwrap_or(slug)});
            output::item(format, &client.post("/v1/apps", &body).await?)?;
        }
        AppsCommand::List { limit } => {
            output::items(
                format,
                &client.list("/v1/apps", &[], *limit).await?,
                COLUMNS,
            )?;
        }
        AppsCommand::Get { app } => {
            output::item(format, &client.get(&format!("/v1/apps/{app}")).await?)?;
        }
        AppsCommand::Delete { app } => client.delete(&format!("/v1/apps/{app}")).await?,
    }
    Ok(())
}
