//! The default schedule: read, and run to its end.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_testkit::{Receiver, TestStore, receiver::Reply};
use serde_json::{Value, json};

use super::{APP, Bystander, emit, service, stays_quiet};
use crate::harness::Ringback;

on_both_databases! {
    every_failure_is_retried_on_the_default_schedule_until_it_is_dead,
}

const STATUSES: [u16; 4] = [400, 401, 404, 500];
/// What is promised: the waits before the second attempt, the third, and so on.
const WAITS_S: [i64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// What may pass while a test waits for results.
const SLACK: TimeDelta = TimeDelta::milliseconds(500);
const ALMOST: TimeDelta = TimeDelta::milliseconds(1);

/// Cases 22 and 27.
async fn every_failure_is_retried_on_the_default_schedule_until_it_is_dead(store: TestStore) {
    let ringback = service(store).await;
    let bystander = Bystander::start(&ringback).await;
    let mut failing = Vec::new();
    for status in STATUSES {
        failing.push(Failing::start(&ringback, status).await);
    }
    let event = emit(&ringback).await;

    for (made, wait_s) in (1..).zip(WAITS_S) {
        let mut next = Vec::new();
        for one in &failing {
            next.push((
                one.next_attempt_at(&ringback, &event, made, wait_s).await,
                one,
            ));
        }
        next.sort_by_key(|(due_at, _)| *due_at);
        for (due_at, one) in next {
            if ringback.clock.now() < due_at - ALMOST {
                ringback.later_at(due_at - ALMOST).await;
                bystander.is_served(&ringback).await;
                assert_eq!(one.receiver.count(), made, "{} came too early", one.status);
            }
            ringback.later_at(due_at).await;
            one.receiver.wait_for(made + 1).await;
            ringback
                .delivery_after(made as u64 + 1, &event, &one.subscription)
                .await;
        }
    }
    for one in &failing {
        one.is_dead(&ringback, &event).await;
        stays_quiet(
            &ringback,
            &bystander,
            &one.receiver,
            Duration::from_secs(86_400),
        )
        .await;
    }
    ringback.finish().await;
}

/// A subscription whose receiver always answers the same.
struct Failing {
    status: u16,
    receiver: Receiver,
    subscription: String,
}

impl Failing {
    async fn start(ringback: &Ringback, status: u16) -> Self {
        let receiver = Receiver::start().await;
        receiver.always(Reply::status(status));
        let subscription = super::subscribe(ringback, &receiver, json!({})).await.id;
        let shown = ringback
            .api
            .get(&format!("/v1/subscriptions/{subscription}"))
            .await
            .ok();
        assert_eq!(shown["retry"], json!({"preset": "standard"}));
        Self {
            status,
            receiver,
            subscription,
        }
    }

    /// When the attempt after the `made`-th is due: as promised, and at most a tenth later.
    async fn next_attempt_at(
        &self,
        ringback: &Ringback,
        event: &str,
        made: usize,
        wait_s: i64,
    ) -> DateTime<Utc> {
        let delivery = ringback
            .delivery_after(made as u64, event, &self.subscription)
            .await;
        assert_eq!(delivery["status"], "retrying", "{delivery}");
        assert_eq!(delivery["last_attempt"]["status_code"], self.status);
        let attempts = ringback.api.attempts(&delivery).await;
        let last_at = time(&attempts[made - 1]["started_at"]);
        let due_at = time(&delivery["next_attempt_at"]);
        let wait = due_at - last_at;
        let least = TimeDelta::seconds(wait_s);
        let most = least + least / 10 + SLACK;
        assert!(
            least <= wait && wait <= most,
            "attempt {made}: {wait} is not {least} and a bit"
        );
        due_at
    }

    async fn is_dead(&self, ringback: &Ringback, event: &str) {
        let delivery = ringback
            .delivery_in("dead", event, &self.subscription)
            .await;
        assert_eq!(
            (&delivery["attempts"], &delivery["error"]),
            (&json!(10), &json!("http_status"))
        );
        assert_eq!(delivery["next_attempt_at"], Value::Null);
        let attempts = ringback.api.attempts(&delivery).await;
        for (number, attempt) in (1..).zip(&attempts) {
            let shown = (
                &attempt["number"],
                &attempt["outcome"],
                &attempt["status_code"],
            );
            assert_eq!(
                shown,
                (&json!(number), &json!("failed"), &json!(self.status))
            );
        }
        let span = time(&attempts[9]["started_at"]) - time(&attempts[0]["started_at"]);
        assert!(span >= TimeDelta::hours(72), "all is over after {span}");
        let list = format!(
            "/v1/deliveries?app={APP}&status=dead&subscription={}",
            self.subscription
        );
        assert_eq!(ringback.api.all(&list).await, [delivery]);
    }
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}
