//! The same thing asked for twice is done once.

use ringback_testkit::{Receiver, TestStore};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{APP, Bystander, service, subscribe};
use crate::harness::{Answer, Api};

on_both_databases! {
    the_same_id_twenty_times_at_once_is_one_event,
    the_same_idempotency_key_twenty_times_at_once_is_one_event,
    the_same_idempotency_key_makes_one_subscription,
}

const AT_ONCE: usize = 20;
const KEY: [(&str, &str); 1] = [("idempotency-key", "4f0e8c1a")];

/// Case 36, by the producer's own id.
async fn the_same_id_twenty_times_at_once_is_one_event(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await.id;
    let body = json!({"app": APP, "type": "order.paid", "id": "order-1042", "data": {"total": 1}});

    let mut fresh = 0;
    let mut ids = Vec::new();
    for answer in at_once(&ringback.api, &[], &body).await {
        assert_eq!(answer.status, 202, "{}", answer.text);
        let answer = answer.json();
        assert_eq!(answer["deliveries"], 1);
        fresh += usize::from(answer["duplicate"] == false);
        ids.push(answer["id"].as_str().unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!((ids.len(), fresh), (1, 1));
    let mut other = body.clone();
    other["data"] = json!({"total": 2});
    let refused = ringback.api.post("/v1/events", other).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (409, &json!("id_reused"))
    );

    let delivered = ringback
        .delivery_in("delivered", &ids[0], &subscription)
        .await;
    bystander.is_served(&ringback).await;
    assert_eq!((&delivered["attempts"], receiver.count()), (&json!(1), 1));
    let events = ringback
        .api
        .all(&format!("/v1/events?app={APP}&type=order.*"))
        .await;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["id"], &events[0]["external_id"]),
        (&json!(ids[0]), &body["id"])
    );
    ringback.finish().await;
}

/// Case 36, by the header.
async fn the_same_idempotency_key_twenty_times_at_once_is_one_event(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let receiver = Receiver::start().await;
    subscribe(&ringback, &receiver, json!({})).await;
    let body = json!({"app": APP, "type": "order.paid", "data": {"total": 1}});

    let answers = at_once(&ringback.api, &KEY, &body).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert!(answers.iter().all(|answer| answer.text == answers[0].text));
    let is_fresh = |answer: &&Answer| !answer.headers.contains_key("idempotency-replayed");
    assert_eq!(answers.iter().filter(is_fresh).count(), 1);
    let other = json!({"app": APP, "type": "order.paid", "data": {"total": 2}});
    let refused = post(&ringback.api, "/v1/events", &KEY, &other).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (422, &json!("idempotency_key_reused"))
    );

    receiver.wait_for(1).await;
    bystander.is_served(&ringback).await;
    assert_eq!(receiver.count(), 1);
    ringback.finish().await;
}

async fn the_same_idempotency_key_makes_one_subscription(store: TestStore) {
    let ringback = service(store).await;
    let path = format!("/v1/apps/{APP}/subscriptions");
    let body = json!({"url": "http://127.0.0.1:8080/"});

    let first = post(&ringback.api, &path, &KEY, &body).await;
    let again = post(&ringback.api, &path, &KEY, &body).await;
    // Also the secret, which is shown this once: the first answer may have been lost.
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.text, again.text);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let other = post(
        &ringback.api,
        &path,
        &KEY,
        &json!({"url": "http://127.0.0.1:8081/"}),
    )
    .await;
    assert_eq!(
        (other.status, &other.json()["code"]),
        (422, &json!("idempotency_key_reused"))
    );
    assert_eq!(ringback.api.all(&path).await.len(), 1);
}

async fn at_once(api: &Api, headers: &'static [(&str, &str)], body: &Value) -> Vec<Answer> {
    let mut posts = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (api, body) = (api.clone(), body.clone());
        posts.spawn(async move { post(&api, "/v1/events", headers, &body).await });
    }
    posts.join_all().await
}

async fn post(api: &Api, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let body = Some(body.to_string().into_bytes());
    api.try_send("POST", path, headers, body).await.unwrap()
}
