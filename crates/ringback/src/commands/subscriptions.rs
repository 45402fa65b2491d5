//! `ringback subscriptions`: where events of an application go.

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    client::Client,
    output::{self, Column, Format},
};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("STATUS", "/status"),
    ("URL", "/url"),
    ("EVENT TYPES", "/event_types"),
    ("CREATED", "/created_at"),
];

/// What to do with subscriptions.
#[derive(Clone, Debug, Subcommand)]
pub enum SubscriptionsCommand {
    /// Have events sent to a URL; shows the signing secret once
    Create(Box<CreateArgs>),
    /// List an application's subscriptions, newest first
    List {
        /// The application, by id or slug
        #[arg(long)]
        app: String,
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one subscription
    Get {
        /// Its id
        subscription: String,
    },
    /// Hold deliveries until it is resumed
    Pause {
        /// Its id
        subscription: String,
    },
    /// Send again what was held; enables a disabled one
    Resume {
        /// Its id
        subscription: String,
    },
    /// Show its signing secrets
    Secret {
        /// Its id
        subscription: String,
    },
    /// Delete it; what waits for it is cancelled
    Delete {
        /// Its id
        subscription: String,
    },
}

/// The subscription to create.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// The application, by id or slug
    #[arg(long)]
    app: String,
    /// Where to POST
    #[arg(long)]
    url: String,
    /// Which event types, like `order.*,refund.created` [default: all]
    #[arg(long, value_delimiter = ',')]
    events: Vec<String>,
    /// Which of these by what is in them, as JSON: `{"data.total":{"gte":1}}` [default: all]
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// A signing secret, `whsec_…` [default: a new one]
    #[arg(long)]
    secret: Option<String>,
    /// An extra request header, like `x-env: prod`; repeatable
    #[arg(long, value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// When to retry: `standard` or `fast`
    #[arg(long)]
    retry: Option<String>,
    /// How long an attempt may take, in seconds
    #[arg(long)]
    timeout_s: Option<f64>,
    /// How many attempts may be under way at once
    #[arg(long)]
    max_in_flight: Option<u32>,
    /// How many attempts may begin in a second [default: no limit]
    #[arg(long)]
    rate_per_s: Option<f64>,
    /// `fifo` keeps the order of events with the same ordering key
    #[arg(long)]
    ordering: Option<String>,
    /// For people
    #[arg(long)]
    description: Option<String>,
}

/// Does it.
///
/// # Errors
///
/// If the service refuses or cannot be reached.
pub async fn run(
    client: &Client,
    command: &SubscriptionsCommand,
    format: Format,
) -> anyhow::Result<()> {
    let path = |id: &str, rest: &str| format!("/v1/subscriptions/{id}{rest}");
    match command {
        SubscriptionsCommand::Create(args) => {
            let path = format!("/v1/apps/{}/subscriptions", args.app);
            output::item(format, &client.post_raw(&path, body(args)?).await?)?;
        }
        SubscriptionsCommand::List { app, limit } => {
            let path = format!("/v1/apps/{app}/subscriptions");
            output::items(format, &client.list(&path, &[], *limit).await?, COLUMNS)?;
        }
        SubscriptionsCommand::Get { subscription } => {
            output::item(format, &client.get(&path(subscription, "")).await?)?;
        }
        SubscriptionsCommand::Pause { subscription } => {
            output::item(
                format,
                &client
                    .post(&path(subscription, "/pause"), &json!({}))
                    .await?,
            )?;
        }
        SubscriptionsCommand::Resume { subscription } => {
            output::item(
                format,
                &client
                    .post(&path(subscription, "/resume"), &json!({}))
                    .await?,
            )?;
        }
        SubscriptionsCommand::Secret { subscription } => {
            let mut answer = client.get(&path(subscription, "/secret")).await?;
            let secrets = answer["secrets"].take();
            let columns = [("SECRET", "/secret"), ("EXPIRES", "/expires_at")];
            output::items(format, secrets.as_array().unwrap_or(&Vec::new()), &columns)?;
        }
        SubscriptionsCommand::Delete { subscription } => {
            client.delete(&path(subscription, "")).await?;
        }
    }
    Ok(())
}

/// The filter goes out as it was given: numbers keep their digits.
fn body(args: &CreateArgs) -> anyhow::Result<String> {
    let fields = fields(args).to_string();
    let Some(filter) = &args.filter else {
        return Ok(fields);
    };
    let filter = match serde_json::from_str::<&RawValue>(filter) {
        Ok(filter) => filter,
        Err(error) => bail!("the filter is not JSON: {error}"),
    };
    // There is a URL, so the object is not empty.
    let start = fields.strip_suffix('}').unwrap_or(&fields);
    Ok(format!("{start},\"payload_filter\":{}}}", filter.get()))
}

fn fields(args: &CreateArgs) -> Value {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    set("url", json!(args.url));
    set("secret", json!(args.secret));
    set("timeout_s", json!(args.timeout_s));
    set("max_in_flight", json!(args.max_in_flight));
    set("rate_per_s", json!(args.rate_per_s));
    set("ordering", json!(args.ordering));
    set("description", json!(args.description));
    if !args.events.is_empty() {
        set("event_types", json!(args.events));
    }
    if !args.header.is_empty() {
        set("headers", args.header.iter().cloned().collect());
    }
    if let Some(preset) = &args.retry {
        set("retry", json!({"preset": preset}));
    }
    Value::Object(body)
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("use `name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
