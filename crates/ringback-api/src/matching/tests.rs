use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicI64, AtomicU32},
    },
};

use async_trait::async_trait;
use proptest::prelude::*;
use ringback_model::{Lane, SubscriptionId};
use ringback_store::{AcceptItem, AcceptOutcome, Route, RouteChanges};

use super::{index::KEPT_TYPES, *};

fn route(id: i64, patterns: &[&str], filter: Option<&str>) -> Route {
    let event_types = patterns
        .iter()
        .map(|pattern| pattern.parse().unwrap())
        .collect();
    let subscription = SubscriptionId::new(id);
    Route {
        subscription,
        lane: Lane::of(subscription),
        event_types,
        filter: filter.map(|text| text.parse().unwrap()),
        ordering: model::Ordering::None,
        held: false,
    }
}

fn found(index: &Index, event_type: &str, data: &str) -> Vec<i64> {
    let (event_type, labels) = (event_type.parse().unwrap(), BTreeMap::new());
    let event = EventFields::new(&event_type, &labels, data.as_bytes());
    let deliveries = index.deliveries(&event);
    let mut found: Vec<_> = deliveries
        .iter()
        .map(|one| one.subscription.get())
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn an_event_goes_once_to_each_subscription_that_wants_it() {
    let mut paused = route(2, &["order.*", "order.paid"], None);
    paused.held = true;
    let routes = vec![
        route(1, &["*"], None),
        paused,
        route(3, &["refund.created"], None),
        route(4, &["*", "order.*"], Some(r#"{"data.total":{"gte":1}}"#)),
        route(5, &["*"], Some(r#"{"data.id":"7"}"#)),
        route(6, &["ringback.*"], None),
    ];
    let index = Index::new(1, routes);
    let cases: [(&str, &str, &[i64]); 6] = [
        ("order.paid", "{}", &[1, 2]),
        ("order.paid", r#"{"total":1.0,"id":"7"}"#, &[1, 2, 4, 5]),
        ("refund.created", r#"{"id":"7"}"#, &[1, 3, 5]),
        ("refund.created", r#"{"id":7}"#, &[1, 3]),
        ("order", r#"{"total":2}"#, &[1, 4]),
        ("ringback.delivery.dead", r#"{"total":2,"id":"7"}"#, &[6]),
    ];
    for (event_type, data, expected) in cases {
        for _ in ["found", "kept"] {
            assert_eq!(
                found(&index, event_type, data),
                expected,
                "{event_type} {data}"
            );
        }
    }
    let event_type = "order.paid".parse().unwrap();
    let labels = BTreeMap::new();
    let deliveries = index.deliveries(&EventFields::new(&event_type, &labels, b"{}"));
    let held = deliveries.iter().filter(|delivery| delivery.held);
    assert!(held.map(|one| one.subscription.get()).eq([2]));
}

#[test]
fn what_is_kept_stays_bounded() {
    let index = Index::new(1, vec![route(1, &["*"], None)]);
    for number in 0..3 * KEPT_TYPES {
        assert_eq!(found(&index, &format!("type.{number}"), "{}"), [1]);
        assert!(index.kept_types() <= KEPT_TYPES);
    }
}

const PATTERNS: [&str; 6] = ["*", "a.*", "a.b", "a.b.*", "c", "ringback.*"];
const FILTERS: [Option<&str>; 11] = [
    None,
    None,
    Some(r#"{"data.x":1}"#),
    Some(r#"{"data.x":1.0}"#),
    Some(r#"{"data.x":{"in":[1,2,1]}}"#),
    Some(r#"{"data.x":1,"data.y":"a"}"#),
    Some(r#"{"all":[{"data.y":"a"},{"data.x":{"gt":1}}]}"#),
    Some(r#"{"any":[{"data.x":1},{"data.y":"b"}]}"#),
    Some(r#"{"data.y":{"ne":"a"}}"#),
    Some(r#"{"type":{"prefix":"a."}}"#),
    Some(r#"{"not":{"data.x":{"exists":true}}}"#),
];
const TYPES: [&str; 6] = ["a", "a.b", "a.b.c", "c", "ringback.x", "d.e"];
const DATA: [&str; 5] = [
    "{}",
    r#"{"x":1}"#,
    r#"{"x":2,"y":"a"}"#,
    r#"{"x":1.0,"y":"a"}"#,
    r#"{"x":3,"y":"b"}"#,
];

/// Patterns and a filter; `None` for a route that is gone.
type Change = Option<(Vec<&'static str>, Option<&'static str>)>;

fn any_change() -> impl Strategy<Value = (i64, Change)> {
    let patterns = prop::collection::vec(prop::sample::select(PATTERNS.to_vec()), 1..4);
    let filter = prop::sample::select(FILTERS.to_vec());
    (0..12_i64, prop::option::weighted(0.8, (patterns, filter)))
}

/// Tries every route.
fn expected(routes: &BTreeMap<i64, Route>, event_type: &str, data: &str) -> Vec<i64> {
    let (event_type, labels) = (event_type.parse().unwrap(), BTreeMap::new());
    let event = EventFields::new(&event_type, &labels, data.as_bytes());
    let wants = |route: &Route| {
        route.event_types.iter().any(|one| one.matches(&event_type))
            && route.filter.as_ref().is_none_or(|one| one.matches(&event))
    };
    let wanting = routes.iter().filter(|(_, route)| wants(route));
    wanting.map(|(id, _)| *id).collect()
}

proptest! {
    /// However it came to be, the index finds what trying every route finds.
    #[test]
    fn the_index_finds_exactly_what_matches(
        changes in prop::collection::vec(prop::collection::vec(any_change(), 0..6), 1..6),
    ) {
        let mut routes = BTreeMap::new();
        let mut index = Index::new(0, Vec::new());
        for (version, batch) in (1..).zip(changes) {
            let batch: BTreeMap<_, _> = batch.into_iter().collect();
            let mut changes = RouteChanges {
                app: AppId::new(1),
                version,
                routes: Vec::new(),
                gone: Vec::new(),
            };
            for (id, change) in batch {
                match change {
                    Some((patterns, filter)) => {
                        let route = route(id, &patterns, filter);
                        routes.insert(id, route.clone());
                        changes.routes.push(route);
                    }
                    None => {
                        routes.remove(&id);
                        changes.gone.push(SubscriptionId::new(id));
                    }
                }
            }
            index.apply(changes);
            let fresh = Index::new(version, routes.values().cloned().collect());
            for event_type in TYPES {
                for data in DATA {
                    let expected = expected(&routes, event_type, data);
                    prop_assert_eq!(&found(&index, event_type, data), &expected);
                    prop_assert_eq!(&found(&fresh, event_type, data), &expected);
                }
            }
            prop_assert_eq!(index.sizes(), fresh.sizes());
        }
        let gone = routes.keys().copied().map(SubscriptionId::new).collect();
        index.apply(RouteChanges { app: AppId::new(1), version: 99, routes: Vec::new(), gone });
        prop_assert_eq!(index.sizes(), [0, 0, 0]);
    }
}

/// A store with routes that change.
#[derive(Default)]
struct Changing {
    version: AtomicI64,
    /// What changed with each version.
    changes: Mutex<Vec<Route>>,
    app: AtomicI64,
    reads: AtomicU32,
}

impl Changing {
    fn change(&self, route: Route) {
        self.changes.lock().unwrap().push(route);
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Accept for Changing {
    async fn accept(
        &self,
        _: Vec<AcceptItem>,
        _: DateTime<Utc>,
    ) -> Result<Vec<Result<AcceptOutcome, StoreError>>, StoreError> {
        Ok(Vec::new())
    }

    async fn routes(&self, _: &AppRef) -> Result<Option<AppRoutes>, StoreError> {
        self.reads.fetch_add(1, Ordering::AcqRel);
        Ok(Some(AppRoutes {
            app: AppId::new(self.app.load(Ordering::Acquire)),
            version: self.version.load(Ordering::Acquire),
            routes: self.changes.lock().unwrap().clone(),
        }))
    }

    async fn routes_since(
        &self,
        _: &AppRef,
        version: i64,
    ) -> Result<Option<RouteChanges>, StoreError> {
        self.reads.fetch_add(1, Ordering::AcqRel);
        tokio::task::yield_now().await;
        let changes = self.changes.lock().unwrap();
        Ok(Some(RouteChanges {
            app: AppId::new(self.app.load(Ordering::Acquire)),
            version: self.version.load(Ordering::Acquire),
            routes: changes[version as usize..].to_vec(),
            gone: Vec::new(),
        }))
    }
}

fn name() -> AppRef {
    AppRef::Slug("billing".parse().unwrap())
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(0, 0).unwrap()
}

/// The version and how many deliveries an event would have.
async fn ask(matching: &Matching, store: &Changing) -> (i64, usize) {
    let matcher = matching.app(store, &name(), now()).await.unwrap();
    let (event_type, labels) = ("a.b".parse().unwrap(), BTreeMap::new());
    let matched = matcher.matched(&EventFields::new(&event_type, &labels, b"{}"));
    (matched.version, matched.deliveries.len())
}

#[tokio::test]
async fn what_changed_is_read_once_it_was_heard_of() {
    let (matching, store) = (Matching::default(), Changing::default());
    assert_eq!(ask(&matching, &store).await, (0, 0));
    store.change(route(1, &["*"], None));
    assert_eq!(ask(&matching, &store).await, (0, 0)); // nobody said so
    matching.changed(AppId::new(0));
    assert_eq!(ask(&matching, &store).await, (1, 1));
    assert_eq!(ask(&matching, &store).await, (1, 1));
    assert_eq!(store.reads.load(Ordering::Acquire), 2);

    store.change(route(2, &["*"], None));
    let matcher = matching.app(&store, &name(), now()).await.unwrap();
    matcher.outdated(0); // long known
    assert_eq!(ask(&matching, &store).await, (1, 1));
    matcher.outdated(1);
    assert_eq!(ask(&matching, &store).await, (2, 2));
    assert_eq!(store.reads.load(Ordering::Acquire), 3);
}

#[tokio::test]
async fn many_that_heard_of_a_change_read_it_once() {
    let (matching, store) = (Matching::default(), Changing::default());
    ask(&matching, &store).await;
    store.change(route(1, &["*"], None));
    let matcher = matching.app(&store, &name(), now()).await.unwrap();
    for _ in 0..20 {
        matcher.outdated(0);
    }
    let asked = tokio::join!(
        ask(&matching, &store),
        ask(&matching, &store),
        ask(&matching, &store)
    );
    assert_eq!(asked, ((1, 1), (1, 1), (1, 1)));
    assert_eq!(store.reads.load(Ordering::Acquire), 2);
}

#[tokio::test]
async fn a_slug_that_another_application_has_now_is_read_anew() {
    let (matching, store) = (Matching::default(), Changing::default());
    ask(&matching, &store).await;
    store.app.store(7, Ordering::Release);
    matching.changed(AppId::new(0));
    ask(&matching, &store).await;
    let matcher = matching.app(&store, &name(), now()).await.unwrap();
    assert_eq!(matcher.app(), AppId::new(7));
}

#[test]
fn only_subscriptions_that_ask_for_order_get_the_events_key() {
    let ordered = Route {
        ordering: model::Ordering::Fifo,
        ..route(1, &["*"], None)
    };
    let routes = AppRoutes {
        app: AppId::new(1),
        version: 1,
        routes: vec![ordered, route(2, &["*"], None)],
    };
    let (event_type, labels) = ("order.paid".parse().unwrap(), BTreeMap::new());
    let matched = Matcher::new(routes).matched(&EventFields::new(&event_type, &labels, b"{}"));
    for key in [Some("order-1042"), None, Some("order-1043")] {
        let orders: Vec<_> = matched.in_order(key).iter().map(|one| one.order).collect();
        assert_eq!(orders, [OrderKey::of(model::Ordering::Fifo, key), None]);
    }
}
