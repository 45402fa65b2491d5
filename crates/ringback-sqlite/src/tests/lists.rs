//! Reads that have more before them than one page.

use super::*;

const FIRST_SUBSCRIPTION: SubscriptionId = SubscriptionId::new(100);
/// More than one page examines.
const MANY: i64 = 60_000;

/// Who reads on behind the last event would otherwise miss its other rows.
#[tokio::test]
async fn a_limit_does_not_cut_an_event_in_two() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&folder).await;
    store.create_app(new_app(APP), start()).await.unwrap();
    let lane = Lane::new(7);
    let two = [
        (lane, SubscriptionId::new(1)),
        (lane, SubscriptionId::new(2)),
    ];
    let items = vec![item(1, 1, &two), item(2, 1, &two), item(3, 1, &two)];
    store.accept(items, start()).await.unwrap();
    let read = |after, limit| {
        let store = store.clone();
        async move {
            let rows = store
                .read(&[(lane, EventId::new(after))], limit)
                .await
                .unwrap();
            rows.iter()
                .map(|key| key.delivery.event.get())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(read(0, 1).await, [1, 1]);
    assert_eq!(read(0, 3).await, [1, 1, 2, 2]);
    assert_eq!(read(2, 100).await, [3, 3]);
}

/// A long list, with one row at its far end that a filter asks for.
async fn with_many(folder: &TempDir) -> SqliteStore {
    let store = fresh(folder).await;
    store.create_app(new_app(APP), start()).await.unwrap();
    let mut lanes = BTreeSet::new();
    for raw in FIRST_SUBSCRIPTION.get()..FIRST_SUBSCRIPTION.get() + 10 {
        let id = SubscriptionId::new(raw);
        store
            .create_subscription(new_subscription(id), start())
            .await
            .unwrap();
        lanes.insert(Lane::of(id));
    }
    assert!(lanes.len() > 5);
    let fill = "insert into event_types values (1, 'order.paid'), (2, 'order.first'); \
        with recursive numbers (id) as (values (1) union all select id + 1 from numbers where id < 60000) \
        insert into events (id, app_id, type_id, data) \
        select id, 1, iif(id = 1, 2, 1), x'7b7d' from numbers";
    execute(&store, fill).await.unwrap();
    store
}

fn everything() -> DeliveryFilter {
    DeliveryFilter {
        within: Within::Everything,
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

/// All pages of a list; and how many of them were short although more came.
async fn all_pages(
    store: &SqliteStore,
    filter: &DeliveryFilter,
    limit: u32,
) -> (Vec<DeliveryId>, usize) {
    let (mut all, mut short) = (Vec::new(), 0);
    let mut before = DeliveryId {
        event: EventId::MAX,
        subscription: SubscriptionId::MAX,
    };
    loop {
        let page = store.deliveries(filter, before, limit).await.unwrap();
        all.extend(page.items.iter().map(|delivery| delivery.id));
        let Some(next) = page.next else {
            return (all, short);
        };
        assert!(next < before, "{next} is not behind {before}");
        short += usize::from(page.items.len() < limit as usize);
        before = next;
    }
}

#[tokio::test]
async fn a_page_of_events_goes_on_where_it_examined_enough() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_many(&folder).await;
    let filter = EventFilter {
        within: Within::App(APP),
        app: None,
        event_type: Some("order.first".parse().unwrap()),
        label: None,
        since: None,
        until: None,
    };
    let first = store.events(&filter, EventId::MAX, 10).await.unwrap();
    assert!(first.items.is_empty());
    let second = store
        .events(&filter, first.next.unwrap(), 10)
        .await
        .unwrap();
    assert_eq!((second.items[0].id, second.next), (EventId::new(1), None));
}

#[tokio::test]
async fn a_long_outbox_is_listed_whole_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_many(&folder).await;
    let fill = "insert into outbox (lane, event_id, subscription_id) \
        select s.lane, e.id, s.id from events e \
        join subscriptions s on s.id = 100 + e.id % 10";
    execute(&store, fill).await.unwrap();
    let pending = DeliveryFilter {
        status: Some(DeliveryStatus::Pending),
        ..everything()
    };
    let first = DeliveryFilter {
        event_type: Some("order.first".parse().unwrap()),
        ..everything()
    };
    let of_one = DeliveryFilter {
        subscription: Some(FIRST_SUBSCRIPTION),
        ..everything()
    };
    for (filter, expected) in [
        (everything(), MANY),
        (pending, MANY),
        (first, 1),
        (of_one, MANY / 10),
    ] {
        // Less than a page examines, and more.
        for limit in [1000, 7000] {
            let (all, _) = all_pages(&store, &filter, limit).await;
            assert_eq!(all.len() as i64, expected);
            assert!(all.windows(2).all(|pair| pair[0] > pair[1]));
        }
    }
}

#[tokio::test]
async fn long_tables_are_listed_whole_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_many(&folder).await;
    let fill = "insert into retries (lane, subscription_id, event_id, app_id, type_id, last_error, \
        attempts_made, due_at) \
        select s.lane, s.id, e.id, 1, e.type_id, iif(e.id = 1, 5, 1), 1, 0 from events e \
        join subscriptions s on s.id = 100 + e.id % 2; \
        insert into deliveries (event_id, subscription_id, app_id, settled_at, type_id, status, \
        attempts, last_error, dead_reason) \
        select e.id, 102, 1, 0, e.type_id, iif(e.id % 3 = 0, 3, 2), 1, iif(e.id = 3, 5, 1), \
        iif(e.id % 3 = 0, 1, null) from events e";
    execute(&store, fill).await.unwrap();
    let app = DeliveryFilter {
        app: Some(APP),
        ..everything()
    };
    let dead = DeliveryFilter {
        status: Some(DeliveryStatus::Dead),
        ..everything()
    };
    let tls = DeliveryFilter {
        error: Some(AttemptError::Tls),
        ..everything()
    };
    let third = Some(SubscriptionId::new(102));
    let cases = [
        ("everything", everything(), 2 * MANY),
        ("of an application", app.clone(), 2 * MANY),
        ("dead", dead.clone(), MANY / 3),
        (
            "dead of an application",
            DeliveryFilter {
                app: Some(APP),
                ..dead.clone()
            },
            MANY / 3,
        ),
        (
            "dead of a subscription",
            DeliveryFilter {
                subscription: third,
                ..dead
            },
            MANY / 3,
        ),
        (
            "of a subscription",
            DeliveryFilter {
                subscription: third,
                ..everything()
            },
            MANY,
        ),
        (
            "retries of one",
            DeliveryFilter {
                subscription: Some(FIRST_SUBSCRIPTION),
                ..everything()
            },
            MANY / 2,
        ),
        ("rare", tls.clone(), 2),
        (
            "rare in an application",
            DeliveryFilter {
                app: Some(APP),
                ..tls
            },
            2,
        ),
    ];
    for (name, filter, expected) in cases {
        let (all, short) = all_pages(&store, &filter, 7000).await;
        assert_eq!(all.len() as i64, expected, "{name}");
        assert!(all.windows(2).all(|pair| pair[0] > pair[1]), "{name}");
        assert!(
            short > 0 || expected > 2,
            "{name}: a page examined too much"
        );
    }
}
