//! Several nodes share the lanes; one joins, leaves, vanishes, is deposed.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    Dispatcher,
    alarm::Alarm,
    tests::{lab::PATIENCE, receiver::Receiver},
};

#[tokio::test]
async fn nothing_is_sent_past_the_lease_and_all_goes_on_when_it_is_renewed() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    lab.clock.advance(NodeLease::LENGTH - NodeLease::MARGIN);
    let event = lab.emit(&node).await;
    lab.rest(&node).await;
    assert_eq!(lab.receiver.count(), 0);
    node.beat(&lab).await;
    lab.until_status(event, subscription, DeliveryStatus::Delivered)
        .await;
}

#[tokio::test]
async fn a_node_that_joins_takes_its_share_and_nothing_is_sent_twice() {
    let lab = Lab::new().await;
    let mut subscriptions = Vec::new();
    for number in 0..16 {
        subscriptions.push(
            lab.subscribe(&format!("/{number}"), 3, retry(STANDARD))
                .await,
        );
    }
    let first = lab.node("a", config()).await;
    assert_eq!(first.owned(), Lane::COUNT);
    let mut events = emit_many(&lab, &first, 10).await;
    let second = lab.late_node("b", config()).await;
    events.extend(emit_many(&lab, &first, 10).await);
    lab.until_in_time("lanes shared", &[&first, &second], async || {
        second.owned() > 0
    })
    .await;
    events.extend(emit_many(&lab, &first, 10).await);
    events.extend(emit_many(&lab, &second, 10).await);
    lab.until_in_time("all sent", &[&first, &second], async || {
        first.owned() + second.owned() == Lane::COUNT
            && lab.is_settled(&events, &subscriptions).await
    })
    .await;
    assert_once_each(&lab, &events, subscriptions.len());

    // The first leaves; what it had goes to the second at once.
    events.extend(emit_many(&lab, &first, 10).await);
    first.stop();
    let lease = first.membership.lease().unwrap();
    first.stopped(&lab).await;
    ringback_store::Lanes::leave(&lab.store.inner, &lease, lab.clock.now())
        .await
        .unwrap();
    lab.until_in_time("all sent", &[&second], async || {
        second.owned() == Lane::COUNT && lab.is_settled(&events, &subscriptions).await
    })
    .await;
    assert_once_each(&lab, &events, subscriptions.len());
}

#[tokio::test]
async fn what_a_vanished_node_had_is_sent_by_another_and_only_what_was_in_flight_twice() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 2, retry(STANDARD)).await;
    let first = lab.node("a", config()).await;
    lab.receiver.hold(true);
    let events = emit_many(&lab, &first, 30).await;
    lab.until("two in flight", || lab.receiver.count() == 2)
        .await;
    first.vanish().await;
    lab.receiver.hold(false);
    let second = lab.late_node("b", config()).await;
    lab.until_in_time("all sent", &[&second], async || {
        lab.is_settled(&events, &[subscription]).await
    })
    .await;
    assert!(lab.clock.now() - start() <= TimeDelta::seconds(15));
    let tally = lab.receiver.tally();
    assert_eq!(tally.len(), events.len());
    assert_eq!(tally.values().sum::<usize>(), events.len() + 2);
}

/// A node that was stopped past its lease may report what it delivered, and nothing
/// else: its failures stay for the lane's new owner.
#[tokio::test]
async fn a_deposed_node_settles_only_its_successes() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 10, retry(TWICE)).await;
    let first = lab.node("a", config()).await;
    lab.receiver.hold(true);
    let [good, bad] = [lab.emit(&first).await, lab.emit(&first).await];
    lab.until("two in flight", || lab.receiver.count() == 2)
        .await;

    // Another takes all lanes, but can send nothing yet.
    lab.store.hold(Some("sending_states"));
    lab.go_to(start() + TimeDelta::seconds(11), &[]).await;
    let second = lab.node("b", config()).await;
    lab.until_in_time("all lanes taken", &[&second], async || {
        second.owned() == Lane::COUNT
    })
    .await;

    lab.receiver
        .react(move |request| Reaction::Answers(if request.event == good { 200 } else { 500 }));
    let settled = lab.store.count("settle");
    lab.receiver.hold(false);
    lab.until_status(good, subscription, DeliveryStatus::Delivered)
        .await;
    lab.until_in_time("both reported", &[&second], async || {
        lab.store.count("settle") > settled
    })
    .await;
    assert_eq!(lab.status(bad, subscription).await, DeliveryStatus::Pending);

    lab.store.hold(None);
    lab.until_in_time("sent by its owner", &[&second], async || {
        lab.status(bad, subscription).await == DeliveryStatus::Retrying
    })
    .await;
    drop(first);
}

#[tokio::test]
async fn a_node_whose_number_was_given_away_starts_over() {
    let (lab, node, subscription) = lab_with(STANDARD, 10).await;
    // Another process registers under its name.
    let twin = lab.late_node("a", config()).await;
    node.beat(&lab).await;
    lab.until("its lanes are lost", || node.owned() == 0).await;
    drop(twin);
    lab.go_to(start() + TimeDelta::seconds(1), &[&node]).await;
    let event = lab.emit(&node).await;
    lab.until_in_time("delivered", &[&node], async || {
        lab.status(event, subscription).await == DeliveryStatus::Delivered
    })
    .await;
    assert_eq!(lab.receiver.count(), 1);
}

/// It holds more than it may send at once, and is stopped past its lease. Waking, it has
/// room for more, and its lease is renewed; but its lanes are another's by then.
#[tokio::test]
async fn a_node_that_wakes_with_room_after_its_lanes_were_taken_sends_nothing_more() {
    // Whether the renewal comes in the same moment as the room, or when that is settled.
    for at_once in [true, false] {
        let lab = Lab::new().await;
        let subscription = lab.subscribe("/hooks", 2, retry(STANDARD)).await;
        let first = lab.node("a", config()).await;
        lab.receiver.hold(true);
        let events = emit_many(&lab, &first, 30).await;
        lab.until("two in flight", || lab.receiver.count() == 2)
            .await;

        // Another takes all lanes, but can send nothing yet.
        lab.store.hold(Some("sending_states"));
        lab.go_to(start() + TimeDelta::seconds(11), &[]).await;
        let second = lab.node("b", config()).await;
        lab.until("all lanes taken", || second.owned() == Lane::COUNT)
            .await;
        let settled = lab.store.count("settle");
        lab.receiver.hold(false);
        if !at_once {
            lab.until("both settled", || lab.store.count("settle") > settled)
                .await;
        }
        first.beat(&lab).await;
        lab.until("its lanes are lost", || first.owned() == 0).await;
        assert_eq!(lab.receiver.count(), 2);

        lab.store.hold(None);
        // The first stays away: all the rest is the second's.
        lab.until_in_time("all sent", &[&second], async || {
            lab.is_settled(&events, &[subscription]).await
        })
        .await;
        let tally = lab.receiver.tally();
        assert_eq!(tally.len(), events.len());
        // The second may have read those two before the first settled them.
        let repeated = tally.values().sum::<usize>() - tally.len();
        assert!(repeated <= 2, "{tally:?}");
        drop(first);
    }
}

/// A heartbeat runs beside the loop: it may renew the lease at any moment of a turn. What
/// it brought has to be heard before the lease permits anything again.
#[tokio::test]
async fn a_renewed_lease_permits_nothing_before_its_beat_is_heard() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 1, retry(STANDARD)).await;
    let (mut first, membership, _hand_over) = lab.dispatcher("a", config()).await;
    let mut alarm = Alarm::default();
    membership.beat(&*lab.store).await.unwrap();
    lab.receiver.hold(true);
    lab.emit_silently().await;
    lab.emit_silently().await;
    first.take_beat();
    first.turn();
    let queued = |first: &Dispatcher<_>| first.schedule.queued_of(subscription);
    while (first.in_flight.len(), queued(&first)) != (1, 1) {
        go_round(&mut first, &mut alarm).await;
    }

    lab.store.hold(Some("sending_states"));
    lab.go_to(start() + TimeDelta::seconds(11), &[]).await;
    let second = lab.node("b", config()).await;
    assert_eq!(second.owned(), Lane::COUNT);
    lab.receiver.hold(false);
    while !first.in_flight.is_empty() {
        go_round(&mut first, &mut alarm).await;
    }
    assert_eq!(queued(&first), 1);
    membership.beat(&*lab.store).await.unwrap();
    assert!(membership.lease().is_some());
    first.turn();
    assert_eq!(first.in_flight.len(), 0, "it sent before it heard");
    first.take_all();
    first.turn();
    assert_eq!((first.in_flight.len(), queued(&first)), (0, 0));
}

/// The answer to taking lanes was on its way for longer than they were its own.
#[tokio::test]
async fn lanes_that_were_taken_long_ago_may_be_anothers_by_now() {
    let lab = Lab::new().await;
    let subscription = lab.subscribe("/hooks", 10, retry(STANDARD)).await;
    lab.store.hold(Some("take"));
    let first = lab.late_node("a", config()).await;
    first.beat(&lab).await;
    lab.until("the lanes are taken", || lab.store.is_holding())
        .await;
    lab.clock.advance(NodeLease::LENGTH);
    let second = lab.late_node("b", config()).await;
    second.beat(&lab).await;
    lab.until("they are taken again", || lab.store.held_back() == 2)
        .await;
    first.beat(&lab).await;
    lab.store.hold(None);
    lab.until("the second knows", || second.owned() == Lane::COUNT)
        .await;
    lab.rest(&second).await;
    assert_eq!(first.owned(), 0);
    let event = lab.emit(&second).await;
    lab.until_in_time("delivered", &[&first, &second], async || {
        lab.status(event, subscription).await == DeliveryStatus::Delivered
    })
    .await;
    assert_eq!(lab.receiver.count(), 1);
}

/// Waits for one thing to happen, and does all there is to do then.
async fn go_round(dispatcher: &mut Dispatcher<Receiver>, alarm: &mut Alarm) {
    if let Some(at) = dispatcher.next_at() {
        alarm.set(&dispatcher.clock, at);
    }
    let shutdown = CancellationToken::new();
    let wake = tokio::time::timeout(PATIENCE, dispatcher.wake(&shutdown, alarm)).await;
    dispatcher.take(wake.expect("nothing happens"));
    dispatcher.take_all();
    dispatcher.turn();
}
