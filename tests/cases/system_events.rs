//! What Ringback tells an application about its subscriptions, as events.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Gate, Reply},
};
use serde_json::{Value, json};

use super::{APP, Bystander, emit, service, subscribe};
use crate::harness::{Ringback, Server, Subscription};

on_both_databases! {
    a_disabled_subscription_is_told_of_with_what_died_by_it,
    a_subscription_that_fails_for_days_is_told_of_while_it_can_be_mended,
    a_filter_chooses_among_what_is_told,
    dead_letters_are_told_of_once_a_minute_per_subscription,
    what_is_told_causes_nothing_more_to_be_told,
    a_service_that_is_started_again_tells_what_was_not_told,
}

/// A receiver of what is told, and the subscription it has.
async fn listen(ringback: &Ringback) -> (Receiver, Subscription) {
    let receiver = Receiver::start().await;
    let fields = json!({"event_types": ["ringback.*"], "retry": {"schedule_s": []}});
    let subscription = ringback
        .api
        .subscribe(APP, &receiver.url("/told"), fields)
        .await;
    (receiver, subscription)
}

/// What was told so far: types and data.
async fn told(receiver: &Receiver, count: usize) -> Vec<(String, Value)> {
    let requests = receiver.wait_for(count).await;
    let bodies = requests.iter().map(|request| request.json());
    bodies
        .map(|mut body| {
            (
                body["type"].as_str().unwrap().to_owned(),
                body["data"].take(),
            )
        })
        .collect()
}

async fn a_disabled_subscription_is_told_of_with_what_died_by_it(store: TestStore) {
    let ringback = service(store).await;
    let (listener, _) = listen(&ringback).await;
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.next([Reply::status(410).behind(&gate)]);
    let subscription = ringback
        .api
        .subscribe(
            APP,
            &receiver.url("/hooks?sig=secret"),
            json!({"event_types": ["order.*"], "max_in_flight": 1}),
        )
        .await
        .id;
    let gone = emit(&ringback).await;
    for _ in 0..3 {
        emit(&ringback).await;
    }
    receiver.wait_for(1).await;
    gate.open();
    ringback.delivery_in("dead", &gone, &subscription).await;

    let at = ringback
        .eventually("it is told", async || match listener.count() {
            0 => Err(0),
            _ => Ok(told(&listener, 1).await[0].1["at"].clone()),
        })
        .await;
    let expected = json!({
        "subscription": subscription,
        "url": receiver.url("/hooks"),
        "reason": "410 Gone",
        "dead_deliveries": 3,
        "at": at,
    });
    assert_eq!(
        told(&listener, 1).await,
        [(
            "ringback.subscription.disabled".to_owned(),
            expected.clone()
        )]
    );
    // It is an event like any other.
    let path = "/v1/events?type=ringback.subscription.disabled";
    let events = ringback.api.all(path).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["data"], expected);
    assert_eq!(ringback.store.count("ringback.emitted", "").await, 0);
    ringback.finish().await;
}

/// At 50, 70 and 90 percent of five days, once each; and that it is disabled, at the end.
async fn a_subscription_that_fails_for_days_is_told_of_while_it_can_be_mended(store: TestStore) {
    let ringback = service(store).await;
    let (listener, _) = listen(&ringback).await;
    let receiver = Receiver::start().await;
    receiver.always(Reply::status(500));
    let waits = [21_600; 20];
    let fields = json!({"retry": {"schedule_s": waits}});
    let subscription = subscribe(&ringback, &receiver, fields).await.id;
    let event = emit(&ringback).await;
    let mut expected = 0;
    for made in 1_u64.. {
        let delivery = ringback
            .eventually("what follows from an attempt is known", async || {
                let delivery = ringback.api.delivery(&event, &subscription).await;
                if delivery["attempts"] == made || delivery["status"] == "dead" {
                    Ok(delivery)
                } else {
                    Err(delivery)
                }
            })
            .await;
        let health = ringback
            .api
            .get(&format!("/v1/subscriptions/{subscription}"))
            .await
            .ok();
        if let Some(since) = health["health"]["failing_since"].as_str() {
            let last = ringback.api.attempts(&delivery).await;
            let last: DateTime<Utc> = last[last.len() - 1]["started_at"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            let for_so_long = last - since.parse::<DateTime<Utc>>().unwrap();
            let steps = [60, 84, 108].map(TimeDelta::hours);
            let now_expected = steps.iter().filter(|step| for_so_long >= **step).count();
            if now_expected > expected {
                expected = now_expected;
                ringback
                    .eventually("the warning is told", async || match listener.count() {
                        count if count == expected => Ok(()),
                        count => Err(count),
                    })
                    .await;
            }
        }
        if delivery["status"] == "dead" {
            break;
        }
        assert_eq!(listener.count(), expected, "after {made} attempts");
        let next_at = delivery["next_attempt_at"].as_str().unwrap();
        ringback.later_at(next_at.parse().unwrap()).await;
        receiver.wait_for(made as usize + 1).await;
    }
    assert_eq!(expected, 3);
    ringback
        .eventually("its end is told", async || match listener.count() {
            4.. => Ok(()),
            count => Err(count),
        })
        .await;
    let told = told(&listener, 4).await;
    let types: Vec<_> = told
        .iter()
        .map(|(event_type, _)| &event_type[9..])
        .collect();
    let failing = "subscription.failing";
    assert_eq!(types, [failing, failing, failing, "subscription.disabled"]);
    for ((_, data), percent) in told.iter().zip([50, 70, 90]) {
        assert_eq!(data["subscription"], subscription);
        assert_eq!(data["percent"], percent, "{data}");
    }
    ringback.finish().await;
}

/// A listener that wants to hear of one subscription only.
async fn a_filter_chooses_among_what_is_told(store: TestStore) {
    let ringback = service(store).await;
    let [receiver, listener] = [Receiver::start().await, Receiver::start().await];
    receiver.always(Reply::status(500));
    let mut subscriptions = Vec::new();
    for _ in 0..2 {
        let fields = json!({"retry": {"schedule_s": []}});
        subscriptions.push(subscribe(&ringback, &receiver, fields).await.id);
    }
    let fields = json!({
        "event_types": ["ringback.delivery.*"],
        "payload_filter": {"data.subscription": subscriptions[1]},
    });
    ringback
        .api
        .subscribe(APP, &listener.url("/"), fields)
        .await;
    let event = emit(&ringback).await;
    for subscription in &subscriptions {
        ringback.delivery_in("dead", &event, subscription).await;
    }
    ringback
        .eventually("both are told of", async || {
            let events = ringback.api.all("/v1/events?type=ringback.*").await;
            if events.len() == 2 {
                Ok(())
            } else {
                Err(events)
            }
        })
        .await;
    let told = told(&listener, 1).await;
    assert_eq!(told[0].1["subscription"], subscriptions[1]);
    ringback.finish().await;
    assert_eq!(listener.count(), 1);
}

async fn dead_letters_are_told_of_once_a_minute_per_subscription(store: TestStore) {
    let ringback = service(store).await;
    let (listener, _) = listen(&ringback).await;
    let [one, other] = [Receiver::start().await, Receiver::start().await];
    let mut subscriptions = Vec::new();
    for receiver in [&one, &other] {
        receiver.always(Reply::status(500));
        let fields = json!({"retry": {"schedule_s": []}});
        subscriptions.push(subscribe(&ringback, receiver, fields).await.id);
    }
    let mut dead = Vec::new();
    for _ in 0..3 {
        let event = emit(&ringback).await;
        for subscription in &subscriptions {
            dead.push(ringback.delivery_in("dead", &event, subscription).await);
        }
    }
    let first = told(&listener, 2).await;
    for (event_type, data) in &first {
        assert_eq!(event_type, "ringback.delivery.dead");
        let delivery = dead
            .iter()
            .find(|delivery| delivery["id"] == data["delivery"])
            .unwrap();
        assert_eq!(data["subscription"], delivery["subscription"]);
        assert_eq!(data["event"], delivery["event"]);
        assert_eq!(data["event_type"], "order.paid");
        assert_eq!(
            (&data["attempts"], &data["error"]),
            (&json!(1), &json!("http_status"))
        );
        assert_eq!(data["dead_reason"], "out_of_attempts");
    }
    assert_ne!(first[0].1["subscription"], first[1].1["subscription"]);

    let bystander = Bystander::start(&ringback).await;
    ringback.later(Duration::from_secs(50)).await;
    let event = emit(&ringback).await;
    ringback
        .delivery_in("dead", &event, &subscriptions[0])
        .await;
    bystander.is_served(&ringback).await;
    assert_eq!(listener.count(), 2);
    ringback.later(Duration::from_secs(10)).await;
    let event = emit(&ringback).await;
    let last = ringback
        .delivery_in("dead", &event, &subscriptions[0])
        .await;
    let told = told(&listener, 4).await;
    assert!(
        told[2..]
            .iter()
            .any(|(_, data)| data["delivery"] == last["id"])
    );
    ringback.finish().await;
}

async fn what_is_told_causes_nothing_more_to_be_told(store: TestStore) {
    let ringback = service(store).await;
    let (listener, subscription) = listen(&ringback).await;
    listener.always(Reply::status(500));
    let receiver = Receiver::start().await;
    receiver.always(Reply::status(500));
    let fields = json!({"retry": {"schedule_s": []}});
    let failing = subscribe(&ringback, &receiver, fields).await.id;
    let event = emit(&ringback).await;
    ringback.delivery_in("dead", &event, &failing).await;
    told(&listener, 1).await;
    let events = ringback.api.all("/v1/events?type=ringback.*").await;
    let event = events[0]["id"].as_str().unwrap();
    ringback.delivery_in("dead", event, &subscription.id).await;
    let bystander = Bystander::start(&ringback).await;
    ringback.later(Duration::from_secs(120)).await;
    bystander.is_served(&ringback).await;
    assert_eq!(
        ringback.api.all("/v1/events?type=ringback.*").await.len(),
        1
    );
    assert_eq!(listener.count(), 1);
    ringback.finish().await;
}

/// As if the process had died just after the subscription was disabled.
async fn a_service_that_is_started_again_tells_what_was_not_told(store: TestStore) {
    let server = Server::spawn(store.url(), &[]);
    server.api.app(APP).await;
    let [listener, receiver] = [Receiver::start().await, Receiver::start().await];
    let fields = json!({"event_types": ["ringback.*"]});
    server.api.subscribe(APP, &listener.url("/"), fields).await;
    let fields = json!({"event_types": ["order.*"]});
    let subscription = server
        .api
        .subscribe(APP, &receiver.url("/"), fields)
        .await
        .id;
    let key = server.api.key().to_owned();
    assert_eq!(server.terminate(), Some(0));

    let now = store.now().await.unwrap();
    store
        .disable_subscription(subscription.parse().unwrap(), "410 Gone", now)
        .await
        .unwrap();
    assert_eq!(store.count("ringback.emitted", "").await, 1);

    let _server = Server::spawn_with_key(store.url(), &key, &[]);
    let told = told(&listener, 1).await;
    assert_eq!(told[0].1["subscription"], subscription);
    assert_eq!(store.count("ringback.emitted", "").await, 0);
}
