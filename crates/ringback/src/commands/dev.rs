//! `ringback dev`: everything in one process, to try Ringback out.

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::Args;
use ringback_api::ApiConfig;
use ringback_dispatcher::DispatcherConfig;
use ringback_egress::EgressConfig;
use ringback_model::{AddressPolicy, Scope, TargetPolicy};
use ringback_store::{Clock, Store, Vault};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    client::{Client, ClientArgs, ClientError, DEV_ENV},
    commands::{keys, serve::StopSignals},
    database::{self, Database},
    demo::{self, DemoReceiver},
    output::{self, PrintError},
    secrets,
    service::{Service, ServiceConfig},
    settings::DatabaseUrl,
};

const FOLDER: &str = ".ringback";
const APP: &str = "demo";
/// Marks the subscription that this command keeps pointed at its receiver.
const LABEL: &str = "ringback-dev";

/// How to run it.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// The address to listen on; if it is taken, the next free port is used
    #[arg(long, default_value = "127.0.0.1:7464", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// The address of the demo receiver; if it is taken, the next free port is used
    #[arg(long, default_value = "127.0.0.1:7465", value_name = "ADDRESS")]
    receiver: SocketAddr,

    /// Forget everything from before
    #[arg(long)]
    reset: bool,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
///
/// If it cannot start.
pub async fn run(args: &DevArgs) -> anyhow::Result<()> {
    let url = DatabaseUrl::Sqlite(Path::new(FOLDER).join("dev.db"));
    make_folder()?;
    let _lock = database::lock_for_server(&url)?;
    if args.reset {
        forget()?;
    }
    let key = secrets::read_or_make(&Path::new(FOLDER).join("secrets.key"))?;
    let database = Database::open(&url).await?;
    database.migrate().await?;
    let store = database.store();
    let clock = Clock::running(store.now().await?);

    let receiver_listener = bind_near(args.receiver).await?;
    let receiver_addr = receiver_listener.local_addr()?;
    let receiver = DemoReceiver::new(clock.clone());
    tokio::spawn(Arc::clone(&receiver).serve(receiver_listener));

    let config = config(bind_near(args.listen).await?)?;
    let vault = Arc::new(Vault::new(&key, &[]));
    let mut service = Service::start(config, Arc::clone(&store), vault, clock).await?;
    let api_addr = service.api_addr().context("the API has no address")?;
    let client = client(&*store, api_addr).await?;
    let demo = demo_subscription(&client, receiver_addr).await?;
    receiver.check_with(demo.secret.parse()?);
    let mut signals = StopSignals::new()?;
    // The service runs as well when nobody reads this.
    let _ = print_banner(args, api_addr, receiver_addr, &demo);

    tokio::select! {
        () = signals.next() => {}
        () = service.broken() => bail!("the service is broken: its log says why"),
    }
    service.stop().await;
    database.close().await;
    Ok(())
}

struct Demo {
    subscription: String,
    secret: String,
}

fn config(listener: TcpListener) -> anyhow::Result<ServiceConfig> {
    let loopback = ["127.0.0.0/8", "::1/128"]
        .map(str::parse)
        .into_iter()
        .collect::<Result<_, _>>();
    let targets = TargetPolicy {
        addresses: AddressPolicy::new(loopback?, Vec::new()),
        allow_http: true,
        allow_any_port: true,
    };
    let api = ApiConfig {
        targets: targets.clone(),
        ..ApiConfig::default()
    };
    Ok(ServiceConfig {
        node_name: "dev".to_owned(),
        api: Some((listener, api)),
        dispatcher: Some(DispatcherConfig::default()),
        egress: EgressConfig {
            targets,
            ..EgressConfig::default()
        },
    })
}

/// A client with the key of last time, or a new one, written to `.ringback/dev.env`.
async fn client(store: &dyn Store, api: SocketAddr) -> anyhow::Result<Client> {
    let server = format!("http://{api}");
    if let Some(key) = last_key() {
        let client = Client::new(&ClientArgs::new(&server, &key))?;
        match client.get("/v1/apps").await {
            Ok(_) => {
                write_env(&server, &key)?;
                return Ok(client);
            }
            Err(ClientError::Problem { status: 401, .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let admin = [Scope::Admin].into_iter().collect();
    let (_, key) = keys::create(store, "ringback dev", admin, None).await?;
    write_env(&server, &key)?;
    Client::new(&ClientArgs::new(&server, &key))
}

/// The demo application and its subscription, pointed at the receiver.
async fn demo_subscription(client: &Client, receiver: SocketAddr) -> anyhow::Result<Demo> {
    match client
        .post("/v1/apps", &json!({"slug": APP, "name": "Demo"}))
        .await
    {
        Ok(_) | Err(ClientError::Problem { status: 409, .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let path = format!("/v1/apps/{APP}/subscriptions");
    let url = format!("http://{receiver}/ok");
    let known = client.list(&path, &[], usize::MAX).await?;
    let ours = known
        .iter()
        .find(|subscription| subscription["labels"][LABEL] == "receiver");
    let subscription = match ours.and_then(|subscription| subscription["id"].as_str()) {
        Some(id) => {
            client
                .patch(&format!("/v1/subscriptions/{id}"), &json!({"url": url}))
                .await?;
            id.to_owned()
        }
        None => {
            let body = json!({
                "url": url,
                "description": "The receiver of `ringback dev`",
                "labels": {LABEL: "receiver"},
                "retry": {"preset": "fast"},
            });
            text(&client.post(&path, &body).await?["id"])?
        }
    };
    let answer = client
        .get(&format!("/v1/subscriptions/{subscription}/secret"))
        .await?;
    Ok(Demo {
        subscription,
        secret: text(&answer["secrets"][0]["secret"])?,
    })
}

fn print_banner(
    args: &DevArgs,
    api: SocketAddr,
    receiver: SocketAddr,
    demo: &Demo,
) -> Result<(), PrintError> {
    for (wanted, got) in [(args.listen, api), (args.receiver, receiver)] {
        if wanted.port() != 0 && wanted != got {
            output::line(format_args!("{wanted} is taken, so {got} it is."))?;
        }
    }
    let program = program();
    output::line(format_args!(
        "\
Ringback {version} · dev mode: data in {FOLDER}/, deliveries may go to this machine, not for production

  API          http://{api}/v1      (key in {DEV_ENV})
  API docs     http://{api}/docs
  OpenAPI      http://{api}/openapi.json
  Health       http://{api}/readyz
  Receiver     http://{receiver}    {paths}

  application  {APP}
  subscription {subscription} → http://{receiver}/ok    (retries by the preset `fast`: 1 s, 5 s, 30 s, …)
  secret       {secret}

Next, in another terminal, in this folder:
  # send an event, and see it arrive here
  {program} trigger order.paid
  # send events to your own receiver, too
  {program} subscriptions create --app {APP} --retry fast --url http://localhost:3000/hooks
  # see what became of them
  {program} deliveries list

The same with curl:
  . ./{DEV_ENV}
  curl \"$RINGBACK_SERVER/v1/events\" -H \"Authorization: Bearer $RINGBACK_KEY\" \\
    -H 'Content-Type: application/json' -d '{{\"app\":\"{APP}\",\"type\":\"order.paid\",\"data\":{{\"total\":1.10}}}}'
",
        version = env!("CARGO_PKG_VERSION"),
        paths = demo::PATHS,
        subscription = demo.subscription,
        secret = demo.secret,
    ))
}

/// How to call this program again: `cargo run` does not put it on the path.
fn program() -> String {
    let Ok(own) = std::env::current_exe() else {
        return "ringback".to_owned();
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("ringback") == own) {
        return "ringback".to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    match own.strip_prefix(&here) {
        Ok(below) => Path::new(".").join(below),
        Err(_) => own.clone(),
    }
    .display()
    .to_string()
}

async fn bind_near(wanted: SocketAddr) -> anyhow::Result<TcpListener> {
    for port in wanted.port()..=wanted.port().saturating_add(50) {
        match TcpListener::bind(SocketAddr::new(wanted.ip(), port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {wanted}")),
        }
    }
    bail!("{wanted} and the 50 ports above it are taken")
}

fn make_folder() -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(FOLDER);
    made.with_context(|| format!("cannot make the folder {FOLDER}"))
}

fn forget() -> anyhow::Result<()> {
    for name in [
        "dev.db",
        "dev.db-wal",
        "dev.db-shm",
        "dev.env",
        "secrets.key",
    ] {
        let file: PathBuf = Path::new(FOLDER).join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn last_key() -> Option<String> {
    let text = fs::read_to_string(DEV_ENV).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("RINGBACK_KEY="))
        .map(str::to_owned)
}

fn write_env(server: &str, key: &str) -> anyhow::Result<()> {
    let text = format!("RINGBACK_SERVER={server}\nRINGBACK_KEY={key}\n");
    secrets::write_private(Path::new(DEV_ENV), &text)
}

fn text(value: &Value) -> anyhow::Result<String> {
    Ok(value
        .as_str()
        .context("the answer lacks a field")?
        .to_owned())
}
