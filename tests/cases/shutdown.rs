//! A graceful stop: what is under way ends first.

use ringback_testkit::{
    Receiver, TestStore,
    receiver::{Gate, Reply},
};
use serde_json::json;

use super::{APP, emit, service, subscribe};
use crate::harness::{Server, eventually};

on_both_databases! {
    attempts_under_way_end_and_are_settled_before_it_stops,
    a_server_that_is_told_to_stop_ends_well_and_leaves_nothing_pending,
}

const EVENTS: usize = 5;

async fn attempts_under_way_end_and_are_settled_before_it_stops(store: TestStore) {
    let ringback = service(store).await;
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.always(Reply::status(204).behind(&gate));
    subscribe(&ringback, &receiver, json!({})).await;
    for _ in 0..EVENTS {
        emit(&ringback).await;
    }
    receiver.wait_for(EVENTS).await;

    let (stopped, ()) = tokio::join!(ringback.stop(), async {
        tokio::task::yield_now().await;
        gate.open();
    });
    assert_eq!(stopped.count("ringback.outbox", "").await, 0);
    assert_eq!(stopped.count("ringback.retries", "").await, 0);
    assert_eq!(
        stopped.count("ringback.deliveries", "status = 2").await,
        EVENTS as i64
    );
    assert_eq!(receiver.count(), EVENTS);
}

async fn a_server_that_is_told_to_stop_ends_well_and_leaves_nothing_pending(store: TestStore) {
    let server = Server::spawn(store.url(), &[]);
    let receiver = Receiver::start().await;
    let gate = Gate::shut();
    receiver.always(Reply::status(204).behind(&gate));
    server.api.app(APP).await;
    server
        .api
        .subscribe(APP, &receiver.url("/"), json!({}))
        .await;
    for _ in 0..EVENTS {
        server.api.emit(APP, "order.paid", json!({})).await;
    }
    receiver.wait_for(EVENTS).await;

    server.signal("TERM");
    eventually("it is stopping", async || {
        let log = server.log();
        let stopping = log
            .iter()
            .any(|line| line.contains("what is under way ends first"));
        if stopping { Ok(()) } else { Err(log) }
    })
    .await;
    gate.open();
    let code = tokio::task::spawn_blocking(|| server.ended())
        .await
        .unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(store.count("ringback.outbox", "").await, 0);
    assert_eq!(
        store.count("ringback.deliveries", "status = 2").await,
        EVENTS as i64
    );
    assert_eq!(receiver.count(), EVENTS);
}
