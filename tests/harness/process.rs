//! A real service in a process of its own, to be killed and started again.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use serde_json::Value;

use super::{Api, PATIENCE};

/// Encrypts secrets of all servers of the tests: 32 bytes, base64.
const SECRETS_KEY: &str = "cmluZ2JhY2stdGVzdHMtcmluZ2JhY2stdGVzdHMtMzI=";

/// Lets deliveries go to this machine.
const OPEN: [&str; 3] = ["--egress-allow-cidr", "127.0.0.0/8", "--egress-allow-http"];

/// A running `ringback serve`.
pub(crate) struct Server {
    /// Talks to it, with an admin's key.
    pub(crate) api: Api,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts it and makes an admin's key. Deliveries may go to this machine.
    pub(crate) fn spawn(database_url: &str, args: &[&str]) -> Self {
        let key = run(
            database_url,
            &["keys", "create", "--scopes", "admin", "-o", "id"],
        );
        Self::spawn_with_key(database_url, key.trim(), args)
    }

    /// Starts it on a database whose admin's key is known.
    pub(crate) fn spawn_with_key(database_url: &str, key: &str, args: &[&str]) -> Self {
        Self::spawn_guarded(database_url, key, &[&OPEN, args].concat())
    }

    /// Starts it with other variables in its environment, and makes an admin's key.
    pub(crate) fn spawn_with_env(database_url: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let key = run(
            database_url,
            &["keys", "create", "--scopes", "admin", "-o", "id"],
        );
        let mut command = command(database_url);
        command.envs(env.iter().copied());
        Self::start(command, key.trim(), &[&OPEN, args].concat())
    }

    /// Starts it as shipped: deliveries go to public addresses only.
    pub(crate) fn spawn_guarded(database_url: &str, key: &str, args: &[&str]) -> Self {
        Self::start(command(database_url), key, args)
    }

    fn start(mut command: Command, key: &str, args: &[&str]) -> Self {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let address = follow_log(&mut child, &log);
        let api = Api::new(format!("http://{address}"), key.to_owned());
        Self { api, child, log }
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has; answers its exit code.
    pub(crate) fn terminate(self) -> Option<i32> {
        self.signal("TERM");
        self.ended()
    }

    /// Waits until it has ended; answers its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal by its own id.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of the binary to its end; answers what it printed.
pub(crate) fn run(database_url: &str, args: &[&str]) -> String {
    let output = command(database_url).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ringback {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The binary, run where there is no settings file.
pub(crate) fn ringback() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null());
    command
}

fn command(database_url: &str) -> Command {
    let mut command = ringback();
    command
        .env("RINGBACK_DATABASE_URL", database_url)
        .env("RINGBACK_SECRETS_KEY", SECRETS_KEY);
    command
}

/// Keeps what the process logs, and answers the address it is ready at.
fn follow_log(child: &mut Child, log: &Arc<Mutex<Vec<String>>>) -> String {
    let (ready, address) = mpsc::channel();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let log = Arc::clone(log);
    let kept = Arc::clone(&log);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "ready" {
                let address = entry["address"].as_str().unwrap_or_default().to_owned();
                // The test may have given up.
                let _ = ready.send(address);
            }
            kept.lock().unwrap().push(line);
        }
    });
    address.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        panic!("the server did not start: {:#?}", log.lock().unwrap());
    })
}
