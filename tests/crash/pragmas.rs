//! What SQLite's promises rest on, read back while a service runs.

use std::sync::Arc;

use ringback::{commands::serve, database::Database, service::Service, settings::Settings};
use ringback_store::{Clock, MasterKey, Vault};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_running_service_writes_sqlite_with_a_full_sync_and_a_write_ahead_log() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("ringback.db").display());
    let database = Database::open(&url.parse().unwrap()).await.unwrap();
    database.migrate().await.unwrap();
    let store = database.store();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = serve::config(&Settings::default(), Some(listener)).unwrap();
    let clock = Clock::running(store.now().await.unwrap());
    let vault = Arc::new(Vault::new(&MasterKey::generate().unwrap(), &[]));
    let service = Service::start(config, store, vault, clock).await.unwrap();

    let Database::Sqlite(sqlite) = &database else {
        panic!("{url} is SQLite's");
    };
    let pragmas = sqlite.pragmas().await.unwrap();
    // 2 is FULL: what is answered is on disk, also when the power fails.
    assert_eq!((&*pragmas.journal_mode, pragmas.synchronous), ("wal", 2));
    service.stop().await;
}
