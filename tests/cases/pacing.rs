//! Receivers that are overloaded, slow, or down: each gets what it can take, and nobody
//! else waits for it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Gate, Reply},
};
use serde_json::{Value, json};

use super::{APP, Bystander, emit, service, stays_quiet, subscribe};
use crate::harness::Ringback;

on_both_databases! {
    nothing_is_sent_before_the_time_that_a_receiver_asked_for,
    an_overloaded_receiver_gets_fewer_requests_and_everything_in_the_end,
    a_receiver_that_stalls_delays_nobody_else,
    a_rate_is_never_exceeded_also_after_an_outage,
    a_receiver_that_was_down_is_not_overrun_when_it_comes_back,
    five_days_of_nothing_but_failures_disable_a_subscription_and_it_shows,
}

/// Case 18.
async fn nothing_is_sent_before_the_time_that_a_receiver_asked_for(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    receiver.next([Reply::status(429).header("retry-after", "3")]);
    let fields = json!({"max_in_flight": 1, "retry": {"schedule_s": [0.5]}});
    let subscription = subscribe(&ringback, &receiver, fields).await.id;
    let mut events = Vec::new();
    for _ in 0..11 {
        events.push(emit(&ringback).await);
    }
    let first = ringback
        .delivery_in("retrying", &events[0], &subscription)
        .await;
    let attempt = ringback.api.attempts(&first).await.remove(0);
    // The wait counts from the end of the attempt that was told so.
    let asked_at = time(&attempt["started_at"]) + TimeDelta::seconds(3);
    assert!(time(&first["next_attempt_at"]) >= asked_at, "{first}");
    let early = asked_at - TimeDelta::milliseconds(1) - ringback.clock.now();
    stays_quiet(&ringback, &bystander, &receiver, early.to_std().unwrap()).await;
    assert_eq!(receiver.count(), 1);

    ringback.later(Duration::from_millis(500)).await;
    for event in &events {
        ringback
            .delivery_in("delivered", event, &subscription)
            .await;
    }
    assert_eq!(receiver.count(), 12);
    ringback.finish().await;
}

/// Case 21.
async fn an_overloaded_receiver_gets_fewer_requests_and_everything_in_the_end(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.next([
        Reply::status(502).behind(&gate),
        Reply::status(504).behind(&gate),
    ]);
    let subscription = subscribe(&ringback, &receiver, json!({"max_in_flight": 2}))
        .await
        .id;
    let mut events = Vec::new();
    for _ in 0..52 {
        events.push(emit(&ringback).await);
    }
    receiver.wait_for(2).await;
    gate.open();
    for event in &events[..2] {
        ringback.delivery_in("retrying", event, &subscription).await;
    }
    // Without them, 50 more would have come by now.
    let bystander = Bystander::start(&ringback).await;
    bystander.is_served(&ringback).await;
    assert_eq!(receiver.count(), 2, "first attempts pause");
    for event in &events {
        ringback
            .delivery_in("delivered", event, &subscription)
            .await;
    }
    assert_eq!(receiver.count(), 54);
    ringback.finish().await;
}

/// Case 38, by the order of arrivals: while one stalls with all it may have under way,
/// what comes for others arrives at once.
async fn a_receiver_that_stalls_delays_nobody_else(store: TestStore) {
    let ringback = Ringback::start_with(store, crate::harness::open_policy(), |config| {
        let dispatcher = config.dispatcher.as_mut().unwrap();
        dispatcher.max_in_flight = 20;
    })
    .await;
    ringback.api.app(APP).await;
    let stalling = Receiver::start().await;
    let gate = Gate::shut();
    stalling.always(Reply::status(204).behind(&gate));
    let fields = json!({"timeout_s": 1, "retry": {"schedule_s": [1, 1, 1, 1, 1, 1, 1, 1, 1]}});
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(subscribe(&ringback, &stalling, fields.clone()).await.id);
    }
    let first = emit(&ringback).await;
    for subscription in &slow {
        // It has timed out, so it draws from the slow half.
        ringback.delivery_in("retrying", &first, subscription).await;
    }
    let healthy = Receiver::start().await;
    let fast = subscribe(&ringback, &healthy, json!({})).await.id;
    for number in 1..=100 {
        let event = emit(&ringback).await;
        // Nothing but the healthy one's own answers lets this go on.
        ringback.delivery_in("delivered", &event, &fast).await;
        assert_eq!(healthy.count(), number);
    }
    assert!(stalling.count() < 100, "{} requests", stalling.count());
    for subscription in &slow {
        let path = format!("/v1/subscriptions/{subscription}");
        ringback.api.delete(&path).await.ok();
    }
    gate.open();
    ringback.finish().await;
}

async fn a_rate_is_never_exceeded_also_after_an_outage(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    receiver.next((0..10).map(|_| Reply::reset()));
    let fields = json!({"rate_per_s": 2, "retry": {"preset": "fast"}});
    let subscription = subscribe(&ringback, &receiver, fields).await.id;
    let shown = ringback
        .api
        .get(&format!("/v1/subscriptions/{subscription}"))
        .await
        .ok();
    assert_eq!(shown["rate_per_s"], 2);
    let mut events = Vec::new();
    for _ in 0..40 {
        events.push(emit(&ringback).await);
    }
    while receiver.count() < 50 {
        ringback.later(Duration::from_millis(500)).await;
        bystander.is_served(&ringback).await;
    }
    for event in &events {
        ringback
            .delivery_in("delivered", event, &subscription)
            .await;
    }
    let mut begun = attempts(&ringback, &events, &subscription).await;
    begun.sort();
    for (index, from) in begun.iter().enumerate() {
        let second = |at: &&DateTime<Utc>| **at < *from + TimeDelta::seconds(1);
        let in_a_second = begun[index..].iter().take_while(second).count();
        assert!(
            in_a_second <= 4,
            "a second's worth, and one burst: {in_a_second}"
        );
        let ten = |at: &&DateTime<Utc>| **at < *from + TimeDelta::seconds(10);
        assert!(begun[index..].iter().take_while(ten).count() <= 22);
    }
    ringback.finish().await;
}

async fn a_receiver_that_was_down_is_not_overrun_when_it_comes_back(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    receiver.always(Reply::reset());
    let fields = json!({"max_in_flight": 50});
    let subscription = subscribe(&ringback, &receiver, fields).await.id;
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(emit(&ringback).await);
    }
    for event in &events {
        ringback.delivery_in("retrying", event, &subscription).await;
    }
    // Five that got no answer: what comes now is held back.
    for _ in 0..60 {
        events.push(emit(&ringback).await);
    }
    bystander.is_served(&ringback).await;
    assert_eq!(receiver.count(), 5);

    // It is back, and answers nobody before the gate is open: what is under way at once
    // is what it has to bear.
    let gates: Vec<Gate> = (0..3).map(|_| Gate::shut()).collect();
    receiver.next(gates.iter().map(|gate| Reply::status(204).behind(gate)));
    receiver.always(Reply::status(204));
    ringback.later(Duration::from_secs(6)).await;
    receiver.wait_for(6).await;
    bystander.is_served(&ringback).await;
    assert_eq!(receiver.count(), 6, "a probe comes alone");
    gates[0].open();
    receiver.wait_for(7).await;
    bystander.is_served(&ringback).await;
    assert_eq!(receiver.count(), 7, "then one at a time");
    gates.iter().for_each(Gate::open);
    for event in &events {
        ringback
            .delivery_in("delivered", event, &subscription)
            .await;
    }
    assert_eq!(receiver.count(), 70);
    ringback.finish().await;
}

async fn five_days_of_nothing_but_failures_disable_a_subscription_and_it_shows(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    receiver.always(Reply::status(500));
    let waits = [43_200; 20];
    let fields = json!({"retry": {"schedule_s": waits}});
    let subscription = subscribe(&ringback, &receiver, fields).await.id;
    let path = format!("/v1/subscriptions/{subscription}");
    let healthy = json!({"state": "healthy", "failing_since": null, "disables_at": null});
    let shown = async || ringback.api.get(&path).await.ok();
    assert_eq!(shown().await["health"], healthy);

    let event = emit(&ringback).await;
    let delivery = ringback.delivery_after(1, &event, &subscription).await;
    let attempts = ringback.api.attempts(&delivery).await;
    let since = time(&attempts[0]["started_at"]);
    ringback.later(Duration::from_secs(61)).await;
    let failing = ringback
        .eventually("it is failing", async || {
            let shown = shown().await;
            if shown["health"]["state"] == "failing" {
                Ok(shown["health"].clone())
            } else {
                Err(shown)
            }
        })
        .await;
    let failing_since = time(&failing["failing_since"]);
    assert!(failing_since >= since && failing_since < since + TimeDelta::seconds(1));
    let disables_at = failing_since + TimeDelta::days(5);
    assert_eq!(time(&failing["disables_at"]), disables_at);

    let mut made = 1;
    while ringback.clock.now() < disables_at {
        let delivery = ringback.delivery_after(made, &event, &subscription).await;
        assert_eq!(shown().await["status"], "active");
        ringback.later_at(time(&delivery["next_attempt_at"])).await;
        made += 1;
        receiver.wait_for(made as usize).await;
    }
    let dead = ringback.delivery_in("dead", &event, &subscription).await;
    assert_eq!(dead["error"], "subscription_disabled");
    let disabled = ringback
        .eventually("it is disabled", async || {
            let shown = shown().await;
            if shown["status"] == "disabled" {
                Ok(shown)
            } else {
                Err(shown)
            }
        })
        .await;
    assert_eq!(disabled["status_reason"], "nothing but failures for 5 days");
    assert_eq!(disabled["health"]["state"], "failing");
    assert_eq!(disabled["health"]["disables_at"], Value::Null);

    receiver.always(Reply::status(204));
    let resumed = ringback
        .api
        .post(&format!("{path}/resume"), json!({}))
        .await
        .ok();
    assert_eq!(
        (&resumed["status"], &resumed["health"]),
        (&json!("active"), &healthy)
    );
    let event = emit(&ringback).await;
    ringback
        .delivery_in("delivered", &event, &subscription)
        .await;
    ringback.finish().await;
}

/// When the attempts of these deliveries began.
async fn attempts(ringback: &Ringback, events: &[String], to: &str) -> Vec<DateTime<Utc>> {
    let mut begun = Vec::new();
    for event in events {
        let delivery = ringback.api.delivery(event, to).await;
        let made = ringback.api.attempts(&delivery).await;
        begun.extend(made.iter().map(|attempt| time(&attempt["started_at"])));
    }
    begun
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}
