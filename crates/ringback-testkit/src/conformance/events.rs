//! Events, looked up and listed.

use chrono::TimeDelta;
use ringback_model::{AppId, EventId};
use ringback_store::{EventFilter, Within};

use crate::{
    TestStore,
    seed::{self, START},
};

const ALL: Within = Within::Everything;

pub async fn an_unknown_event_is_none(store: &TestStore) {
    assert!(store.event(EventId::new(7), ALL).await.unwrap().is_none());
}

pub async fn events_are_listed_newest_first(store: &TestStore) {
    let app = seed::app(store, "billing", START).await;
    let other = seed::app(store, "other", START).await;
    let mut events = Vec::new();
    for index in 0..6 {
        // Two applications' events are mixed.
        let app = if index % 2 == 0 { app } else { other };
        events.insert(0, seed::event(store, app, START).await);
    }
    assert_eq!(walk(store, &everything(), 200).await, events);
    assert_eq!(walk(store, &everything(), 1).await, events);
    assert_eq!(walk(store, &everything(), 4).await, events);

    let page = store.events(&everything(), events[2], 2).await.unwrap();
    let found: Vec<_> = page.items.iter().map(|event| event.id).collect();
    assert_eq!(found, events[3..5]);
}

pub async fn every_filter_of_events_must_hold(store: &TestStore) {
    let [billing, shipping] = [
        seed::app(store, "billing", START).await,
        seed::app(store, "shipping", START).await,
    ];
    let at = |minutes| START + TimeDelta::minutes(minutes);
    let paid = labelled(store, billing, "order.paid", 0, "1042").await;
    let sent = labelled(store, billing, "order.sent.twice", 10, "1043").await;
    let ours = labelled(store, shipping, "orders.paid", 20, "1042").await;
    let plain = seed::typed_event(store, billing, "order.paid", at(30)).await;
    let day = labelled(store, billing, "order.paid", 24 * 60, "1044").await;

    let filter = everything;
    let pattern = |text: &str| Some(text.parse().unwrap());
    let label = |value: &str| Some(("order".to_owned(), value.to_owned()));
    let cases = [
        (
            "app",
            EventFilter {
                app: Some(shipping),
                ..filter()
            },
            vec![ours],
        ),
        (
            "exact type",
            EventFilter {
                event_type: pattern("order.paid"),
                ..filter()
            },
            vec![day, plain, paid],
        ),
        (
            "prefix",
            EventFilter {
                event_type: pattern("order.*"),
                ..filter()
            },
            vec![day, plain, sent, paid],
        ),
        (
            "any type",
            EventFilter {
                event_type: pattern("*"),
                ..filter()
            },
            vec![day, plain, ours, sent, paid],
        ),
        (
            "unknown type",
            EventFilter {
                event_type: pattern("never.seen"),
                ..filter()
            },
            vec![],
        ),
        (
            "label",
            EventFilter {
                label: label("1042"),
                ..filter()
            },
            vec![ours, paid],
        ),
        (
            "label of app",
            EventFilter {
                label: label("1042"),
                app: Some(billing),
                ..filter()
            },
            vec![paid],
        ),
        (
            "unknown label",
            EventFilter {
                label: label("1"),
                ..filter()
            },
            vec![],
        ),
        (
            "since",
            EventFilter {
                since: Some(at(20)),
                ..filter()
            },
            vec![day, plain, ours],
        ),
        (
            "until",
            EventFilter {
                until: Some(at(20)),
                ..filter()
            },
            vec![sent, paid],
        ),
        (
            "between",
            EventFilter {
                since: Some(at(5)),
                until: Some(at(25)),
                ..filter()
            },
            vec![ours, sent],
        ),
        (
            "within",
            EventFilter {
                within: Within::App(shipping),
                ..filter()
            },
            vec![ours],
        ),
        (
            "another's",
            EventFilter {
                within: Within::App(shipping),
                app: Some(billing),
                ..filter()
            },
            vec![],
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

/// All pages; the cursor moves on with each, and each event comes once.
async fn walk(store: &TestStore, filter: &EventFilter, limit: u32) -> Vec<EventId> {
    let (mut found, mut before) = (Vec::new(), EventId::MAX);
    loop {
        let page = store.events(filter, before, limit).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        found.extend(page.items.iter().map(|event| event.id));
        let Some(next) = page.next else { break };
        assert!(next < before, "the cursor stands still");
        before = next;
    }
    assert!(found.windows(2).all(|pair| pair[0] > pair[1]), "{found:?}");
    found
}

fn everything() -> EventFilter {
    EventFilter {
        within: ALL,
        app: None,
        event_type: None,
        label: None,
        since: None,
        until: None,
    }
}

/// An event with the label `order`, accepted this long after the start.
async fn labelled(
    store: &TestStore,
    app: AppId,
    event_type: &str,
    minutes: i64,
    order: &str,
) -> EventId {
    let now = START + TimeDelta::minutes(minutes);
    let mut event = seed::new_event(store, app, event_type, now).await;
    event.labels = [("order".to_owned(), order.to_owned())].into();
    seed::accept(store, event, now).await.id
}
