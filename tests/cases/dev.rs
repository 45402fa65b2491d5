//! `ringback dev`: a newcomer's first minutes, from the banner alone.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

use crate::harness::{PATIENCE, ringback};

#[tokio::test]
async fn the_banner_is_enough_to_send_a_first_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(folder.path(), "127.0.0.1:0").await;
    for file in ["dev.env", "secrets.key"] {
        let mode = fs::metadata(folder.path().join(".ringback").join(file))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{file}");
    }

    let trigger = dev
        .line("trigger order.paid")
        .trim()
        .split("  ")
        .next()
        .unwrap()
        .to_owned();
    let mut words = trigger.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let sent = command
        .args(words)
        .args(["-o", "id"])
        .current_dir(folder.path())
        .output()
        .await;
    let sent = sent.unwrap();
    assert!(
        sent.status.success(),
        "{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    let event = String::from_utf8(sent.stdout).unwrap();
    let seen = dev.logs("receiver: ").await;
    for part in [
        "/ok order.paid",
        event.trim(),
        "attempt 1",
        "signature verified",
        "204",
    ] {
        assert!(seen.contains(part), "{part} is not in: {seen}");
    }
    dev.stop().await;
}

#[tokio::test]
async fn a_second_start_takes_up_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let env = folder.path().join(".ringback/dev.env");
    let first = Dev::start(folder.path(), "127.0.0.1:0").await;
    let (subscription, key) = (first.subscription(), key(&env));
    first.stop().await;
    let second = Dev::start(folder.path(), "127.0.0.1:0").await;
    assert_eq!(
        (second.subscription(), self::key(&env)),
        (subscription, key)
    );
    second.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_left_to_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let dev = Dev::start(folder.path(), &taken.to_string()).await;
    let told = dev.line("is taken").to_owned();
    let base = dev
        .line("  API  ")
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned();
    let port: u16 = base
        .trim_start_matches("http://127.0.0.1:")
        .trim_end_matches("/v1")
        .parse()
        .unwrap();
    assert!(
        (taken.port() + 1..=taken.port() + 50).contains(&port),
        "{port}"
    );
    assert_eq!(
        told,
        format!("{taken} is taken, so 127.0.0.1:{port} it is.")
    );
    dev.stop().await;
}

/// The key in this file.
fn key(env: &Path) -> String {
    let text = fs::read_to_string(env).unwrap();
    let key = text
        .lines()
        .find_map(|line| line.strip_prefix("RINGBACK_KEY="));
    key.unwrap().to_owned()
}

/// A running `ringback dev`.
struct Dev {
    child: Child,
    banner: Vec<String>,
    log: Lines<BufReader<ChildStderr>>,
    /// Kept open, so that it can go on talking.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Dev {
    async fn start(folder: &Path, listen: &str) -> Self {
        let mut command = Command::from(ringback());
        let mut child = command
            .args(["dev", "--listen", listen, "--receiver", "127.0.0.1:0"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = Vec::new();
        while !banner.iter().any(|line: &String| line.contains("curl ")) {
            banner.push(next_line(&mut said).await);
        }
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            banner,
            log,
            _said: said,
        }
    }

    /// The first line of the banner that has these words.
    fn line(&self, words: &str) -> &str {
        let line = self.banner.iter().find(|line| line.contains(words));
        line.unwrap_or_else(|| panic!("no `{words}` in {:#?}", self.banner))
    }

    fn subscription(&self) -> String {
        self.line("  subscription ")
            .split_whitespace()
            .nth(1)
            .unwrap()
            .to_owned()
    }

    /// The next message in the log that begins so.
    async fn logs(&mut self, start: &str) -> String {
        loop {
            let line = next_line(&mut self.log).await;
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            let message = entry["message"].as_str().unwrap_or_default();
            if message.starts_with(start) {
                return message.to_owned();
            }
        }
    }

    async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
        let ended = timeout(PATIENCE, self.child.wait())
            .await
            .expect("it does not stop")
            .unwrap();
        assert_eq!(ended.code(), Some(0));
    }
}

async fn next_line(lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>) -> String {
    let line = timeout(PATIENCE, lines.next_line())
        .await
        .expect("nothing more is said");
    line.unwrap().expect("it has ended")
}
