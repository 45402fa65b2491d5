//! Scripted receivers on this machine: they keep every request as it came, and answer,
//! or misbehave, as they are told.
//!
//! They read HTTP by hand, so that what is kept is what was on the wire, and no
//! library's idea of it.

use std::{
    collections::VecDeque,
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

mod request;
pub use request::Request;

mod reply;
pub use reply::{Gate, Reply};

mod tls;
pub use tls::{Authority, Identity};

mod canary;
pub use canary::Canary;

mod wire;

/// How long a test waits for what must come; then it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Listens until it is dropped. Answers `204` unless told otherwise.
pub struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    accepting: AbortHandle,
}

type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

struct State {
    queue: Mutex<VecDeque<Reply>>,
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
    /// How many there are of those.
    arrived: watch::Sender<usize>,
    connections: AtomicUsize,
}

impl Receiver {
    /// Plain HTTP on a free port.
    pub async fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into()).await
    }

    /// Plain HTTP at an address of this machine, like that of a receiver that is gone.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::listen(address, None).await
    }

    /// HTTPS on a free port, under a certificate of `authority` or one that pretends.
    pub async fn start_tls(authority: &Authority, identity: Identity) -> Self {
        let acceptor = authority.acceptor(identity);
        Self::listen(([127, 0, 0, 1], 0).into(), Some(acceptor)).await
    }

    /// Answers by `script` from now on.
    pub fn script(&self, script: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.state.script.lock().unwrap() = Box::new(script);
    }

    /// Answers `reply` from now on.
    pub fn always(&self, reply: Reply) {
        self.script(move |_| reply.clone());
    }

    /// Answers these first, each once, in the order in which requests come.
    pub fn next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.queue.lock().unwrap().extend(replies);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path here, by the address.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The URL of a path here, by a name for this machine, like `localhost`.
    pub fn url_by_name(&self, name: &str, path: &str) -> String {
        format!("{}://{name}:{}{path}", self.scheme, self.address.port())
    }

    /// What has come, in the order in which it was read.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// How many requests have come.
    pub fn count(&self) -> usize {
        *self.state.arrived.borrow()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Acquire)
    }

    /// Waits until `count` requests have come; answers all of them.
    ///
    /// # Panics
    ///
    /// If they do not within a minute.
    pub async fn wait_for(&self, count: usize) -> Vec<Request> {
        self.wait_until(&format!("{count} requests"), |requests| {
            requests.len() >= count
        })
        .await
    }

    /// Waits until what has come fulfils `condition`; answers all of it.
    ///
    /// - `what`: says in words what is waited for.
    ///
    /// # Panics
    ///
    /// If it does not within a minute.
    pub async fn wait_until(
        &self,
        what: &str,
        condition: impl Fn(&[Request]) -> bool,
    ) -> Vec<Request> {
        let mut arrived = self.state.arrived.subscribe();
        let fulfilled = arrived.wait_for(|_| condition(&self.state.requests.lock().unwrap()));
        let fulfilled = tokio::time::timeout(PATIENCE, fulfilled).await;
        assert!(
            fulfilled.is_ok(),
            "waited for {what}, but this came:{}",
            self.summary()
        );
        self.requests()
    }

    async fn listen(address: SocketAddr, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let state = Arc::new(State {
            queue: Mutex::default(),
            script: Mutex::new(Box::new(|_| Reply::status(204))),
            requests: Mutex::default(),
            arrived: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
        });
        Self {
            address: listener.local_addr().unwrap(),
            scheme: if acceptor.is_some() { "https" } else { "http" },
            accepting: tokio::spawn(accept(listener, acceptor, Arc::clone(&state))).abort_handle(),
            state,
        }
    }

    fn summary(&self) -> String {
        let mut text = String::new();
        for request in self.state.requests.lock().unwrap().iter() {
            let id = request.header("webhook-id").unwrap_or("no webhook-id");
            let attempt = request.header("ringback-attempt").unwrap_or("-");
            let (method, target) = (&request.method, &request.target);
            // Writing to a text cannot fail.
            let _ = write!(text, "\n  {method} {target} ({id}, attempt {attempt})");
        }
        if text.is_empty() {
            " nothing".to_owned()
        } else {
            text
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    fn reply_to(&self, request: &Request) -> Reply {
        let queued = self.queue.lock().unwrap().pop_front();
        queued.unwrap_or_else(|| (self.script.lock().unwrap())(request))
    }

    fn keep(&self, request: Request) {
        self.requests.lock().unwrap().push(request);
        self.arrived.send_modify(|count| *count += 1);
    }
}

/// Its connections end with it.
async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let number = state.connections.fetch_add(1, Ordering::AcqRel);
        connections.spawn(converse(
            stream,
            acceptor.clone(),
            Arc::clone(&state),
            number,
        ));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    state: Arc<State>,
    number: usize,
) {
    // What a sender does wrong is seen in what was kept, so errors are no news here.
    let Some(acceptor) = acceptor else {
        return drop(answer_all(stream, &state, number).await);
    };
    if let Ok(stream) = acceptor.accept(stream).await {
        drop(answer_all(stream, &state, number).await);
    }
}

async fn answer_all(
    stream: impl wire::Wire,
    state: &State,
    connection: usize,
) -> std::io::Result<()> {
    let mut stream = wire::buffered(stream);
    while let Some(request) = wire::read_request(&mut stream, connection).await? {
        let reply = state.reply_to(&request);
        let last = request
            .header("connection")
            .is_some_and(|value| value == "close");
        state.keep(request);
        if wire::write_reply(&mut stream, reply).await?.is_break() || last {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
