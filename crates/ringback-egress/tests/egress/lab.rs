//! What the tests need around the client: receivers, name servers, authorities.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use http::{HeaderMap, HeaderValue};
use ringback_egress::{Answer, Egress, EgressConfig, Exchange, Post};
use ringback_model::{AddressPolicy, AttemptError, Target, TargetPolicy};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// Long enough for whatever is not meant to run into it.
pub(crate) const AMPLE: Duration = Duration::from_secs(20);
/// For what is meant to run into it.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) const BODY: &[u8] = br#"{"type":"order.paid"}"#;

/// Admits everything that a URL can say, and calls the addresses of `open`.
pub(crate) fn opening(open: &[&str]) -> TargetPolicy {
    let open = open
        .iter()
        .map(|net| net.parse().expect("a range"))
        .collect();
    let addresses = AddressPolicy::new(open, vec![]);
    TargetPolicy {
        addresses,
        allow_http: true,
        allow_any_port: true,
    }
}

pub(crate) fn opening_loopback() -> EgressConfig {
    EgressConfig {
        targets: opening(&["127.0.0.0/8", "::1/128"]),
        ..EgressConfig::default()
    }
}

pub(crate) fn egress(config: EgressConfig) -> Egress {
    Egress::new(config).expect("the configuration of the test is sound")
}

pub(crate) fn target(url: &str) -> Arc<Target> {
    let everything = opening(&["0.0.0.0/0", "::/0"]);
    Arc::new(Target::parse(url, &everything).expect("the test's URL is sound"))
}

pub(crate) async fn post_within(egress: &Egress, url: &str, timeout: Duration) -> Exchange {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("webhook-id", HeaderValue::from_static("evt_02xk6m3q9s0w1"));
    let body = Bytes::from_static(BODY);
    egress
        .post(Post {
            target: target(url),
            headers,
            body,
            timeout,
        })
        .await
}

pub(crate) async fn post(egress: &Egress, url: &str) -> Exchange {
    post_within(egress, url, AMPLE).await
}

pub(crate) fn answer(exchange: Exchange) -> Answer {
    exchange.result.expect("the receiver answered")
}

pub(crate) fn error(exchange: Exchange) -> AttemptError {
    exchange.result.expect_err("there is no answer").error
}

/// A receiver on a port of its own, which keeps what it is sent.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    /// Answers every request with the same bytes, and keeps the connection.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |mut stream, requests| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(request) = read_request(&mut stream).await {
                    requests.lock().expect("no test panics here").push(request);
                    let _ = stream.write_all(&answer).await;
                }
            }
        })
        .await
    }

    /// Reads one request of every connection, then does as it is told.
    pub(crate) async fn then<F, Fut>(act: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let act = Arc::new(act);
        Self::start(move |mut stream, _| {
            let act = Arc::clone(&act);
            async move {
                read_request(&mut stream).await;
                act(stream).await;
            }
        })
        .await
    }

    /// Does as it is told with every connection.
    pub(crate) async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let receiver = Self {
            address,
            accepted: Arc::default(),
            requests: Arc::default(),
        };
        let (accepted, requests) = (
            Arc::clone(&receiver.accepted),
            Arc::clone(&receiver.requests),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&requests)));
            }
        });
        receiver
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no test panics here").clone()
    }
}

/// The bytes of one request, head and body; `None` at the end of the connection.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                return Some(text.into_owned());
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// A listener that nobody should ever reach.
pub(crate) struct Canary(StdListener);

impl Canary {
    pub(crate) fn at(address: impl Into<IpAddr>) -> Self {
        let listener = StdListener::bind((address.into(), 0)).expect("a free port");
        listener.set_nonblocking(true).expect("any listener can");
        Self(listener)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().expect("it is bound").port()
    }

    pub(crate) fn is_untouched(&self) -> bool {
        self.0
            .accept()
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// A name server that answers as it is told, by the count of questions of that type.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    /// - `answer`: the addresses for the n-th question of a type, `None` for no such
    ///   name; those that do not fit the type are left out.
    pub(crate) async fn start(
        answer: impl Fn(usize) -> Option<Vec<IpAddr>> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            let (mut counts, mut buffer) = ([0, 0], [0; 1500]);
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                counter.fetch_add(1, Ordering::SeqCst);
                let question = Message::from_vec(&buffer[..length]).expect("a DNS message");
                let is_v6 = question.queries[0].query_type() == RecordType::AAAA;
                let count = &mut counts[usize::from(is_v6)];
                let reply = reply(question, answer(*count), is_v6);
                *count += 1;
                let _ = socket.send_to(&reply, from).await;
            }
        });
        Self { address, asked }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn reply(question: Message, addresses: Option<Vec<IpAddr>>, is_v6: bool) -> Vec<u8> {
    let name = question.queries[0].name().clone();
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.recursion_available = true;
    reply.add_query(question.queries[0].clone());
    match addresses {
        None => reply.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) => {
            for address in addresses
                .into_iter()
                .filter(|address| address.is_ipv6() == is_v6)
            {
                // Not to be remembered: every connection asks anew.
                reply.add_answer(Record::from_rdata(name.clone(), 0, RData::from(address)));
            }
        }
    }
    reply.to_vec().expect("a DNS message")
}
