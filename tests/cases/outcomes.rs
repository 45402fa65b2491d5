//! What a status means.

use std::time::Duration;

use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Canary, Reply, Request},
};
use serde_json::json;

use super::{APP, Bystander, emit, service, stays_quiet};

on_both_databases! {
    every_2xx_is_a_success_after_one_attempt,
    a_redirect_is_a_failure_and_is_not_followed,
}

/// Case 15.
async fn every_2xx_is_a_success_after_one_attempt(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    receiver.script(|request| Reply::status(status_in(request)));
    let statuses = [200, 201, 202, 204, 206, 299];
    let mut subscriptions = Vec::new();
    for status in statuses {
        let fields = json!({"event_types": ["order.*"]});
        let url = receiver.url(&format!("/{status}"));
        subscriptions.push(ringback.api.subscribe(APP, &url, fields).await.id);
    }

    let event = emit(&ringback).await;
    for (subscription, status) in subscriptions.iter().zip(statuses) {
        let delivery = ringback
            .delivery_in("delivered", &event, subscription)
            .await;
        assert_eq!(delivery["attempts"], 1, "{delivery}");
        assert_eq!(delivery["last_attempt"]["status_code"], status);
        assert_eq!(delivery["next_attempt_at"], json!(null));
    }
    stays_quiet(&ringback, &bystander, &receiver, Duration::from_secs(3600)).await;
    assert_eq!(receiver.count(), statuses.len());
    ringback.finish().await;
}

/// Case 16.
async fn a_redirect_is_a_failure_and_is_not_followed(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let inside = Canary::start_at(([127, 0, 0, 2], 0).into()).await;
    let locations = [
        elsewhere.url("/there"),
        format!("http://{}/", inside.address()),
    ];
    let statuses = [301, 302, 303, 307, 308];
    let mut subscriptions = Vec::new();
    for index in 0..locations.len() {
        for status in statuses {
            let fields = json!({"event_types": ["order.*"]});
            let url = receiver.url(&format!("/{status}?{index}"));
            let subscription = ringback.api.subscribe(APP, &url, fields).await.id;
            subscriptions.push((subscription, status));
        }
    }
    receiver.script(move |request| {
        let index: usize = request.target.split('?').nth(1).unwrap().parse().unwrap();
        Reply::status(status_in(request)).header("location", &locations[index])
    });

    let event = emit(&ringback).await;
    for (subscription, status) in &subscriptions {
        let delivery = ringback.delivery_in("retrying", &event, subscription).await;
        assert_eq!(delivery["error"], "redirect");
        let attempts = ringback.api.attempts(&delivery).await;
        assert_eq!(attempts[0]["status_code"], *status);
        assert_eq!(attempts[0]["error"], "redirect");
    }
    bystander.is_served(&ringback).await;
    assert_eq!(receiver.count(), subscriptions.len());
    assert_eq!((elsewhere.connections(), inside.accepted()), (0, 0));
    ringback.finish().await;
}

/// The path is the status.
fn status_in(request: &Request) -> u16 {
    let path = request.target.split('?').next().unwrap();
    path.trim_start_matches('/').parse().unwrap()
}
