//! Without faults of receivers nothing is sent twice, and nothing is ever lost.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_replies_are_jumbled_everything_is_sent_exactly_once() {
    let lab = Lab::new().await;
    let fast = lab.subscribe("/fast", 50, retry(STANDARD)).await;
    let slow = lab.subscribe("/slow", 1, retry(STANDARD)).await;
    let small = DispatcherConfig {
        queue_per_subscription: 40,
        payload_cache_bytes: 5000,
        ..config()
    };
    let node = lab.node("a", small).await;
    lab.store
        .jumbled
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let mut events = Vec::new();
    for _ in 0..15 {
        events.extend(emit_many(&lab, &node, 20).await);
        lab.store.hint(Hint::Everything);
        lab.tick(Duration::from_millis(700), &[&node]).await;
    }
    lab.until_in_time("all sent", &[&node], async || {
        lab.is_settled(&events, &[fast, slow]).await
    })
    .await;
    for _ in 0..5 {
        lab.tick(Duration::from_secs(2), &[&node]).await;
        lab.rest(&node).await;
    }
    assert_once_each(&lab, &events, 2);
}

#[tokio::test]
async fn a_read_that_comes_back_after_the_settling_brings_nothing_back() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let lane = Lane::of(subscription);
    let event = lab.emit_silently().await;
    lab.store.hold(Some("read"));
    lab.store.hint(Hint::Lane(lane));
    lab.until("a read has seen the row", || lab.store.is_holding())
        .await;
    let payload = lab.store.inner.payloads(&[event]).await.unwrap().remove(0);
    let key = OutboxKey {
        lane,
        delivery: DeliveryId {
            event,
            subscription,
        },
        order: None,
    };
    node.hand_over.offer(payload, vec![key]);
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
    lab.store.hold(None);
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 1);
}

#[tokio::test]
async fn a_hand_over_that_comes_after_the_settling_brings_nothing_back() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let ticket = node.hand_over.ticket(EventId::floor(lab.clock.now()));
    let (payload, keys) = lab.accept().await;
    lab.store.hint(Hint::Lane(Lane::of(subscription)));
    lab.until_status(payload.event, subscription, DeliveryStatus::Delivered)
        .await;
    lab.rest(&node).await;
    node.hand_over.offer(payload, keys);
    drop(ticket);
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 1);
}

#[tokio::test]
async fn when_settling_fails_for_a_while_nothing_is_lost_or_repeated() {
    for fails in [Fails::Before, Fails::After] {
        let lab = Lab::new().await;
        let subscription = lab.subscribe("/hooks", 100, retry(TWICE)).await;
        let node = lab.node("a", config()).await;
        lab.receiver.react(|request| {
            Reaction::Answers(if request.event.get() % 2 == 0 {
                200
            } else {
                500
            })
        });
        lab.store.fail("settle", fails);
        let mut events = emit_many(&lab, &node, 50).await;
        lab.until_in_time("several failures", &[&node], async || {
            lab.store.count("settle") > 5
        })
        .await;
        lab.store.mend();
        events.extend(emit_many(&lab, &node, 10).await);
        lab.until_in_time("nothing pending", &[&node], async || {
            for event in &events {
                if lab.status(*event, subscription).await == DeliveryStatus::Pending {
                    return false;
                }
            }
            true
        })
        .await;
        assert_once_each(&lab, &events, 1);
    }
}

#[tokio::test]
async fn while_nothing_can_be_settled_only_so_much_is_sent() {
    let (lab, node, _) = lab_with(STANDARD, 10).await;
    lab.store.fail("settle", Fails::Before);
    for _ in 0..Settler::MOST + 200 {
        lab.emit_silently().await;
    }
    let most = Settler::MOST + 10 + 1;
    lab.store.hint(Hint::Everything);
    lab.until("many requests", || lab.receiver.count() > Settler::MOST)
        .await;
    lab.rest(&node).await;
    assert!(lab.receiver.count() <= most, "{}", lab.receiver.count());
}

#[tokio::test]
async fn when_the_database_is_away_everything_goes_on_when_it_is_back() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    let calls = [
        "read",
        "payloads",
        "due",
        "waiting",
        "sending_states",
        "changed_since",
        "settle",
        "park",
    ];
    calls
        .iter()
        .for_each(|call| lab.store.fail(call, Fails::Before));
    let events = emit_many(&lab, &node, 30).await;
    let later = lab.clock.now() + TimeDelta::seconds(5);
    lab.until_in_time("five seconds", &[&node], async || lab.clock.now() >= later)
        .await;
    lab.store.mend();
    lab.until_in_time("all sent", &[&node], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert_once_each(&lab, &events, 1);
}
