//! The one writer.

use super::*;

#[tokio::test]
async fn callers_who_come_together_share_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&folder).await;
    store.create_app(new_app(APP), start()).await.unwrap();
    store.accept(vec![item(1, 1, &[])], start()).await.unwrap();

    let before = store.0.writer.commits();
    let mut callers = JoinSet::new();
    for id in 2..102 {
        let store = store.clone();
        callers.spawn(async move { store.accept(vec![item(id, 1, &[])], start()).await });
    }
    for outcomes in callers.join_all().await {
        assert!(matches!(
            outcomes.unwrap()[0],
            Ok(AcceptOutcome::Accepted(_))
        ));
    }
    let commits = store.0.writer.commits() - before;
    assert!(
        (1..50).contains(&commits),
        "{commits} commits for 100 callers"
    );
}

#[tokio::test]
async fn a_command_that_fails_is_undone_and_its_neighbours_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&folder).await;
    let mut callers = JoinSet::new();
    for id in 1..=5 {
        let store = store.clone();
        callers.spawn(async move {
            if id == 3 {
                // Writes something before it fails.
                let twice = "insert into apps (id, slug, name, metadata, created_at, updated_at) \
                             values (3, 'app-3', '', '{}', 0, 0); \
                             insert into event_types (id, name) values (1, null)";
                matches!(execute(&store, twice).await, Err(StoreError::Refused(_)))
            } else {
                let created = store.create_app(new_app(AppId::new(id)), start()).await;
                matches!(created, Ok(CreatedApp::Created(_)))
            }
        });
    }
    assert!(
        callers
            .join_all()
            .await
            .into_iter()
            .all(|as_expected| as_expected)
    );
    let expected = ["app-1", "app-2", "app-4", "app-5"].map(str::to_owned);
    assert_eq!(slugs(&store).await, BTreeSet::from(expected));
}

#[tokio::test]
async fn nobody_is_told_that_it_is_done_when_the_commit_fails() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&folder).await;
    // A reference to nothing, looked at when it is committed.
    let dangling = "pragma defer_foreign_keys = on; \
                    insert into keys (id, hash, name, scopes, app_id, created_at) \
                    values (1, zeroblob(32), '', '', 99, 0)";
    let (created, failed) = tokio::join!(
        store.create_app(new_app(APP), start()),
        execute(&store, dangling),
    );
    for error in [created.unwrap_err(), failed.unwrap_err()] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    assert!(slugs(&store).await.is_empty());
    store.create_app(new_app(APP), start()).await.unwrap();
    assert_eq!(slugs(&store).await.len(), 1);
}

#[tokio::test]
async fn what_a_caller_asked_for_is_done_when_it_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&folder).await;
    let mut asking = store.create_app(new_app(APP), start());
    tokio::select! {
        biased;
        _ = &mut asking => panic!("it was answered at once"),
        () = std::future::ready(()) => drop(asking),
    }
    // Behind it in the queue.
    store
        .create_app(new_app(AppId::new(2)), start())
        .await
        .unwrap();
    assert_eq!(slugs(&store).await.len(), 2);
}

#[tokio::test]
async fn another_process_may_write_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (server, command) = (fresh(&folder).await, fresh(&folder).await);
    let mut callers = JoinSet::new();
    for id in 1..=40 {
        let store = if id % 2 == 0 {
            server.clone()
        } else {
            command.clone()
        };
        callers.spawn(async move { store.create_app(new_app(AppId::new(id)), start()).await });
    }
    for created in callers.join_all().await {
        assert!(matches!(created, Ok(CreatedApp::Created(_))), "{created:?}");
    }
    assert_eq!(slugs(&command).await.len(), 40);
}

#[tokio::test]
async fn keys_of_an_accepted_batch_are_written_over_abandoned_ones_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&folder).await;
    store.create_app(new_app(APP), start()).await.unwrap();
    let key = ringback_store::IdempotencyKey {
        api_key: ringback_model::KeyId::new(9),
        key_hash: [1; 32],
        body_hash: [2; 32],
    };
    store.begin_request(key, start()).await.unwrap();
    let accept = |seconds| {
        let store = store.clone();
        async move {
            let item = AcceptItem {
                idempotency: Some(key),
                emitted: None,
                ..item(5, 1, &[])
            };
            let now = start() + chrono::TimeDelta::seconds(seconds);
            store
                .accept(vec![item], now)
                .await
                .unwrap()
                .pop()
                .unwrap()
                .unwrap()
        }
    };
    assert_eq!(accept(59).await, AcceptOutcome::KeyReused);
    assert!(matches!(accept(61).await, AcceptOutcome::Accepted(_)));
    assert!(matches!(accept(62).await, AcceptOutcome::Replayed(_)));
}
