//! Lists of deliveries: live and settled ones as one, by filter and by page.

use chrono::TimeDelta;
use ringback_model::{AttemptError, DeliveryId, DeliveryStatus, EventId, SubscriptionId};
use ringback_store::{DeliveryFilter, Within};

use super::{cast::Cast, scene::look};
use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn a_list_shows_live_and_settled_deliveries_newest_first(store: &TestStore) {
    let cast = Cast::new(store).await;
    let mut expected: Vec<DeliveryId> = cast.deliveries().iter().map(|(id, _)| *id).collect();
    expected.sort();
    expected.reverse();
    for limit in [1, 2, 3, 5, 200] {
        assert_eq!(
            walk(store, &everything(), limit).await,
            expected,
            "pages of {limit}"
        );
    }
    for id in &expected {
        let filter = DeliveryFilter {
            event: Some(id.event),
            subscription: Some(id.subscription),
            ..everything()
        };
        let page = store.deliveries(&filter, LAST, 10).await.unwrap();
        assert_eq!(
            page.items,
            [look(store, *id).await],
            "the list and the delivery agree"
        );
    }
}

pub async fn a_list_filters_by_status(store: &TestStore) {
    let cast = Cast::new(store).await;
    for status in DeliveryStatus::ALL {
        let mut expected: Vec<DeliveryId> = cast
            .deliveries()
            .iter()
            .filter(|(_, its)| its == status)
            .map(|(id, _)| *id)
            .collect();
        assert!(!expected.is_empty(), "{status}");
        expected.sort();
        expected.reverse();
        let filter = DeliveryFilter {
            status: Some(*status),
            ..everything()
        };
        for limit in [1, 200] {
            assert_eq!(
                walk(store, &filter, limit).await,
                expected,
                "{status}, pages of {limit}"
            );
        }
        let of_app = DeliveryFilter {
            app: Some(cast.app),
            ..filter.clone()
        };
        assert_eq!(
            walk(store, &of_app, 2).await,
            expected,
            "{status} of the application"
        );
        let one = expected[0].subscription;
        expected.retain(|id| id.subscription == one);
        let of_one = DeliveryFilter {
            subscription: Some(one),
            ..filter
        };
        assert_eq!(
            walk(store, &of_one, 2).await,
            expected,
            "{status} of one subscription"
        );
    }
}

pub async fn every_filter_of_deliveries_must_hold(store: &TestStore) {
    let cast = Cast::new(store).await;
    let other = seed::app(store, "other", START).await;
    let lonely = seed::subscription(store, other, START).await;
    let late = START + TimeDelta::minutes(10);
    let mut event = seed::new_event(store, other, "refund.created", late).await;
    event.labels = [("order".to_owned(), "1042".to_owned())].into();
    let id = seed::accept(store, event, late).await.id;
    let refund = [seed::delivery(id, &lonely)];

    let refused = [cast.dead];
    let failed = sorted([cast.dead, cast.retrying]);
    let ours = sorted(cast.deliveries().map(|(id, _)| id));
    let none: &[DeliveryId] = &[];
    let filter = everything;
    let pattern = |text: &str| Some(text.parse().unwrap());
    let label = |value: &str| Some(("order".to_owned(), value.to_owned()));
    let cases: [(&str, DeliveryFilter, &[DeliveryId]); _] = [
        (
            "app",
            DeliveryFilter {
                app: Some(other),
                ..filter()
            },
            &refund,
        ),
        (
            "its other",
            DeliveryFilter {
                app: Some(cast.app),
                ..filter()
            },
            &ours,
        ),
        (
            "subscription",
            DeliveryFilter {
                subscription: Some(lonely.id),
                ..filter()
            },
            &refund,
        ),
        (
            "event",
            DeliveryFilter {
                event: Some(id),
                ..filter()
            },
            &refund,
        ),
        (
            "type",
            DeliveryFilter {
                event_type: pattern("refund.created"),
                ..filter()
            },
            &refund,
        ),
        (
            "prefix",
            DeliveryFilter {
                event_type: pattern("order.*"),
                ..filter()
            },
            &ours,
        ),
        (
            "no type",
            DeliveryFilter {
                event_type: pattern("never.seen"),
                ..filter()
            },
            none,
        ),
        (
            "label",
            DeliveryFilter {
                label: label("1042"),
                ..filter()
            },
            &refund,
        ),
        (
            "no label",
            DeliveryFilter {
                label: label("1043"),
                ..filter()
            },
            none,
        ),
        (
            "a code",
            DeliveryFilter {
                status_code: Some((404, 404)),
                ..filter()
            },
            &refused,
        ),
        (
            "codes",
            DeliveryFilter {
                status_code: Some((400, 599)),
                ..filter()
            },
            &failed,
        ),
        (
            "no code",
            DeliveryFilter {
                status_code: Some((405, 502)),
                ..filter()
            },
            none,
        ),
        (
            "error",
            DeliveryFilter {
                error: Some(AttemptError::HttpStatus),
                ..filter()
            },
            &failed,
        ),
        (
            "no error",
            DeliveryFilter {
                error: Some(AttemptError::Tls),
                ..filter()
            },
            none,
        ),
        (
            "since",
            DeliveryFilter {
                since: Some(late),
                ..filter()
            },
            &refund,
        ),
        (
            "until",
            DeliveryFilter {
                until: Some(late),
                ..filter()
            },
            &ours,
        ),
        (
            "within",
            DeliveryFilter {
                within: Within::App(other),
                ..filter()
            },
            &refund,
        ),
        (
            "another's",
            DeliveryFilter {
                within: Within::App(other),
                app: Some(cast.app),
                ..filter()
            },
            none,
        ),
        (
            "both",
            DeliveryFilter {
                status: Some(DeliveryStatus::Dead),
                status_code: Some((503, 503)),
                ..filter()
            },
            none,
        ),
    ];
    for (name, filter, expected) in cases {
        for limit in [1, 200] {
            assert_eq!(
                walk(store, &filter, limit).await,
                expected,
                "{name}, pages of {limit}"
            );
        }
    }
}

pub async fn a_delivered_code_is_found_too(store: &TestStore) {
    let cast = Cast::new(store).await;
    let filter = DeliveryFilter {
        status_code: Some((200, 299)),
        ..everything()
    };
    assert_eq!(walk(store, &filter, 10).await, [cast.delivered]);
}

/// A replayed delivery has a settled row and a live one, and is live.
pub async fn a_live_row_outranks_a_settled_one(store: &TestStore) {
    let cast = Cast::new(store).await;
    store.replay(cast.dead, ALL, START).await.unwrap();
    let ids = walk(store, &everything(), 1).await;
    assert_eq!(ids.iter().filter(|id| **id == cast.dead).count(), 1);
    let dead = DeliveryFilter {
        status: Some(DeliveryStatus::Dead),
        ..everything()
    };
    assert!(walk(store, &dead, 10).await.is_empty());
    let delivery = look(store, cast.dead).await;
    assert_eq!((delivery.settled_at, delivery.dead_reason), (None, None));
}

pub async fn a_cursor_stands_between_deliveries_of_one_event(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let mut subscriptions = Vec::new();
    for _ in 0..5 {
        subscriptions.insert(0, seed::subscription(store, app, START).await);
    }
    let event = seed::event(store, app, START).await;
    let expected: Vec<_> = subscriptions
        .iter()
        .map(|subscription| seed::delivery(event, subscription))
        .collect();
    assert_eq!(walk(store, &everything(), 2).await, expected);
    let page = store
        .deliveries(&everything(), expected[1], 2)
        .await
        .unwrap();
    let found: Vec<_> = page.items.iter().map(|delivery| delivery.id).collect();
    assert_eq!(found, expected[2..4]);
}

const LAST: DeliveryId = DeliveryId {
    event: EventId::MAX,
    subscription: SubscriptionId::MAX,
};

/// All pages; the cursor moves on with each, and each delivery comes once.
async fn walk(store: &TestStore, filter: &DeliveryFilter, limit: u32) -> Vec<DeliveryId> {
    let (mut found, mut before) = (Vec::new(), LAST);
    loop {
        let page = store.deliveries(filter, before, limit).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        found.extend(page.items.iter().map(|delivery| delivery.id));
        let Some(next) = page.next else { break };
        assert!(next < before, "the cursor stands still");
        before = next;
    }
    assert!(found.windows(2).all(|pair| pair[0] > pair[1]), "{found:?}");
    found
}

fn sorted<const N: usize>(mut ids: [DeliveryId; N]) -> [DeliveryId; N] {
    ids.sort();
    ids.reverse();
    ids
}

fn everything() -> DeliveryFilter {
    DeliveryFilter {
        within: ALL,
        app: None,
        subscription: None,
        event: None,
        status: None,
        event_type: None,
        label: None,
        status_code: None,
        error: None,
        since: None,
        until: None,
    }
}
