//! Puts load on a running service, and says what it cost.
//!
//! ```text
//! cargo run --release -p ringback-testkit --example load -- \
//!     --server 127.0.0.1:7464 --key rbk_… --events 10000 --connections 64 \
//!     --pid $(pidof ringback) --postmaster $(head -1 data/postmaster.pid)
//! ```
//!
//! With `--rate 300 --seconds 30` events come at that rate. `--receiver-only` is a
//! receiver by itself, for `--receiver` of another run. The service must be allowed to
//! call it: `--egress-allow-cidr 127.0.0.0/8 --egress-allow-http`.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use ringback_testkit::load::{Manner, Plan, Processes, Sink, ToldBy, run};

#[derive(Parser)]
struct Arguments {
    /// Where the service listens.
    #[arg(long, default_value = "127.0.0.1:7464")]
    server: SocketAddr,
    /// An API key with the scope `admin`.
    #[arg(long, env = "RINGBACK_KEY", hide_env_values = true, default_value = "")]
    key: String,
    /// How many events to post.
    #[arg(long, default_value_t = 10_000)]
    events: u64,
    /// Events per second, instead of as many as can be.
    #[arg(long, requires = "seconds")]
    rate: Option<f64>,
    /// For how long, at that rate.
    #[arg(long, requires = "rate", conflicts_with = "events")]
    seconds: Option<f64>,
    /// How many connections post.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How many subscriptions each event goes to.
    #[arg(long, default_value_t = 1)]
    subscriptions: u64,
    /// Of each subscription.
    #[arg(long, default_value_t = 256)]
    max_in_flight: u16,
    /// How long an attempt may take, in seconds.
    #[arg(long, default_value_t = 15)]
    timeout_s: u64,
    /// How many more subscriptions the application has, which want none of the events.
    #[arg(long, default_value_t = 0)]
    others: u64,
    /// Tell subscriptions apart by a filter of their own, not by a type.
    #[arg(long)]
    by_filter: bool,
    /// The length of an event's `data`.
    #[arg(long, default_value_t = 1024)]
    data_bytes: usize,
    /// How long to wait for deliveries when all is posted.
    #[arg(long, default_value_t = 120)]
    patience_s: u64,
    /// A process of the service; may be given more than once.
    #[arg(long)]
    pid: Vec<u32>,
    /// The first process of PostgreSQL: all its children count.
    #[arg(long)]
    postmaster: Option<u32>,
    /// A receiver that runs already, instead of one in this process.
    #[arg(long)]
    receiver: Option<SocketAddr>,
    /// Only receive, at `--listen`, until stopped.
    #[arg(long)]
    receiver_only: bool,
    /// How to answer deliveries: `204`, `after:10` for ten seconds later, or `never`. A
    /// receiver that runs is changed by `POST /manner`.
    #[arg(long, default_value = "204")]
    manner: Manner,
    /// Where to receive.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    if arguments.receiver_only {
        let sink = Sink::start(arguments.listen, arguments.manner).await;
        println!("receiving at {}", sink.address());
        return std::future::pending().await;
    }
    let sink = match arguments.receiver {
        Some(_) => None,
        None => Some(Sink::start(arguments.listen, arguments.manner).await),
    };
    let sink = sink.as_ref().map(Sink::address).or(arguments.receiver);
    let plan = Plan {
        server: arguments.server,
        key: arguments.key,
        sink: sink.unwrap_or(arguments.listen),
        events: match (arguments.rate, arguments.seconds) {
            (Some(rate), Some(seconds)) => (rate * seconds) as u64,
            _ => arguments.events,
        },
        rate: arguments.rate,
        connections: arguments.connections,
        subscriptions: arguments.subscriptions,
        max_in_flight: arguments.max_in_flight,
        timeout_s: arguments.timeout_s,
        others: arguments.others,
        told_by: if arguments.by_filter {
            ToldBy::Filter
        } else {
            ToldBy::Type
        },
        data_bytes: arguments.data_bytes,
        patience: Duration::from_secs(arguments.patience_s),
        processes: Processes {
            service: arguments.pid,
            postmaster: arguments.postmaster,
        },
    };
    println!("{}", run(&plan).await);
}
