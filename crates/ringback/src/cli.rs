//! The command line: every command on one screen.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    client::{Client, ClientArgs},
    commands::{
        apps::{self, AppsCommand},
        deliveries::{self, DeliveriesCommand},
        dev::{self, DevArgs},
        events::{self, EventsCommand},
        keys::{self, CreateArgs},
        migrate, serve,
        subscriptions::{self, SubscriptionsCommand},
        trigger::{self, TriggerArgs},
    },
    output::Format,
    settings::Settings,
};

/// Outbound webhook delivery: signed, retried, and nothing lost.
#[derive(Parser)]
#[command(name = "ringback", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How to print what was found
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        default_value_t
    )]
    format: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Try Ringback: everything in one process, SQLite in `.ringback/`, a demo receiver
    Dev(DevArgs),
    /// Run the service
    Serve(Configured),
    /// Bring the database's schema up to this version
    Migrate {
        #[command(flatten)]
        configured: Configured,
        /// Only say what would be applied
        #[arg(long)]
        plan: bool,
    },
    /// Make API keys, straight in the database
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Emit events, to try things out
    Trigger {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        args: TriggerArgs,
    },
    /// Applications: the teams that receive
    Apps {
        #[command(flatten)]
        client: ClientArgs,
        #[command(subcommand)]
        command: AppsCommand,
    },
    /// Subscriptions: where an application's events go
    Subscriptions {
        #[command(flatten)]
        client: ClientArgs,
        #[command(subcommand)]
        command: SubscriptionsCommand,
    },
    /// Events: what was emitted
    Events {
        #[command(flatten)]
        client: ClientArgs,
        #[command(subcommand)]
        command: EventsCommand,
    },
    /// Deliveries: what became of events
    Deliveries {
        #[command(flatten)]
        client: ClientArgs,
        #[command(subcommand)]
        command: DeliveriesCommand,
    },
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make an API key; it is shown once
    Create {
        #[command(flatten)]
        configured: Configured,
        #[command(flatten)]
        args: CreateArgs,
    },
}

/// Settings, and the file that more of them are in.
#[derive(Args)]
struct Configured {
    /// The file with settings [default: ringback.toml, if it is there]
    #[arg(long, env = "RINGBACK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

impl Configured {
    fn settings(self) -> anyhow::Result<Settings> {
        self.settings.complete(self.config.as_deref())
    }
}

/// Does what the command line says.
///
/// # Errors
///
/// Whatever the command says went wrong.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let format = cli.format;
    match cli.command {
        Command::Dev(args) => dev::run(&args).await,
        Command::Serve(configured) => serve::run(&configured.settings()?).await,
        Command::Migrate { configured, plan } => migrate::run(&configured.settings()?, plan).await,
        Command::Keys {
            command: KeysCommand::Create { configured, args },
        } => keys::run(&configured.settings()?, &args, format).await,
        Command::Trigger { client, args } => {
            trigger::run(&Client::new(&client)?, &args, format).await
        }
        Command::Apps { client, command } => {
            apps::run(&Client::new(&client)?, &command, format).await
        }
        Command::Subscriptions { client, command } => {
            subscriptions::run(&Client::new(&client)?, &command, format).await
        }
        Command::Events { client, command } => {
            events::run(&Client::new(&client)?, &command, format).await
        }
        Command::Deliveries { client, command } => {
            deliveries::run(&Client::new(&client)?, &command, format).await
        }
    }
}
