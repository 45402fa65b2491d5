//! A name server that knows what a test tells it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{net::UdpSocket, task::AbortHandle};

/// Answers by UDP until it is dropped.
pub(crate) struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    answering: AbortHandle,
}

impl NameServer {
    /// Starts one that knows these names; all others do not exist.
    pub(crate) async fn start(names: &[(&str, &[IpAddr])]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let owned = |&(name, addresses): &(&str, &[IpAddr])| (name.to_owned(), addresses.to_vec());
        let names = names.iter().map(owned).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answering = tokio::spawn(answer(socket, names, Arc::clone(&asked))).abort_handle();
        Self {
            address,
            asked,
            answering,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a name was asked for.
    pub(crate) fn was_asked_for(&self, name: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == name)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn answer(
    socket: UdpSocket,
    names: HashMap<String, Vec<IpAddr>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        let question = Question::read(&packet[..length]);
        let reply = question.reply(names.get(&question.name));
        asked.lock().unwrap().push(question.name);
        // Who does not wait for it any more has given up.
        let _ = socket.send_to(&reply, from).await;
    }
}

/// The first question of a query (RFC 1035 §4).
struct Question<'a> {
    id: &'a [u8],
    name: String,
    kind: u16,
    /// As it stands in the query.
    bytes: &'a [u8],
}

const HEADER_BYTES: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;

impl<'a> Question<'a> {
    fn read(query: &'a [u8]) -> Self {
        let (mut at, mut labels) = (HEADER_BYTES, Vec::new());
        while query[at] != 0 {
            let end = at + 1 + usize::from(query[at]);
            labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
            at = end;
        }
        let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
        let bytes = &query[HEADER_BYTES..at + 5];
        Self {
            id: &query[..2],
            name: labels.join("."),
            kind,
            bytes,
        }
    }

    /// - `addresses`: `None` if there is no such name.
    fn reply(&self, addresses: Option<&Vec<IpAddr>>) -> Vec<u8> {
        let records: Vec<Vec<u8>> = addresses
            .into_iter()
            .flatten()
            .filter_map(|a| self.record(a))
            .collect();
        // An answer, recursion wanted and available; 3 is NXDOMAIN.
        let flags: u16 = if addresses.is_some() { 0x8180 } else { 0x8183 };
        let count = u16::try_from(records.len()).unwrap();
        let mut reply = self.id.to_vec();
        for number in [flags, 1, count, 0, 0] {
            reply.extend(number.to_be_bytes());
        }
        reply.extend(self.bytes);
        reply.extend(records.concat());
        reply
    }

    fn record(&self, address: &IpAddr) -> Option<Vec<u8>> {
        let data = match (self.kind, address) {
            (A, IpAddr::V4(address)) => address.octets().to_vec(),
            (AAAA, IpAddr::V6(address)) => address.octets().to_vec(),
            _ => return None,
        };
        // The name is that of the question; class IN; not to be kept.
        let mut record = vec![0xC0, 12];
        record.extend(self.kind.to_be_bytes());
        record.extend([0, 1, 0, 0, 0, 0, 0, u8::try_from(data.len()).unwrap()]);
        record.extend(data);
        Some(record)
    }
}
