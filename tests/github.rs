//! Real input: `examples/github`, on a real server. GitHub's example webhooks reach a
//! receiver in Flask, which verifies them with the reference library, byte for byte.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use ringback_testkit::{TestStore, fresh_postgres, fresh_sqlite};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::harness::{Api, PATIENCE, Server, eventually};

/// How many payloads `@octokit/webhooks-examples` 7.6.1 has.
const EXAMPLES: usize = 726;
const APP: &str = "github";
/// What the receiver and its subscription share: `whsec_` and 32 bytes.
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[tokio::test]
async fn every_example_of_github_arrives_byte_for_byte_on_sqlite() {
    every_example_arrives_byte_for_byte(fresh_sqlite().await).await;
}

#[tokio::test]
async fn every_example_of_github_arrives_byte_for_byte_on_postgres() {
    every_example_arrives_byte_for_byte(fresh_postgres().await).await;
}

async fn every_example_arrives_byte_for_byte(store: TestStore) {
    let folder = tempfile::tempdir().unwrap();
    let [manifest, database] =
        ["manifest.jsonl", "received.db"].map(|name| folder.path().join(name));
    let server = Server::spawn(store.url(), &[]);
    let receiver = Receiver::start(&database).await;
    server.api.app(APP).await;
    let fields = json!({"event_types": ["github.*"], "secret": SECRET});
    server.api.subscribe(APP, &receiver.url, fields).await;

    // Read from the start, so that the receiver is never stuck on a full pipe.
    let stored = tokio::spawn(all_stored(receiver.lines));
    send(&server.api, &manifest).await;
    stored.await.unwrap();

    let compared = run(example("compare.py").arg(&manifest).arg(&database)).await;
    assert!(
        compared.starts_with("726 posted, 726 received\n"),
        "{compared}"
    );
    all_delivered_at_once(&server.api).await;
}

/// Posts every example; the manifest says what was posted.
async fn send(api: &Api, manifest: &Path) {
    let examples =
        from_scripts_test("RINGBACK_TEST_NODE_MODULES").join("@octokit/webhooks-examples");
    let mut sender = example("send.py");
    sender
        .env("RINGBACK_SERVER", api.base())
        .env("RINGBACK_KEY", api.key());
    sender
        .arg(examples)
        .args(["--app", APP, "--manifest"])
        .arg(manifest);
    let said = run(&mut sender).await;
    assert_eq!(said, format!("{EXAMPLES} events of 64 types posted\n"));
}

/// Returns when the receiver has said of every example that it is stored, and nothing
/// else: no request was refused, and none repeated.
async fn all_stored(mut lines: Lines<BufReader<ChildStdout>>) {
    for count in 0..EXAMPLES {
        let line = next_line(&mut lines).await;
        assert!(
            line.starts_with("stored evt_"),
            "after {count} events: {line}"
        );
    }
}

/// Asserts that one attempt was enough for each delivery.
async fn all_delivered_at_once(api: &Api) {
    // The last answers may still be on their way into the database.
    let deliveries = eventually("no delivery is pending", async || {
        let deliveries = api.all(&format!("/v1/deliveries?app={APP}")).await;
        let pending = deliveries
            .iter()
            .filter(|delivery| delivery["status"] == "pending")
            .count();
        if pending == 0 {
            Ok(deliveries)
        } else {
            Err(pending)
        }
    })
    .await;
    assert_eq!(deliveries.len(), EXAMPLES);
    for delivery in deliveries {
        assert_eq!(delivery["status"], "delivered", "{delivery}");
        assert_eq!(delivery["attempts"], 1, "{delivery}");
    }
}

/// A running `receiver.py`; it ends with the test.
struct Receiver {
    url: String,
    /// What it says: a line for each request.
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Receiver {
    async fn start(database: &Path) -> Self {
        let mut command = example("receiver.py");
        command
            .env("WEBHOOK_SECRET", SECRET)
            .env("DATABASE", database)
            .env("PORT", "0");
        let mut child = command
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = next_line(&mut lines).await;
        let url = line
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned();
        Self {
            url,
            lines,
            _child: child,
        }
    }
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(PATIENCE, lines.next_line()).await;
    line.expect("the receiver says nothing")
        .unwrap()
        .expect("the receiver has ended")
}

/// Runs to the end; answers what was printed.
async fn run(command: &mut Command) -> String {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let [said, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{}: {said}{errors}", output.status);
    said.into_owned()
}

/// A Python script of `examples/github`.
fn example(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/github");
    let mut command = Command::new(from_scripts_test("RINGBACK_TEST_PYTHON"));
    command
        .arg(folder.join(script))
        .stdin(Stdio::null())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn from_scripts_test(name: &str) -> PathBuf {
    let value = env::var_os(name);
    value
        .unwrap_or_else(|| panic!("{name} is not set: run the tests with scripts/test"))
        .into()
}
