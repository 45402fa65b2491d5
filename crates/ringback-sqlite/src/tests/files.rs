//! The file, and who may use it.

use super::*;

#[tokio::test]
async fn a_commit_is_on_disk_before_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let pragmas = fresh(&folder).await.pragmas().await.unwrap();
    assert_eq!(pragmas.journal_mode, "wal");
    assert_eq!(pragmas.synchronous, 2, "FULL");
    assert_eq!(pragmas.busy_timeout_ms, 5000);
    assert_eq!(pragmas.wal_autocheckpoint, 4000);
    assert!(pragmas.foreign_keys);
}

#[tokio::test]
async fn what_was_answered_is_there_without_closing() {
    let folder = tempfile::tempdir().unwrap();
    let first = fresh(&folder).await;
    first.create_app(new_app(APP), start()).await.unwrap();
    // As a crash leaves it: the write-ahead log has not been brought in.
    let copy = tempfile::tempdir().unwrap();
    for name in ["test.db", "test.db-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let second = SqliteStore::open(at(&copy)).await.unwrap();
    assert!(second.app(&AppRef::Id(APP)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_closed_database_is_one_file_and_does_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&folder).await;
    store.create_app(new_app(APP), start()).await.unwrap();
    store.close().await;
    let files = std::fs::read_dir(folder.path()).unwrap();
    let names: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["test.db"]);
    let created = store.create_app(new_app(AppId::new(2)), start()).await;
    assert!(matches!(created, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn migrations_are_applied_once_also_by_two_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(at(&folder)).await.unwrap();
    let names = [
        "0001_registry",
        "0002_events",
        "0003_outbox",
        "0004_nodes",
        "0005_order",
        "0006_payload_filter",
        "0007_retention",
        "0008_health",
        "0009_emit",
        "0010_quotas",
    ];
    assert_eq!(store.pending_migrations().await.unwrap(), names);
    let (first, second) = tokio::join!(store.migrate(), store.migrate());
    let mut applied = [first.unwrap(), second.unwrap()];
    applied.sort_by_key(Vec::len);
    assert_eq!(applied, [vec![], names.map(str::to_owned).to_vec()]);
    assert!(store.pending_migrations().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_missing_folder_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere");
    let options = SqliteOptions {
        path: missing.join("test.db"),
        ..SqliteOptions::default()
    };
    let error = SqliteStore::open(options).await.unwrap_err();
    assert!(
        matches!(&error, OpenError::NoFolder(path) if *path == missing),
        "{error}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&folder).await;
    store.create_app(new_app(APP), start()).await.unwrap();
    for name in ["test.db", "test.db-wal", "test.db-shm"] {
        let mode = std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_second_server_is_refused_until_the_first_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let first = lock_for_serving(&path).unwrap();
    let error = lock_for_serving(&path).unwrap_err();
    assert!(matches!(&error, LockError::Held(_)) && error.to_string().contains("test.db.lock"));
    drop(first);
    lock_for_serving(&path).unwrap();
    let nowhere = lock_for_serving(Path::new("/nowhere/test.db")).unwrap_err();
    assert!(matches!(nowhere, LockError::Io { .. }));
}
