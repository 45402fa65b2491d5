//! Dead letters are reported to their applications.

use ringback_store::{Accept, EmittedId};

use super::*;

#[tokio::test]
async fn a_dead_letter_is_reported_before_a_stop_although_the_database_failed_at_first() {
    let (lab, node, subscription) = lab_with(ONCE, 10).await;
    lab.store.fail("report", Fails::After);
    lab.receiver.answers(503);
    let event = lab.emit(&node).await;
    lab.until_status(event, subscription, DeliveryStatus::Dead)
        .await;
    lab.until_in_time("reports that fail", &[&node], async || {
        lab.store.count("report") >= 2
    })
    .await;
    node.stop();
    lab.store.mend();
    node.stopped(&lab).await;

    let emitted = lab.store.inner.emitted(EmittedId::MIN, &[], 100);
    let rows = emitted.await.unwrap().rows;
    assert!(rows.len() >= 3, "each try had its effect");
    for row in rows {
        assert_eq!(row.event_type, "ringback.delivery.dead");
        let delivery = lab.delivery(event, subscription).await.id;
        // The same each time, so one event becomes of them.
        assert_eq!(row.external_id, Some(format!("ringback:dead:{delivery}:1")));
    }
}
