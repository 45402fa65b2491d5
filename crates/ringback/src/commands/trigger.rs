//! `ringback trigger`: emits events, to try things out.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json, value::RawValue};

use crate::{
    client::Client,
    output::{self, Column, Format},
};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("DELIVERIES", "/deliveries"),
    ("DUPLICATE", "/duplicate"),
];

/// The events to emit.
#[derive(Args, Clone, Debug)]
pub struct TriggerArgs {
    /// The event type, like `order.paid`
    event_type: String,

    /// The application, by id or slug
    #[arg(long, default_value = "demo")]
    app: String,

    /// The event's data: JSON, or `@FILE` with JSON [default: an example]
    #[arg(long)]
    data: Option<String>,

    /// Your own id for the event: at most one event under it
    #[arg(long)]
    id: Option<String>,

    /// Events with the same key keep their order on subscriptions that ask for it
    #[arg(long)]
    ordering_key: Option<String>,

    /// Not to be delivered before, like `2026-12-01T09:00:00Z`
    #[arg(long)]
    deliver_at: Option<String>,

    /// How many events
    #[arg(short = 'n', long, default_value_t = 1, conflicts_with = "id")]
    count: u32,
}

/// Emits them, one request each.
///
/// # Errors
///
/// If the data is no JSON, or the service refuses or cannot be reached.
pub async fn run(client: &Client, args: &TriggerArgs, format: Format) -> anyhow::Result<()> {
    let given = match args
        .data
        .as_deref()
        .map(|data| (data, data.strip_prefix('@')))
    {
        Some((_, Some(file))) => {
            Some(std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?)
        }
        Some((data, None)) => Some(data.to_owned()),
        None => None,
    };
    let mut accepted = Vec::new();
    for number in 1..=args.count {
        let data = given.clone().unwrap_or_else(|| example(number).to_string());
        accepted.push(client.post_raw("/v1/events", body(args, data)?).await?);
    }
    output::items(format, &accepted, COLUMNS)?;
    if accepted.iter().all(|event| event["deliveries"] == 0) {
        eprintln!(
            "No subscription of `{}` wants `{}`.",
            args.app, args.event_type
        );
    }
    Ok(())
}

/// The data goes out as it was given: numbers keep their digits.
fn body(args: &TriggerArgs, data: String) -> anyhow::Result<String> {
    let data = match RawValue::from_string(data) {
        Ok(data) => data,
        Err(error) => bail!("the data is not JSON: {error}"),
    };
    let mut body = json!({"app": args.app, "type": args.event_type});
    let given = [
        ("id", &args.id),
        ("ordering_key", &args.ordering_key),
        ("deliver_at", &args.deliver_at),
    ];
    for (field, value) in given {
        if let Some(value) = value {
            body[field] = json!(value);
        }
    }
    let start = body.to_string();
    Ok(format!(
        "{},\"data\":{}}}",
        start.trim_end_matches('}'),
        data.get()
    ))
}

fn example(number: u32) -> Value {
    json!({"customer_id": 101, "event": "new_order", "amount": 250, "number": number})
}
