//! Puts things into a store, each in a line.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ringback_model::{
    AppId, AttemptError, DeliveryId, EventFields, EventId, EventTypePattern, KeyId, Lane, NodeId,
    OrderKey, Ordering, Quotas, RetrySpec, SubscriptionId,
};
use ringback_store::{
    AcceptItem, AcceptOutcome, Accepted, AppRef, AttemptAnswer, AttemptRecord, CreatedApp,
    ExternalId, IdempotencyKey, NewApp, NewDelivery, NewEvent, NewSubscription, Next, NodeLease,
    OutboxKey, Sealed, Settlement, Source, Subscription, SubscriptionConfig, SubscriptionKind,
};

use crate::TestStore;

/// When tests that choose their time begin; stores come ready for it.
pub const START: DateTime<Utc> = match DateTime::from_timestamp(1_767_603_600, 0) {
    Some(time) => time, // 2026-01-05T09:00:00Z
    None => panic!("a time of this century"),
};

/// The node in the ids of seeds: no running one gets so high a number.
pub const NODE: NodeId = match NodeId::new(NodeId::COUNT - 1) {
    Some(node) => node,
    None => panic!("the highest number is a number"),
};

/// Reads an RFC 3339 time.
///
/// # Panics
///
/// If it is none.
pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// An application.
pub async fn app(store: &TestStore, slug: &str, now: DateTime<Utc>) -> AppId {
    let id = AppId::new(store.ids.next(now));
    let app = NewApp {
        id,
        slug: slug.parse().unwrap(),
        name: slug.to_owned(),
        metadata: BTreeMap::new(),
        quotas: Quotas::default(),
    };
    let created = store.create_app(app, now).await.unwrap();
    assert!(matches!(created, CreatedApp::Created(_)), "{created:?}");
    id
}

/// An active subscription to every event of `app`.
pub async fn subscription(store: &TestStore, app: AppId, now: DateTime<Utc>) -> Subscription {
    subscription_with(store, app, config("https://receiver.example/hooks"), now).await
}

/// An active subscription with this configuration.
pub async fn subscription_with(
    store: &TestStore,
    app: AppId,
    config: SubscriptionConfig,
    now: DateTime<Utc>,
) -> Subscription {
    let subscription = new_subscription(store, app, config, now);
    store
        .create_subscription(subscription, now)
        .await
        .unwrap()
        .unwrap()
}

/// An active subscription to every event of `app`, in this lane.
pub async fn subscription_in(
    store: &TestStore,
    app: AppId,
    lane: Lane,
    now: DateTime<Utc>,
) -> Subscription {
    let mut subscription = new_subscription(store, app, config("https://receiver.example/"), now);
    while Lane::of(subscription.id) != lane {
        subscription.id = SubscriptionId::new(store.ids.next(now));
    }
    store
        .create_subscription(subscription, now)
        .await
        .unwrap()
        .unwrap()
}

/// A subscription that is not stored yet. Its secret is the bytes of its id.
pub fn new_subscription(
    store: &TestStore,
    app: AppId,
    config: SubscriptionConfig,
    now: DateTime<Utc>,
) -> NewSubscription {
    let id = SubscriptionId::new(store.ids.next(now));
    let secret = Sealed::from_bytes(id.to_string().into_bytes());
    NewSubscription {
        id,
        app,
        kind: SubscriptionKind::Standard,
        config,
        secret,
    }
}

/// What an owner who only gives a URL gets.
pub fn config(url: &str) -> SubscriptionConfig {
    SubscriptionConfig {
        url: url.to_owned(),
        event_types: vec![EventTypePattern::Any],
        payload_filter: None,
        headers: None,
        retry: RetrySpec::default(),
        timeout_ms: 15_000,
        max_in_flight: 10,
        rate_per_s: None,
        ordering: Ordering::None,
        description: String::new(),
        labels: BTreeMap::new(),
    }
}

/// Accepts an `order.paid` of `app` for all that subscribe to it.
pub async fn event(store: &TestStore, app: AppId, now: DateTime<Utc>) -> EventId {
    typed_event(store, app, "order.paid", now).await
}

/// Accepts an event of this type for all that subscribe to it.
pub async fn typed_event(
    store: &TestStore,
    app: AppId,
    event_type: &str,
    now: DateTime<Utc>,
) -> EventId {
    let event = new_event(store, app, event_type, now).await;
    accept(store, event, now).await.id
}

/// Accepts one event.
///
/// # Panics
///
/// If it is not accepted.
pub async fn accept(store: &TestStore, event: NewEvent, now: DateTime<Utc>) -> Accepted {
    match accept_item(store, item(event), now).await {
        AcceptOutcome::Accepted(accepted) => accepted[0],
        outcome => panic!("not accepted: {outcome:?}"),
    }
}

/// What becomes of one item.
pub async fn accept_item(store: &TestStore, item: AcceptItem, now: DateTime<Utc>) -> AcceptOutcome {
    store
        .accept(vec![item], now)
        .await
        .unwrap()
        .remove(0)
        .unwrap()
}

/// An event that is not accepted yet, matched with what is subscribed now.
pub async fn new_event(
    store: &TestStore,
    app: AppId,
    event_type: &str,
    now: DateTime<Utc>,
) -> NewEvent {
    let routes = store.routes(&AppRef::Id(app)).await.unwrap().unwrap();
    let event_type = event_type.parse().unwrap();
    let (labels, data) = (
        BTreeMap::new(),
        Bytes::from_static(br#"{"id":"1042","total":1.10}"#),
    );
    let fields = EventFields::new(&event_type, &labels, &data);
    let wanted = routes.routes.iter().filter(|route| {
        let mut patterns = route.event_types.iter();
        let filter = route.filter.as_ref();
        patterns.any(|pattern| pattern.matches(&event_type))
            && filter.is_none_or(|filter| filter.matches(&fields))
    });
    let deliveries = wanted
        .map(|route| NewDelivery {
            subscription: route.subscription,
            lane: route.lane,
            order: OrderKey::of(route.ordering, None),
            held: route.held,
        })
        .collect();
    NewEvent {
        id: EventId::new(store.ids.next(now)),
        app,
        app_version: routes.version,
        event_type,
        data,
        labels,
        traceparent: None,
        ordering_key: None,
        deliver_at: None,
        external: None,
        deliveries,
    }
}

/// The same again, as another event.
pub fn copy(store: &TestStore, event: &NewEvent) -> NewEvent {
    NewEvent {
        id: EventId::new(store.ids.next(event.id.time())),
        ..event.clone()
    }
}

/// A request with one event and no key.
pub fn item(event: NewEvent) -> AcceptItem {
    AcceptItem {
        events: vec![event],
        idempotency: None,
        emitted: None,
    }
}

/// A producer's own id, with a body that `body` stands for.
pub fn external(id: &str, body: u8) -> ExternalId {
    let mut id_hash = [0; 32];
    id_hash[..id.len()].copy_from_slice(id.as_bytes());
    ExternalId {
        id: id.to_owned(),
        id_hash,
        body_hash: [body; 32],
    }
}

/// An `Idempotency-Key`, sent with the API key `api_key`; `key` and `body` stand for the
/// header's value and the request's body.
pub fn idempotency(api_key: i64, key: u8, body: u8) -> IdempotencyKey {
    let api_key = KeyId::new(api_key);
    IdempotencyKey {
        api_key,
        key_hash: [key; 32],
        body_hash: [body; 32],
    }
}

/// A node of this name that owns every lane that is free.
pub async fn owner(store: &TestStore, name: &str, now: DateTime<Utc>) -> NodeLease {
    let lease = store.join(name, true, now).await.unwrap().unwrap();
    let lanes: Vec<Lane> = Lane::all().collect();
    store.take(&lease, &lanes, now).await.unwrap();
    lease
}

/// All that is in the outbox, lane by lane.
pub async fn outbox(store: &TestStore) -> Vec<OutboxKey> {
    let cursors: Vec<_> = Lane::all().map(|lane| (lane, EventId::MIN)).collect();
    store.read(&cursors, 10_000).await.unwrap()
}

/// The delivery of an event to a subscription.
pub fn delivery(event: EventId, subscription: &Subscription) -> DeliveryId {
    DeliveryId {
        event,
        subscription: subscription.id,
    }
}

/// The `number`-th attempt, as answered with `status_code`.
pub fn attempt(number: u16, status_code: u16, started_at: DateTime<Utc>) -> AttemptRecord {
    let delivered = (200..300).contains(&status_code);
    AttemptRecord {
        number,
        started_at,
        subscription_version: 1,
        error: (!delivered).then_some(AttemptError::HttpStatus),
        remote_addr: Some(([203, 0, 113, 7], 443).into()),
        dns_ms: Some(1),
        connect_ms: Some(2),
        tls_ms: None,
        first_byte_ms: Some(30),
        total_ms: 31,
        answer: Some(AttemptAnswer {
            status_code,
            headers: vec![("server".to_owned(), b"nginx\xff".to_vec())],
            body: Bytes::from_static(b"\0answer"),
            truncated: false,
        }),
    }
}

/// What became of a delivery to `subscription`.
pub fn settlement(
    event: EventId,
    subscription: &Subscription,
    source: Source,
    attempt: Option<AttemptRecord>,
    next: Next,
) -> Settlement {
    Settlement {
        lane: subscription.lane,
        delivery: delivery(event, subscription),
        app: subscription.app,
        event_type: "order.paid".parse().unwrap(),
        source,
        attempt,
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_begin_on_a_monday_morning() {
        assert_eq!(START, instant("2026-01-05T09:00:00Z"));
    }
}
