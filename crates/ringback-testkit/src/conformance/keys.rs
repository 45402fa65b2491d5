//! API keys: stored as hashes, found by them.

use ringback_model::{AppId, KeyId, Scope};
use ringback_store::{Key, NewKey, Within};

use crate::{
    TestStore,
    seed::{self, START},
};

pub async fn a_key_is_found_by_its_hash(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    for (hash, app) in [(1, None), (2, Some(app))] {
        let new = new_key(store, hash, app);
        let created = store.create_key(new.clone(), START).await.unwrap();
        let expected = Key {
            id: new.id,
            name: new.name,
            scopes: new.scopes,
            app,
            created_at: START,
        };
        assert_eq!(created, expected);
        assert_eq!(store.key_by_hash([hash; 32]).await.unwrap(), Some(expected));
    }
    assert!(store.key_by_hash([9; 32]).await.unwrap().is_none());
}

pub async fn a_key_may_have_any_scopes(store: &TestStore) {
    for (hash, scopes) in [&[][..], &[Scope::Admin], &Scope::ALL]
        .into_iter()
        .enumerate()
    {
        let hash = u8::try_from(hash).unwrap();
        let scopes = scopes.iter().copied().collect();
        let key = NewKey {
            scopes,
            ..new_key(store, hash, None)
        };
        store.create_key(key, START).await.unwrap();
        assert_eq!(
            store.key_by_hash([hash; 32]).await.unwrap().unwrap().scopes,
            scopes
        );
    }
}

pub async fn a_revoked_key_is_none(store: &TestStore) {
    let [kept, revoked] = [new_key(store, 1, None), new_key(store, 2, None)];
    for key in [&kept, &revoked] {
        store.create_key(key.clone(), START).await.unwrap();
    }
    assert!(
        store
            .revoke_key(revoked.id, Within::Everything, START)
            .await
            .unwrap()
    );
    assert!(
        !store
            .revoke_key(revoked.id, Within::Everything, START)
            .await
            .unwrap()
    );
    assert!(store.key_by_hash(revoked.hash).await.unwrap().is_none());
    assert!(store.key_by_hash(kept.hash).await.unwrap().is_some());
    assert_eq!(
        list(store, Within::Everything, KeyId::MAX, 200).await,
        [kept.id]
    );
    assert!(
        !store
            .revoke_key(KeyId::new(7), Within::Everything, START)
            .await
            .unwrap()
    );
}

pub async fn keys_are_listed_newest_first(store: &TestStore) {
    let mut keys = Vec::new();
    for hash in 1..=5 {
        let key = new_key(store, hash, None);
        keys.insert(0, key.id);
        store.create_key(key, START).await.unwrap();
    }
    assert_eq!(list(store, Within::Everything, KeyId::MAX, 200).await, keys);
    assert_eq!(
        list(store, Within::Everything, KeyId::MAX, 2).await,
        keys[..2]
    );
    assert_eq!(
        list(store, Within::Everything, keys[1], 200).await,
        keys[2..]
    );
}

pub async fn an_application_sees_and_revokes_its_own_keys(store: &TestStore) {
    let [mine, others] = [
        seed::app(store, "mine", START).await,
        seed::app(store, "others", START).await,
    ];
    let [own, foreign, global] = [
        new_key(store, 1, Some(mine)),
        new_key(store, 2, Some(others)),
        new_key(store, 3, None),
    ];
    for key in [&own, &foreign, &global] {
        store.create_key(key.clone(), START).await.unwrap();
    }
    let within = Within::App(mine);
    assert_eq!(list(store, within, KeyId::MAX, 200).await, [own.id]);
    for key in [&foreign, &global] {
        assert!(!store.revoke_key(key.id, within, START).await.unwrap());
        assert!(store.key_by_hash(key.hash).await.unwrap().is_some());
    }
    assert!(store.revoke_key(own.id, within, START).await.unwrap());
}

fn new_key(store: &TestStore, hash: u8, app: Option<AppId>) -> NewKey {
    NewKey {
        id: KeyId::new(store.ids.next(START)),
        hash: [hash; 32],
        name: format!("key \"{hash}\""),
        scopes: [Scope::EventsWrite, Scope::Replay].into_iter().collect(),
        app,
    }
}

async fn list(store: &TestStore, within: Within, before: KeyId, limit: u32) -> Vec<KeyId> {
    let keys = store.keys(within, before, limit).await.unwrap();
    keys.iter().map(|key| key.id).collect()
}
