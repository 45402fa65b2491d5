//! `ringback deliveries`: what became of events, and sending them again.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    client::Client,
    output::{self, Column, Format},
};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("STATUS", "/status"),
    ("EVENT TYPE", "/event_type"),
    ("ATTEMPTS", "/attempts"),
    ("ERROR", "/error"),
    ("NEXT ATTEMPT", "/next_attempt_at"),
    ("CREATED", "/created_at"),
];

const ATTEMPT_COLUMNS: &[Column] = &[
    ("NUMBER", "/number"),
    ("STARTED", "/started_at"),
    ("OUTCOME", "/outcome"),
    ("STATUS", "/status_code"),
    ("ERROR", "/error"),
    ("MS", "/timings_ms/total"),
    ("ADDRESS", "/remote_addr"),
];

/// What to do with deliveries.
#[derive(Clone, Debug, Subcommand)]
pub enum DeliveriesCommand {
    /// List deliveries, newest event first
    List(ListArgs),
    /// Show one delivery
    Get {
        /// Its id
        delivery: String,
    },
    /// Show every attempt of a delivery
    Attempts {
        /// Its id
        delivery: String,
    },
    /// Send it again: same id and bytes, new timestamp and signature
    Replay {
        /// Its id
        delivery: String,
    },
    /// Withdraw it, if it is not settled
    Cancel {
        /// Its id
        delivery: String,
    },
}

/// Which deliveries to list; all that are given must hold.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Of this application, by id or slug
    #[arg(long, default_value = "")]
    app: String,
    /// To this subscription
    #[arg(long, default_value = "")]
    subscription: String,
    /// Of this event
    #[arg(long, default_value = "")]
    event: String,
    /// pending, retrying, delivered, dead, held or cancelled
    #[arg(long, default_value = "")]
    status: String,
    /// Of events of these types, like `order.*`
    #[arg(long, default_value = "")]
    event_type: String,
    /// Of events accepted since then, like `2h` or `2026-01-05T09:00:00Z`
    #[arg(long, default_value = "")]
    since: String,
    /// Of events accepted before then
    #[arg(long, default_value = "")]
    until: String,
    /// How many at most
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// Does it.
///
/// # Errors
///
/// If the service refuses or cannot be reached.
pub async fn run(
    client: &Client,
    command: &DeliveriesCommand,
    format: Format,
) -> anyhow::Result<()> {
    let path = |id: &str, rest: &str| format!("/v1/deliveries/{id}{rest}");
    match command {
        DeliveriesCommand::List(args) => {
            let query = [
                ("app", &*args.app),
                ("subscription", &*args.subscription),
                ("event", &*args.event),
                ("status", &*args.status),
                ("event_type", &*args.event_type),
                ("since", &*args.since),
                ("until", &*args.until),
            ];
            let items = client.list("/v1/deliveries", &query, args.limit).await?;
            output::items(format, &items, COLUMNS)?;
        }
        DeliveriesCommand::Get { delivery } => {
            output::item(format, &client.get(&path(delivery, "")).await?)?;
        }
        DeliveriesCommand::Attempts { delivery } => {
            let mut answer = client.get(&path(delivery, "/attempts")).await?;
            let attempts = answer["data"].take();
            output::items(
                format,
                attempts.as_array().unwrap_or(&Vec::new()),
                ATTEMPT_COLUMNS,
            )?;
        }
        DeliveriesCommand::Replay { delivery } => {
            output::item(
                format,
                &client.post(&path(delivery, "/replay"), &json!({})).await?,
            )?;
        }
        DeliveriesCommand::Cancel { delivery } => {
            output::item(
                format,
                &client.post(&path(delivery, "/cancel"), &json!({})).await?,
            )?;
        }
    }
    Ok(())
}
