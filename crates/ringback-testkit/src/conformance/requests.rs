//! Requests with an `Idempotency-Key` that accept no events.

use chrono::TimeDelta;
use ringback_store::{BegunRequest, IdempotencyKey, Sealed};

use super::scene::twenty_at_once;
use crate::{
    TestStore,
    seed::{self, START},
};

pub async fn a_request_is_done_once_and_its_answer_remembered(store: &TestStore) {
    let key = seed::idempotency(1, 1, 1);
    assert_eq!(begin(store, key, 0).await, "new");
    assert_eq!(begin(store, key, 1).await, "running");
    let answer = Sealed::from_bytes(b"\0answer\xff".to_vec());
    let at = START + TimeDelta::seconds(2);
    store
        .finish_request(key, Some(answer.clone()), at)
        .await
        .unwrap();
    match store
        .begin_request(key, START + TimeDelta::hours(1))
        .await
        .unwrap()
    {
        BegunRequest::Finished(given) => assert_eq!(given, answer),
        other => panic!("{other:?}"),
    }
}

pub async fn a_key_with_another_requests_body_is_reused(store: &TestStore) {
    let [key, other] = [1, 2].map(|body| seed::idempotency(1, 1, body));
    begin(store, key, 0).await;
    assert_eq!(begin(store, other, 1).await, "reused");
    store
        .finish_request(key, Some(Sealed::from_bytes(vec![1])), START)
        .await
        .unwrap();
    assert_eq!(begin(store, other, 2).await, "reused");
}

pub async fn two_api_keys_may_use_the_same_value(store: &TestStore) {
    assert_eq!(begin(store, seed::idempotency(1, 1, 1), 0).await, "new");
    assert_eq!(begin(store, seed::idempotency(2, 1, 2), 0).await, "new");
}

pub async fn a_request_without_an_answer_never_began(store: &TestStore) {
    let [key, other] = [1, 2].map(|body| seed::idempotency(1, 1, body));
    begin(store, key, 0).await;
    store.finish_request(key, None, START).await.unwrap();
    assert_eq!(begin(store, other, 0).await, "new");
}

pub async fn a_request_that_never_finished_is_forgotten_after_a_minute(store: &TestStore) {
    let key = seed::idempotency(1, 1, 1);
    begin(store, key, 0).await;
    assert_eq!(begin(store, key, 58).await, "running");
    assert_eq!(begin(store, key, 62).await, "new");
    // The minute begins anew with whoever does it now.
    assert_eq!(begin(store, key, 62 + 58).await, "running");
}

pub async fn an_answered_request_is_not_forgotten_after_a_minute(store: &TestStore) {
    let key = seed::idempotency(1, 1, 1);
    begin(store, key, 0).await;
    store
        .finish_request(key, Some(Sealed::from_bytes(vec![1])), START)
        .await
        .unwrap();
    assert_eq!(begin(store, key, 3600).await, "finished");
}

pub async fn one_of_twenty_callers_is_told_to_do_it(store: &TestStore) {
    let key = seed::idempotency(1, 1, 1);
    let begun = twenty_at_once(|_| {
        let store = store.shared();
        async move { store.begin_request(key, START).await.unwrap() }
    })
    .await;
    let told: Vec<&str> = begun.iter().map(name).collect();
    assert_eq!(told.iter().filter(|&&told| told == "new").count(), 1);
    assert_eq!(told.iter().filter(|&&told| told == "running").count(), 19);
}

/// - `after_s`: seconds after the start.
async fn begin(store: &TestStore, key: IdempotencyKey, after_s: i64) -> &'static str {
    let now = START + TimeDelta::seconds(after_s);
    name(&store.begin_request(key, now).await.unwrap())
}

fn name(begun: &BegunRequest) -> &'static str {
    match begun {
        BegunRequest::New => "new",
        BegunRequest::Running => "running",
        BegunRequest::Finished(_) => "finished",
        BegunRequest::Reused => "reused",
    }
}
