//! Signing secrets, and their rotation.

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::SubscriptionId;
use ringback_store::{Sealed, Within};

use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn a_new_subscription_has_the_secret_it_came_with(store: &TestStore) {
    let id = subscription(store).await;
    assert_eq!(live(store, id, START).await, [(id.to_string(), None)]);
    assert!(
        store
            .secrets(SubscriptionId::new(7), ALL, START)
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn a_rotated_secret_signs_on_until_its_end(store: &TestStore) {
    let id = subscription(store).await;
    let end = START + TimeDelta::hours(24);
    assert!(
        store
            .rotate_secret(id, ALL, sealed("second"), end, START)
            .await
            .unwrap()
    );

    let both = [("second".to_owned(), None), (id.to_string(), Some(end))];
    assert_eq!(live(store, id, START).await, both);
    assert_eq!(live(store, id, end - TimeDelta::seconds(1)).await, both);
    let newest = [("second".to_owned(), None)];
    assert_eq!(live(store, id, end + TimeDelta::seconds(1)).await, newest);
}

pub async fn a_second_rotation_prolongs_no_secret(store: &TestStore) {
    let id = subscription(store).await;
    let [soon, late] = [1, 24].map(|hours| START + TimeDelta::hours(hours));
    store
        .rotate_secret(id, ALL, sealed("second"), soon, START)
        .await
        .unwrap();
    store
        .rotate_secret(id, ALL, sealed("third"), late, START)
        .await
        .unwrap();
    let expected = [
        ("third".to_owned(), None),
        ("second".to_owned(), Some(late)),
        (id.to_string(), Some(soon)),
    ];
    assert_eq!(live(store, id, START).await, expected);
}

pub async fn a_rotation_without_overlap_ends_the_others_at_once(store: &TestStore) {
    let id = subscription(store).await;
    let later = START + TimeDelta::minutes(1);
    let day = START + TimeDelta::hours(24);
    store
        .rotate_secret(id, ALL, sealed("second"), day, START)
        .await
        .unwrap();
    store
        .rotate_secret(id, ALL, sealed("third"), later, later)
        .await
        .unwrap();
    let after = later + TimeDelta::seconds(1);
    assert_eq!(live(store, id, after).await, [("third".to_owned(), None)]);
}

pub async fn a_deleted_subscription_has_no_secrets_to_show(store: &TestStore) {
    let id = subscription(store).await;
    store.delete_subscription(id, ALL, START).await.unwrap();
    assert!(store.secrets(id, ALL, START).await.unwrap().is_none());
    assert!(
        !store
            .rotate_secret(id, ALL, sealed("late"), START, START)
            .await
            .unwrap()
    );
}

async fn subscription(store: &TestStore) -> SubscriptionId {
    let app = seed::app(store, "billing", START).await;
    seed::subscription(store, app, START).await.id
}

/// What the subscription shows, which is also what it is sent with.
async fn live(
    store: &TestStore,
    id: SubscriptionId,
    now: DateTime<Utc>,
) -> Vec<(String, Option<DateTime<Utc>>)> {
    let text = |secret: &Sealed| String::from_utf8(secret.as_bytes().to_vec()).unwrap();
    let shown = store.secrets(id, ALL, now).await.unwrap().unwrap();
    let shown: Vec<_> = shown
        .iter()
        .map(|secret| (text(&secret.secret), secret.expires_at))
        .collect();
    let state = store.sending_states(&[id], now).await.unwrap().remove(0);
    let sent_with: Vec<_> = state
        .secrets
        .iter()
        .map(|(secret, end)| (text(secret), *end))
        .collect();
    assert_eq!(shown, sent_with);
    shown
}

fn sealed(text: &str) -> Sealed {
    Sealed::from_bytes(text.as_bytes().to_vec())
}
