//! What must not be told is not told: not in logs, not in refusals, not in records, and
//! in the database only where it has to be.

use std::fs;

use ringback_signature::SigningSecret;
use ringback_testkit::{Receiver, TestStore, receiver::Reply};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::APP;
use crate::harness::{Api, Server, ringback};

on_both_databases! {
    what_is_secret_is_in_no_log_refusal_record_or_database,
}

/// As bytes, so that they are looked for in the clear too.
const SECRET: &[u8; 32] = b"canary-signing-secret-0123456789";
const HEADER: &str = "canary-header";
const QUERY: &str = "canary-query";
const USERINFO: &str = "canary-userinfo";
const BODY: &str = "canary-body";
const ANSWER: &str = "canary-answer";
const COOKIE: &str = "canary-cookie";
const PASSWORD: &str = "canary-password";

/// All there is to tell of ours; of others, what matters.
const LOUD: &str = "debug,ringback=trace,ringback_api=trace,ringback_dispatcher=trace,\
    ringback_egress=trace,ringback_store=trace,ringback_postgres=trace,ringback_sqlite=trace";

/// Case 14.
async fn what_is_secret_is_in_no_log_refusal_record_or_database(store: TestStore) {
    let url = with_password(store.url());
    let server = Server::spawn_with_env(&url, &[], &[("RUST_LOG", LOUD)]);
    let secret = SigningSecret::from_bytes(SECRET).unwrap().reveal();
    let base64 = secret.strip_prefix("whsec_").unwrap();
    let clear = std::str::from_utf8(SECRET).unwrap();
    let everywhere = [base64, clear, HEADER, server.api.key()];

    let refusals = refusals(&server.api).await;
    let records = records(&server.api, &secret).await;
    for (answer, what) in refusals.iter().zip(1..) {
        tells_nothing(answer, &everywhere, &format!("refusal {what}"));
        tells_nothing(answer, &[QUERY, USERINFO, BODY], &format!("refusal {what}"));
    }
    for record in &records {
        tells_nothing(record, &everywhere, "a record");
        tells_nothing(record, &[QUERY, COOKIE, BODY], "a record");
    }
    let metrics = metrics(&server.api).await;
    tells_nothing(&metrics, &everywhere, "the metrics");
    tells_nothing(
        &metrics,
        &[QUERY, USERINFO, BODY, ANSWER, COOKIE, PASSWORD],
        "the metrics",
    );
    let dump = dump(&store).await;
    tells_nothing(&dump, &everywhere, "the database");
    assert!(!dump.contains(&hex(SECRET)) && !dump.contains(&hex(HEADER.as_bytes())));
    assert!(
        dump.contains(APP) && dump.contains(QUERY),
        "the dump is none"
    );

    let log = server.log().join("\n");
    tells_nothing(&log, &everywhere, "the log");
    tells_nothing(
        &log,
        &[QUERY, USERINFO, BODY, ANSWER, COOKIE, PASSWORD],
        "the log",
    );
    assert!(
        log.contains("\"DEBUG\"") && log.contains("attempted"),
        "the log is none"
    );
    tells_nothing(&unreachable_database(), &[PASSWORD], "an error");
}

/// What is said of requests that hold secrets where they do not belong.
async fn refusals(api: &Api) -> Vec<String> {
    api.app(APP).await;
    let subscriptions = format!("/v1/apps/{APP}/subscriptions");
    let bad_secret = format!("whsec_{HEADER}");
    let with = |field: &str, value: Value| {
        let mut body = json!({"url": "http://127.0.0.1:8080/"});
        body[field] = value;
        body
    };
    let bodies = [
        with("url", json!(format!("https://user:{USERINFO}@r.example/"))),
        with("url", json!(format!("https://10.0.0.1/?token={QUERY}"))),
        with("url", json!({QUERY: QUERY})),
        with("secret", json!(bad_secret)),
        with("secret", json!({"secret": HEADER})),
        with("headers", json!({"authorization": format!("{HEADER}\n")})),
        with("headers", json!({"host": HEADER})),
        with("retry", json!(BODY)),
    ];
    let mut answers = Vec::new();
    for body in bodies {
        answers.push(api.post(&subscriptions, body).await);
    }
    let broken = format!("{{\"app\":\"{APP}\",\"type\":\"order.paid\",\"data\":{{{BODY}");
    answers.push(api.post_raw("/v1/events", broken).await);
    let mistyped = json!({"app": APP, "type": {"x": BODY}, "data": BODY});
    answers.push(api.post("/v1/events", mistyped).await);
    answers.push(api.get(&format!("/nothing/here?token={QUERY}")).await);
    answers.push(
        api.get(&format!("/v1/subscriptions/sub_1?token={QUERY}"))
            .await,
    );
    answers.push(api.with_key(&format!("rbk_{HEADER}")).get("/v1/apps").await);
    let told = answers
        .iter()
        .inspect(|answer| assert!((400..500).contains(&answer.status)));
    told.map(|answer| answer.text.clone()).collect()
}

/// What is shown of deliveries, good and bad, that secrets were used for.
async fn records(api: &Api, secret: &str) -> Vec<String> {
    let receiver = Receiver::start().await;
    receiver.script(|request| {
        let status = if request.target.starts_with("/good") {
            200
        } else {
            500
        };
        Reply::status(status)
            .header("set-cookie", COOKIE)
            .body(ANSWER)
    });
    let mut subscriptions = Vec::new();
    let unknown = "http://nowhere.invalid:8080/".to_owned();
    for url in [receiver.url("/good"), receiver.url("/bad"), unknown] {
        let fields = json!({
            "secret": secret,
            "headers": {"authorization": format!("Bearer {HEADER}")},
            "retry": {"schedule_s": []},
        });
        subscriptions.push(
            api.subscribe(APP, &format!("{url}?token={QUERY}"), fields)
                .await
                .id,
        );
    }
    let event = api.emit(APP, "order.paid", json!({"note": BODY})).await;
    let (mut records, id_of) = (Vec::new(), |value: &Value| {
        value["id"].as_str().unwrap().to_owned()
    });
    for (subscription, status) in subscriptions.iter().zip(["delivered", "dead", "dead"]) {
        let delivery = api.delivery_in(status, &event, subscription).await;
        let attempts = format!("/v1/deliveries/{}/attempts", id_of(&delivery));
        let attempts = api.get(&attempts).await;
        assert!(attempts.text.contains("?…"), "{}", attempts.text);
        records.extend([delivery.to_string(), attempts.text]);
    }
    let request = receiver.requests().remove(0);
    assert_eq!(
        request.header("authorization"),
        Some(&*format!("Bearer {HEADER}"))
    );
    let shown = api
        .get(&format!("/v1/subscriptions/{}", subscriptions[0]))
        .await
        .ok();
    assert_eq!(shown["headers"]["authorization"], "***");
    api.post(
        &format!("/v1/subscriptions/{}/rotate-secret", subscriptions[0]),
        json!({}),
    )
    .await
    .ok();
    records
}

/// What is counted of all that: besides no secret, no URL and no id of anything.
async fn metrics(api: &Api) -> String {
    let metrics = api.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    let attempts = r#"attempts_total{outcome="failed",error="http_status",status_class="5xx"} 1"#;
    assert!(metrics.text.contains(attempts), "the metrics are none");
    let prefixes = ["app_", "sub_", "evt_", "dlv_", "att_", "key_", "rbk_"];
    let labels = metrics.text.lines().flat_map(|line| line.split('"'));
    for label in labels {
        let id = prefixes.iter().any(|prefix| label.starts_with(prefix));
        assert!(!id, "the metrics name {label}");
    }
    let names = [APP, "order.paid", "127.0.0.1", "nowhere.invalid", "://"];
    tells_nothing(&metrics.text, &names, "the metrics");
    metrics.text
}

fn tells_nothing(text: &str, secrets: &[&str], place: &str) {
    for secret in secrets {
        let at = text.find(secret);
        let around =
            at.map(|at| String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(300)..at]));
        assert!(at.is_none(), "{place} tells `{secret}` after: {around:?}");
    }
}

/// All that is in the database, as text.
async fn dump(store: &TestStore) -> String {
    let Some(file) = store.url().strip_prefix("sqlite:") else {
        return dump_postgres(store.url()).await;
    };
    let bytes = ["", "-wal"].map(|end| fs::read(format!("{file}{end}")).unwrap());
    String::from_utf8_lossy(&bytes.concat()).into_owned()
}

/// Rows as text hold `bytea` in hexadecimal.
async fn dump_postgres(url: &str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        // Without the parts of days: their rows are read with the whole, and old days are
        // dropped meanwhile.
        "select table_name::text from information_schema.tables \
         where table_schema = 'ringback' and table_name !~ '_[0-9]{8}$'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut dump = String::new();
    for table in tables {
        let rows = format!("select coalesce(string_agg(t::text, ' '), '') from ringback.{table} t");
        let rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(rows));
        dump.push_str(&rows.fetch_one(&mut connection).await.unwrap());
    }
    dump
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same database, with a password in its URL if there is none: a server that trusts
/// us does not ask for it.
fn with_password(url: &str) -> String {
    match url.split_once('@') {
        Some((user, rest)) if !user.trim_start_matches("postgres://").contains(':') => {
            format!("{user}:{PASSWORD}@{rest}")
        }
        _ => url.to_owned(),
    }
}

fn unreachable_database() -> String {
    let mut told = String::new();
    for url in [
        format!("postgres://ana:{PASSWORD}@127.0.0.1:1/x?password={PASSWORD}&sslmode=odd"),
        format!("postgres:/ana:{PASSWORD}@127.0.0.1/x"),
    ] {
        let output = ringback()
            .args(["migrate", "--database-url", &url])
            .output()
            .unwrap();
        assert!(!output.status.success());
        told.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    told
}
