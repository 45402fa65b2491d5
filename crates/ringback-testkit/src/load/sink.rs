//! Receives what a load generator posted, and keeps count; or is a bad receiver.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    str::FromStr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

use super::{connection::read_message, now_us, times};

/// Answers in its [`Manner`], and `GET /report/{run}` with what came at `/{run}/…`.
/// `POST /manner` with another one changes it. Listens until it is dropped.
pub struct Sink {
    address: SocketAddr,
    accepting: AbortHandle,
}

/// How deliveries are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// With this status, at once.
    Status(u16),
    /// With `204`, after so many seconds.
    After(u64),
    /// Not at all: a black hole.
    Never,
}

impl FromStr for Manner {
    type Err = String;

    /// Reads `204`, `after:10` or `never`.
    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.strip_prefix("after:").map(str::parse);
        match (text, seconds, text.parse()) {
            ("never", ..) => Ok(Self::Never),
            (_, Some(Ok(seconds)), _) => Ok(Self::After(seconds)),
            (_, None, Ok(status)) => Ok(Self::Status(status)),
            _ => Err(format!("`{text}` is not like `204`, `after:10` or `never`")),
        }
    }
}

/// What all connections share.
struct Shared {
    tallies: Mutex<HashMap<String, Tally>>,
    manner: Mutex<Manner>,
}

/// What came of one run.
struct Tally {
    received: u64,
    distinct: u64,
    last_us: u64,
    latency_us: Histogram<u64>,
    /// Per path, which events have come.
    seen: HashMap<String, Vec<bool>>,
}

impl Sink {
    /// Listens there.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub async fn start(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            address,
            accepting: tokio::spawn(accept(listener, manner)).abort_handle(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, manner: Manner) {
    let shared = Arc::new(Shared {
        tallies: Mutex::default(),
        manner: Mutex::new(manner),
    });
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let (head, body) = read_message(&mut stream, &mut buffer).await?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        let answer = match (path, path.strip_prefix("/report/")) {
            (_, Some(run)) => report(&shared, run),
            ("/manner", _) => change(&shared, &body),
            _ => match receive(&shared, path, &body).await {
                Some(answer) => answer,
                None => continue,
            },
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

fn change(shared: &Shared, body: &[u8]) -> String {
    let manner = std::str::from_utf8(body).map(str::parse);
    let Ok(Ok(manner)) = manner else {
        return status_line(400);
    };
    *shared.manner.lock().unwrap() = manner;
    status_line(204)
}

/// Only what is taken counts.
async fn receive(shared: &Shared, path: &str, body: &[u8]) -> Option<String> {
    let manner = *shared.manner.lock().unwrap();
    let status = match manner {
        Manner::Status(status) => status,
        Manner::After(seconds) => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            204
        }
        Manner::Never => return None,
    };
    if (200..300).contains(&status) {
        count(shared, path, body);
    }
    Some(status_line(status))
}

fn status_line(status: u16) -> String {
    let length = if status == 204 {
        ""
    } else {
        "content-length: 0\r\n"
    };
    format!("HTTP/1.1 {status} \r\n{length}\r\n")
}

fn count(shared: &Shared, path: &str, body: &[u8]) {
    let now_us = now_us();
    let (Some(index), Some(sent_us)) = (field(body, b"\"n\":"), field(body, b"\"sent_us\":"))
    else {
        return;
    };
    let run = path.split('/').nth(1).unwrap_or_default();
    let mut tallies = shared.tallies.lock().unwrap();
    if !tallies.contains_key(run) {
        tallies.insert(run.to_owned(), Tally::new());
    }
    let Some(tally) = tallies.get_mut(run) else {
        return;
    };
    tally.received += 1;
    if tally.is_first(path, usize::try_from(index).unwrap_or_default()) {
        tally.distinct += 1;
        tally.last_us = now_us;
        tally
            .latency_us
            .saturating_record(now_us.saturating_sub(sent_us));
    }
}

fn report(shared: &Shared, run: &str) -> String {
    let mut tallies = shared.tallies.lock().unwrap();
    let tally = tallies.entry(run.to_owned()).or_insert_with(Tally::new);
    let body = json!({
        "received": tally.received,
        "distinct": tally.distinct,
        "last_us": tally.last_us,
        "p50_us": tally.latency_us.value_at_quantile(0.5),
        "p99_us": tally.latency_us.value_at_quantile(0.99),
    })
    .to_string();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Tally {
    fn new() -> Self {
        Self {
            received: 0,
            distinct: 0,
            last_us: 0,
            latency_us: times(),
            seen: HashMap::new(),
        }
    }

    fn is_first(&mut self, path: &str, index: usize) -> bool {
        if !self.seen.contains_key(path) {
            self.seen.insert(path.to_owned(), Vec::new());
        }
        let Some(seen) = self.seen.get_mut(path) else {
            return false;
        };
        if seen.len() <= index {
            seen.resize(index + 1, false);
        }
        !std::mem::replace(&mut seen[index], true)
    }
}

/// The digits that follow the first `name`: parsing all of the body would cost more
/// than everything else here.
fn field(body: &[u8], name: &[u8]) -> Option<u64> {
    let at = body.windows(name.len()).position(|window| window == name)? + name.len();
    let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let (number, any) = digits.fold((0, false), |(number, _), digit| {
        (number * 10 + u64::from(digit - b'0'), true)
    });
    any.then_some(number)
}
