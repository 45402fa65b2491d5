//! A load generator: what a running service costs, and how soon it delivers.
//!
//! It posts events to a service, receives what comes of them, and reads from `/proc`
//! what the service and its database used meanwhile. Its own work, receiving included,
//! is in other processes than those it measures, and is kept small since it shares
//! their processors.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;

mod connection;
pub use connection::{Answer, Connection};

mod sink;
pub use sink::{Manner, Sink};

mod usage;
pub use usage::Processes;

/// What to do to which service.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the service listens.
    pub server: SocketAddr,
    /// An API key that may do everything.
    pub key: String,
    /// Where a [`Sink`] listens.
    pub sink: SocketAddr,
    /// How many events to post, one a request.
    pub events: u64,
    /// Events per second; `None` for as fast as answers come.
    pub rate: Option<f64>,
    /// How many connections post.
    pub connections: usize,
    /// How many subscriptions each event goes to.
    pub subscriptions: u64,
    /// Of each subscription.
    pub max_in_flight: u16,
    /// Of each subscription, in seconds.
    pub timeout_s: u64,
    /// How many more subscriptions the application has, which want none of these events,
    pub others: u64,
    /// and what tells them from those that do.
    pub told_by: ToldBy,
    /// How long an event's `data` is, in bytes.
    pub data_bytes: usize,
    /// How long to wait for what is still missing when all is posted.
    pub patience: Duration,
    /// What to measure.
    pub processes: Processes,
}

/// What subscriptions differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// Each wants a type of its own.
    Type,
    /// Each wants a value of its own in `data`.
    Filter,
}

/// What it came to. Its text is a few lines for people.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many events were answered 202.
    pub events: u64,
    /// How many deliveries there should be.
    pub deliveries: u64,
    /// From the first request to the last answer.
    pub posting: Duration,
    /// From the first request to the last delivery.
    pub delivering: Duration,
    /// How many events were posted over 10 ms after their time.
    pub late: u64,
    /// Requests' times, in µs.
    pub answer_us: Percentiles,
    /// From posting to receiving, in µs.
    pub delivery_us: Percentiles,
    /// Deliveries that came more than once, each time after the first.
    pub repeats: u64,
    /// Deliveries that did not come.
    pub missing: u64,
    /// CPU time of the service, and of PostgreSQL.
    pub cpu: (Duration, Duration),
    /// Resident memory of the service at the end, in bytes.
    pub memory_bytes: u64,
}

/// The middle, and what one in a hundred exceeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Percentiles {
    /// Half were below.
    pub p50: u64,
    /// One in a hundred was above.
    pub p99: u64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(times: &Histogram<u64>) -> Self {
        Self {
            p50: times.value_at_quantile(0.5),
            p99: times.value_at_quantile(0.99),
        }
    }
}

/// Carries out a plan, with an application of its own.
///
/// # Panics
///
/// If the service refuses something, or cannot be reached.
pub async fn run(plan: &Plan) -> Report {
    let run = now_us();
    let app = set_up(plan, run).await;
    let before = plan.processes.cpu();
    let began_us = now_us();
    let posted = post_all(plan, &app).await;
    let posting = since(began_us, now_us());
    let deliveries = plan.events * plan.subscriptions;
    let arrived = wait_for(plan, run, deliveries).await;
    // So that settling the last of them is counted, too.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = plan.processes.cpu();
    let number = |name: &str| arrived[name].as_u64().unwrap();
    Report {
        events: plan.events,
        deliveries,
        posting,
        delivering: since(began_us, number("last_us")),
        late: posted.late,
        answer_us: Percentiles::from(&posted.answer_us),
        delivery_us: Percentiles {
            p50: number("p50_us"),
            p99: number("p99_us"),
        },
        repeats: number("received") - number("distinct"),
        missing: deliveries - number("distinct"),
        cpu: (after.0 - before.0, after.1 - before.1),
        memory_bytes: plan.processes.memory_bytes(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second = |count: u64, time: Duration| count as f64 / time.as_secs_f64();
        let per_1000 = |time: Duration| time.as_secs_f64() / (self.deliveries as f64 / 1000.0);
        let ms = |us: u64| us as f64 / 1000.0;
        let (service, database) = self.cpu;
        writeln!(
            f,
            "posted     {} events in {:.2} s: {:.0}/s; answered in p50 {:.2} ms, p99 {:.2} ms; {} late",
            self.events,
            self.posting.as_secs_f64(),
            per_second(self.events, self.posting),
            ms(self.answer_us.p50),
            ms(self.answer_us.p99),
            self.late,
        )?;
        writeln!(
            f,
            "delivered  {} in {:.2} s: {:.0}/s; after p50 {:.2} ms, p99 {:.2} ms; {} repeats, {} missing",
            self.deliveries - self.missing,
            self.delivering.as_secs_f64(),
            per_second(self.deliveries, self.delivering),
            ms(self.delivery_us.p50),
            ms(self.delivery_us.p99),
            self.repeats,
            self.missing,
        )?;
        writeln!(
            f,
            "CPU        {:.4} s per 1000 deliveries: service {:.4}, PostgreSQL {:.4}",
            per_1000(service + database),
            per_1000(service),
            per_1000(database),
        )?;
        write!(
            f,
            "memory     {:.1} MiB",
            self.memory_bytes as f64 / f64::from(1 << 20)
        )
    }
}

/// An application with its subscriptions; answers its slug.
async fn set_up(plan: &Plan, run: u64) -> String {
    let slug = format!("load-{run}");
    let mut connection = Connection::open(plan.server, &plan.key).await.unwrap();
    let app = json!({ "slug": slug, "name": slug });
    must(201, connection.post("/v1/apps", &app).await.unwrap());
    let next = Arc::new(AtomicU64::new(0));
    let mut makers = JoinSet::new();
    for _ in 0..plan.connections {
        let (plan, app, next) = (plan.clone(), slug.clone(), Arc::clone(&next));
        makers.spawn(async move { subscribe_some(&plan, &app, run, &next).await });
    }
    makers.join_all().await;
    slug
}

async fn subscribe_some(plan: &Plan, app: &str, run: u64, next: &AtomicU64) {
    let mut connection = Connection::open(plan.server, &plan.key).await.unwrap();
    let path = format!("/v1/apps/{app}/subscriptions");
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= plan.subscriptions + plan.others {
            return;
        }
        let mut subscription = json!({
            "url": format!("http://{}/{run}/{index}", plan.sink),
            "max_in_flight": plan.max_in_flight,
            "timeout_s": plan.timeout_s,
        });
        let is_other = index >= plan.subscriptions;
        match plan.told_by {
            ToldBy::Type if is_other => {
                subscription["event_types"] = json!([format!("other.{index}")]);
            }
            ToldBy::Filter => {
                let to = if is_other {
                    index.to_string()
                } else {
                    "here".to_owned()
                };
                subscription["payload_filter"] = json!({ "data.to": to });
            }
            ToldBy::Type => {}
        }
        must(201, connection.post(&path, &subscription).await.unwrap());
    }
}

struct Posted {
    answer_us: Histogram<u64>,
    late: u64,
}

async fn post_all(plan: &Plan, app: &str) -> Posted {
    let next = Arc::new(AtomicU64::new(0));
    let began_us = now_us();
    let mut posters = JoinSet::new();
    for _ in 0..plan.connections {
        let (plan, app, next) = (plan.clone(), app.to_owned(), Arc::clone(&next));
        posters.spawn(async move { post_some(&plan, &app, &next, began_us).await });
    }
    let mut all = Posted {
        answer_us: times(),
        late: 0,
    };
    for one in posters.join_all().await {
        all.answer_us.add(one.answer_us).unwrap();
        all.late += one.late;
    }
    all
}

async fn post_some(plan: &Plan, app: &str, next: &AtomicU64, began_us: u64) -> Posted {
    let mut connection = Connection::open(plan.server, &plan.key).await.unwrap();
    let mut posted = Posted {
        answer_us: times(),
        late: 0,
    };
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= plan.events {
            return posted;
        }
        if let Some(rate) = plan.rate {
            let due_us = began_us + (index as f64 / rate * 1e6) as u64;
            tokio::time::sleep(Duration::from_micros(due_us.saturating_sub(now_us()))).await;
            posted.late += u64::from(now_us() > due_us + 10_000);
        }
        let sent_us = now_us();
        let body = event(app, index, sent_us, plan.data_bytes);
        must(
            202,
            connection
                .send("POST", "/v1/events", body.as_bytes())
                .await
                .unwrap(),
        );
        posted.answer_us.record(now_us() - sent_us).unwrap();
    }
}

/// An event whose data says when it was sent, for [`Sink`] to find.
fn event(app: &str, index: u64, sent_us: u64, data_bytes: usize) -> String {
    let mut body = format!(r#"{{"app":"{app}","type":"load.test","data":"#);
    let data_at = body.len();
    body += &format!(r#"{{"n":{index},"sent_us":{sent_us},"to":"here","pad":""#);
    let pad = (data_at + data_bytes).saturating_sub(body.len() + 2);
    body.extend(std::iter::repeat_n('x', pad));
    body += "\"}}";
    body
}

/// What the sink has when nothing is missing, or nobody will wait any longer.
async fn wait_for(plan: &Plan, run: u64, deliveries: u64) -> Value {
    let mut connection = Connection::open(plan.sink, "").await.unwrap();
    let until_us = now_us() + u64::try_from(plan.patience.as_micros()).unwrap();
    loop {
        let answer = connection
            .send("GET", &format!("/report/{run}"), b"")
            .await
            .unwrap();
        let arrived: Value = serde_json::from_slice(&answer.body).unwrap();
        if arrived["distinct"].as_u64() == Some(deliveries) || now_us() > until_us {
            return arrived;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn must(status: u16, answer: Answer) {
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, status, "the service answered {body}");
}

fn times() -> Histogram<u64> {
    // To an hour, in µs, to three digits.
    Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap()
}

fn since(from_us: u64, to_us: u64) -> Duration {
    Duration::from_micros(to_us.saturating_sub(from_us))
}

/// µs since 1970, which two processes agree on.
#[expect(
    clippy::disallowed_methods,
    reason = "a stopwatch that is shared by processes"
)]
fn now_us() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp_micros()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_data_is_as_long_as_asked_for() {
        let body = event("load", 7, 1_767_603_600_000_000, 1024);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["data"]["n"], 7);
        assert_eq!(body["data"].to_string().len(), 1024);
    }

    #[tokio::test]
    async fn the_sink_tells_first_arrivals_from_repeats() {
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), Manner::Status(204)).await;
        let mut sender = Connection::open(sink.address(), "").await.unwrap();
        for (path, index) in [
            ("/9/0", 0),
            ("/9/0", 1),
            ("/9/1", 1),
            ("/9/0", 1),
            ("/8/0", 5),
        ] {
            let data = event("load", index, now_us() - 2_000, 64);
            let answer = sender.send("POST", path, data.as_bytes()).await.unwrap();
            assert_eq!(answer.status, 204);
        }
        let answer = sender.send("GET", "/report/9", b"").await.unwrap();
        let report: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (report["received"].as_u64(), report["distinct"].as_u64()),
            (Some(4), Some(3))
        );
        assert!(report["p50_us"].as_u64().unwrap() >= 2_000);
    }

    #[tokio::test]
    async fn the_sink_can_be_told_to_fail_and_counts_only_what_it_takes() {
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), Manner::Status(503)).await;
        let mut sender = Connection::open(sink.address(), "").await.unwrap();
        let data = event("load", 0, now_us(), 64);
        let mut statuses = Vec::new();
        for (path, body) in [("/9/0", &*data), ("/manner", "204"), ("/9/0", &*data)] {
            let answer = sender.send("POST", path, body.as_bytes()).await.unwrap();
            statuses.push(answer.status);
        }
        assert_eq!(statuses, [503, 204, 204]);
        let answer = sender.send("GET", "/report/9", b"").await.unwrap();
        let report: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(report["received"], 1);
        assert_eq!("after:10".parse(), Ok(Manner::After(10)));
        assert!("sometimes".parse::<Manner>().is_err());
    }

    #[test]
    fn this_process_has_used_some_time_and_memory() {
        let own = Processes {
            service: vec![std::process::id()],
            postmaster: None,
        };
        assert!(own.memory_bytes() > 1 << 20);
        assert_eq!(own.cpu().1, Duration::ZERO);
        // Its parent is taken for a postmaster: it has this process's time, too.
        let parent = std::os::unix::process::parent_id();
        let family = Processes {
            service: vec![],
            postmaster: Some(parent),
        };
        assert!(family.cpu().1 >= own.cpu().0);
    }
}
