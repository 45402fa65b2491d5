//! What is shown.

use std::{collections::BTreeSet, time::Duration};

use ringback_model::{AttemptError, DeliveryStatus, SubscriptionStatus};

use super::*;

/// What is counted of one of each, less what belongs to the machine.
fn example() -> Metrics {
    let metrics = Metrics::new();
    metrics.accepting.accepted(3);
    metrics.accepting.duplicate();
    metrics.accepting.refused(2, RefusedBecause::Overloaded);
    let delivering = &metrics.delivering;
    delivering.attempted(None, Some(204), Duration::from_millis(7));
    delivering.attempted(Some(AttemptError::Dns), None, Duration::from_secs(1));
    delivering.attempted(Some(AttemptError::HttpStatus), Some(101), Duration::ZERO);
    delivering.settled(Settled::Delivered, 1, Some(Duration::from_millis(9)));
    delivering.settled(Settled::Dead, 12, None);
    delivering.in_flight.set(4);
    delivering.open_breakers.set(2);
    delivering.waiting_for_host.set(1);
    delivering.parked.inc_by(8);
    metrics.backlog.set_failing(3);
    metrics
        .backlog
        .set_oldest_due_age(Duration::from_millis(2500));
    metrics
        .backlog
        .set_read_at(Duration::from_secs(1_767_603_600));
    metrics.backlog.set_deliveries(DeliveryStatus::Held, 5);
    metrics
        .backlog
        .set_subscriptions(SubscriptionStatus::Active, 6);
    metrics
        .database
        .ran(Statement::Settle, Duration::from_millis(2));
    metrics.database.set_connections(1, 7);
    let route = metrics.http.route("POST", "/v1/events");
    route.answered(202, Duration::from_millis(1));
    metrics.http.elsewhere().answered(404, Duration::ZERO);
    metrics
}

#[test]
fn what_is_counted_is_shown() {
    let text = example().text();
    let lines: BTreeSet<&str> = text.lines().collect();
    for line in [
        r#"ringback_events_accepted_total{result="accepted"} 1"#,
        r#"ringback_events_accepted_total{result="duplicate"} 1"#,
        r#"ringback_events_refused_total{reason="overloaded"} 2"#,
        r#"ringback_events_refused_total{reason="conflict"} 0"#,
        "ringback_deliveries_accepted_total 3",
        r#"ringback_delivery_attempts_total{outcome="delivered",error="none",status_class="2xx"} 1"#,
        r#"ringback_delivery_attempts_total{outcome="failed",error="dns",status_class="none"} 1"#,
        r#"ringback_delivery_attempts_total{outcome="failed",error="http_status",status_class="1xx"} 1"#,
        r#"ringback_delivery_attempts_total{outcome="failed",error="http_status",status_class="5xx"} 0"#,
        r#"ringback_delivery_attempt_duration_seconds_count{outcome="failed"} 2"#,
        r#"ringback_delivery_attempt_duration_seconds_sum{outcome="failed"} 1.0"#,
        r#"ringback_deliveries_settled_total{result="dead"} 1"#,
        r#"ringback_delivery_end_to_end_seconds_count{result="delivered",attempts_bucket="1"} 1"#,
        "ringback_delivery_attempts_in_flight 4",
        "ringback_delivery_slow_attempts_in_flight 0",
        "ringback_subscriptions_breaker_open 2",
        r#"ringback_subscriptions_waiting{reason="time"} 0"#,
        r#"ringback_subscriptions_waiting{reason="host"} 1"#,
        "ringback_subscriptions_failing 3",
        "ringback_deliveries_parked_total 8",
        "ringback_delivery_oldest_due_age_seconds 2.5",
        "ringback_backlog_read_timestamp_seconds 1767603600.0",
        r#"ringback_deliveries{state="held"} 5"#,
        r#"ringback_subscriptions{state="active"} 6"#,
        r#"ringback_db_query_duration_seconds_bucket{op="settle",le="0.0025"} 1"#,
        r#"ringback_db_pool_connections{state="idle"} 7"#,
        r#"ringback_http_server_request_duration_seconds_count{method="POST",route="/v1/events",status_class="2xx"} 1"#,
        r#"ringback_http_server_request_duration_seconds_count{method="none",route="none",status_class="4xx"} 1"#,
        "# TYPE ringback_delivery_end_to_end_seconds histogram",
        "# TYPE ringback_events_accepted_total counter",
    ] {
        assert!(lines.contains(line), "`{line}` is not in\n{text}");
    }
    assert!(text.contains("ringback_build_info{version=\"") && text.ends_with('\n'));
}

/// Replays are left out of what takes a delivery its whole way.
#[test]
fn what_has_not_happened_yet_is_shown_where_alerts_look() {
    let text = example().text();
    assert!(!text.contains(r#"end_to_end_seconds_count{result="dead""#));
    assert!(text.contains(
        r#"delivery_attempts_total{outcome="failed",error="tls",status_class="none"} 0"#
    ));
}

#[test]
fn buckets_hold_what_is_at_most_their_bound() {
    let durations = Durations::new(&[0.5, 1.0]);
    for ms in [0, 500, 501, 1000, 1001, 60_000] {
        durations.observe(Duration::from_millis(ms));
    }
    let mut registry = Registry::default();
    registry.register("waits", "Waits", durations);
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).unwrap();
    let expected = "# HELP waits Waits.\n# TYPE waits histogram\n\
        waits_bucket{le=\"0.5\"} 2\nwaits_bucket{le=\"1\"} 4\nwaits_bucket{le=\"+Inf\"} 6\n\
        waits_sum 63.002\nwaits_count 6\n";
    assert_eq!(text, expected);
}

/// Labels must not grow with what people set up.
#[test]
fn names_and_labels_follow_the_conventions() {
    let known = [
        "result",
        "reason",
        "outcome",
        "error",
        "status_class",
        "attempts_bucket",
        "state",
        "op",
        "method",
        "route",
        "version",
        "commit",
        "rustc",
        "le",
    ];
    let text = example().text();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(
            name.starts_with("ringback_") || name.starts_with("process_"),
            "{line}"
        );
        let labels = line
            .split_once('{')
            .map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let label = label.split('=').next().unwrap();
            assert!(known.contains(&label), "{label} in {line}");
        }
    }
}
