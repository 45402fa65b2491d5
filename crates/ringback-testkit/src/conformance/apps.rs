//! Applications: made, found, changed, deleted.

use chrono::TimeDelta;
use ringback_model::{AppId, DeliveryStatus, Quotas};
use ringback_store::{App, AppChange, AppRef, Changed, CreatedApp, NewApp, NewKey, Within};

use super::scene::{Scene, look, twenty_at_once};
use crate::{
    TestStore,
    seed::{self, START},
};

pub async fn an_application_is_found_as_it_was_created(store: &TestStore) {
    let app = new_app(store, "billing");
    let created = match store.create_app(app.clone(), START).await.unwrap() {
        CreatedApp::Created(created) => created,
        CreatedApp::SlugTaken => panic!("the slug is free"),
    };
    assert_eq!(
        (created.id, &created.slug, &created.name),
        (app.id, &app.slug, &app.name)
    );
    assert_eq!(created.metadata, app.metadata);
    assert_eq!(created.quotas, app.quotas);
    assert_eq!((created.created_at, created.updated_at), (START, START));
    for name in [AppRef::Id(app.id), AppRef::Slug(app.slug)] {
        assert_eq!(
            store.app(&name).await.unwrap().as_ref(),
            Some(&created),
            "{name:?}"
        );
    }
    assert!(
        store
            .app(&AppRef::Id(AppId::new(7)))
            .await
            .unwrap()
            .is_none()
    );
    assert!(store.app(&slug("nobody")).await.unwrap().is_none());
}

pub async fn a_slug_is_taken_once(store: &TestStore) {
    let billing = seed::app(store, "billing", START).await;
    let shipping = seed::app(store, "shipping", START).await;
    let again = store
        .create_app(new_app(store, "billing"), START)
        .await
        .unwrap();
    assert!(matches!(again, CreatedApp::SlugTaken), "{again:?}");
    let rename = AppChange {
        slug: Some("billing".parse().unwrap()),
        ..Default::default()
    };
    let renamed = store
        .update_app(shipping, rename.clone(), None, START)
        .await
        .unwrap();
    assert!(matches!(renamed, Changed::NameTaken), "{renamed:?}");
    // Its own slug is no other's.
    done(
        store
            .update_app(billing, rename, None, START)
            .await
            .unwrap(),
    );
}

pub async fn one_of_twenty_gets_the_slug(store: &TestStore) {
    let created = twenty_at_once(|_| {
        let (store, app) = (store.shared(), new_app(store, "billing"));
        async move { store.create_app(app, START).await.unwrap() }
    })
    .await;
    let won = created
        .iter()
        .filter(|outcome| matches!(outcome, CreatedApp::Created(_)))
        .count();
    assert_eq!((won, store.count("apps", "").await), (1, 1));
}

pub async fn applications_are_listed_newest_first(store: &TestStore) {
    let mut apps = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        apps.insert(0, seed::app(store, name, START).await);
    }
    store.delete_app(apps.remove(1), START).await.unwrap();
    let list = async |within, before, limit| -> Vec<AppId> {
        let found = store.apps(within, before, limit).await.unwrap();
        found.iter().map(|app| app.id).collect()
    };
    assert_eq!(list(Within::Everything, AppId::MAX, 200).await, apps);
    assert_eq!(list(Within::Everything, AppId::MAX, 2).await, apps[..2]);
    assert_eq!(list(Within::Everything, apps[1], 200).await, apps[2..]);
    assert_eq!(list(Within::App(apps[2]), AppId::MAX, 200).await, [apps[2]]);
    assert!(list(Within::App(apps[2]), apps[2], 200).await.is_empty());
}

pub async fn an_update_changes_what_it_names(store: &TestStore) {
    let id = seed::app(store, "billing", START).await;
    let before = store.app(&AppRef::Id(id)).await.unwrap().unwrap();
    let later = START + TimeDelta::minutes(1);

    let change = AppChange {
        name: Some("Team Billing".to_owned()),
        ..Default::default()
    };
    let named = done(store.update_app(id, change, None, later).await.unwrap());
    let expected = App {
        name: "Team Billing".to_owned(),
        revision: named.revision,
        updated_at: later,
        ..before.clone()
    };
    assert_eq!(named, expected);
    assert!(named.revision > before.revision);

    let metadata = [("team".to_owned(), "7".to_owned())].into();
    let change = AppChange {
        slug: Some("money".parse().unwrap()),
        metadata: Some(metadata),
        ..Default::default()
    };
    let moved = done(store.update_app(id, change, None, later).await.unwrap());
    assert_eq!(moved.metadata["team"], "7");
    assert_eq!(store.app(&slug("money")).await.unwrap(), Some(moved));
    assert!(store.app(&slug("billing")).await.unwrap().is_none());
}

pub async fn an_update_of_an_older_revision_is_refused(store: &TestStore) {
    let id = seed::app(store, "billing", START).await;
    let first = store.app(&AppRef::Id(id)).await.unwrap().unwrap().revision;
    let change = |name: &str| AppChange {
        name: Some(name.to_owned()),
        ..AppChange::default()
    };
    let second = done(
        store
            .update_app(id, change("b"), Some(first), START)
            .await
            .unwrap(),
    );
    let outdated = store
        .update_app(id, change("c"), Some(first), START)
        .await
        .unwrap();
    assert!(matches!(outdated, Changed::Outdated), "{outdated:?}");
    assert_eq!(store.app(&AppRef::Id(id)).await.unwrap(), Some(second));
    let unknown = store
        .update_app(AppId::new(7), change("d"), None, START)
        .await
        .unwrap();
    assert!(matches!(unknown, Changed::NotFound), "{unknown:?}");
}

pub async fn a_deleted_application_is_gone_with_its_slug_free(store: &TestStore) {
    let id = seed::app(store, "billing", START).await;
    assert!(store.delete_app(id, START).await.unwrap());
    assert!(
        !store.delete_app(id, START).await.unwrap(),
        "it was deleted before"
    );
    assert!(store.app(&AppRef::Id(id)).await.unwrap().is_none());
    assert!(store.app(&slug("billing")).await.unwrap().is_none());
    let change = AppChange {
        name: Some("x".to_owned()),
        ..Default::default()
    };
    let changed = store.update_app(id, change, None, START).await.unwrap();
    assert!(matches!(changed, Changed::NotFound), "{changed:?}");
    let config = seed::config("https://receiver.example/");
    let late = seed::new_subscription(store, id, config, START);
    assert!(
        store
            .create_subscription(late, START)
            .await
            .unwrap()
            .is_none()
    );

    let successor = seed::app(store, "billing", START).await;
    assert_eq!(
        store.app(&slug("billing")).await.unwrap().unwrap().id,
        successor
    );
}

pub async fn deleting_an_application_ends_all_that_is_its(store: &TestStore) {
    let scene = Scene::new(store).await;
    let other = seed::app(store, "other", START).await;
    let bystander = seed::subscription(store, other, START).await;
    let untouched = seed::event(store, other, START).await;
    let event = scene.event(store).await;
    let key = NewKey {
        id: ringback_model::KeyId::new(store.ids.next(START)),
        hash: [7; 32],
        name: String::new(),
        scopes: Default::default(),
        app: Some(scene.app),
    };
    store.create_key(key, START).await.unwrap();

    store.delete_app(scene.app, START).await.unwrap();

    let all = Within::Everything;
    assert!(
        store
            .subscription(scene.subscription.id, all)
            .await
            .unwrap()
            .is_none()
    );
    assert!(store.key_by_hash([7; 32]).await.unwrap().is_none());
    assert_eq!(
        look(store, scene.delivery(event)).await.status,
        DeliveryStatus::Cancelled
    );
    let pending = look(store, seed::delivery(untouched, &bystander)).await;
    assert_eq!(pending.status, DeliveryStatus::Pending);
}

fn new_app(store: &TestStore, slug: &str) -> NewApp {
    NewApp {
        id: AppId::new(store.ids.next(START)),
        slug: slug.parse().unwrap(),
        name: "Équipe \"7\"".to_owned(),
        metadata: [("cost centre".to_owned(), "1042".to_owned())].into(),
        quotas: Quotas {
            events_per_s: Some(0.5),
            ..Quotas::default()
        },
    }
}

fn slug(text: &str) -> AppRef {
    AppRef::Slug(text.parse().unwrap())
}

fn done(changed: Changed<App>) -> App {
    match changed {
        Changed::Done(app) => app,
        refused => panic!("{refused:?}"),
    }
}
