//! `ringback keys create`: makes an API key, straight in the database.

use anyhow::{Context, bail};
use clap::Args;
use ringback_model::{AppId, KeyId, Scope, Scopes};
use ringback_store::{AppRef, Clock, Membership, NewKey, Store};
use serde_json::json;

use crate::{
    database::Database,
    output::{self, Format},
    settings::Settings,
};

/// The key to make.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// What it may do, like `admin` or `events:write,deliveries:read`
    #[arg(long, value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,

    /// The application it is bound to, by id or slug
    #[arg(long)]
    app: Option<String>,

    /// For people
    #[arg(long, default_value = "")]
    name: String,
}

/// Makes the key. With `-o id` it prints the key alone.
///
/// # Errors
///
/// If the database cannot be opened, or there is no such application.
pub async fn run(settings: &Settings, args: &CreateArgs, format: Format) -> anyhow::Result<()> {
    let database = Database::open(&settings.database()?).await?;
    database.migrate().await?;
    let store = database.store();
    let app = match &args.app {
        Some(name) => Some(find_app(&*store, name).await?),
        None => None,
    };
    let scopes = args.scopes.iter().copied().collect();
    let (id, key) = create(&*store, &args.name, scopes, app).await?;
    match format {
        Format::Id => output::line(key)?,
        Format::Json => output::line(format_args!("{:#}", json!({"id": id, "key": key})))?,
        Format::Table => {
            output::item(format, &json!({"id": id, "key": key}))?;
            eprintln!("The key is shown this once: keep it.");
        }
    }
    database.close().await;
    Ok(())
}

/// Makes a key and stores its hash; answers its id and itself.
///
/// # Errors
///
/// If the store fails.
pub async fn create(
    store: &dyn Store,
    name: &str,
    scopes: Scopes,
    app: Option<AppId>,
) -> anyhow::Result<(KeyId, String)> {
    // A number of its own, so that its ids are no running server's.
    let clock = Clock::running(store.now().await?);
    let node = Membership::join(store, "command line", false, clock).await?;
    let (id, now) = node.next_id().context("the lease ended at once")?;
    let id = KeyId::new(id);
    let (key, hash) = ringback_api::new_api_key(rand::random());
    store
        .create_key(
            NewKey {
                id,
                hash,
                name: name.to_owned(),
                scopes,
                app,
            },
            now,
        )
        .await?;
    if let Some(lease) = node.lease() {
        store.leave(&lease, now).await?;
    }
    Ok((id, key))
}

async fn find_app(store: &dyn Store, name: &str) -> anyhow::Result<AppId> {
    let app = match (name.parse(), name.parse()) {
        (Ok(id), _) => AppRef::Id(id),
        (_, Ok(slug)) => AppRef::Slug(slug),
        _ => bail!("`{name}` is neither the id nor the slug of an application"),
    };
    let found = store.app(&app).await?;
    Ok(found
        .with_context(|| format!("there is no application `{name}`"))?
        .id)
}
