//! The cheapest possible HTTP/1.1 over one connection that is kept.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection to a service on this machine.
pub struct Connection {
    stream: TcpStream,
    /// Headers that every request has.
    headers: String,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Like 202.
    pub status: u16,
    /// All of it.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    #[expect(
        clippy::disallowed_methods,
        reason = "its address comes from whoever tests"
    )]
    pub async fn open(server: SocketAddr, key: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let headers = format!(
            "host: {server}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        );
        Ok(Self {
            stream,
            headers,
            buffer: Vec::new(),
        })
    }

    /// Posts JSON.
    ///
    /// # Errors
    ///
    /// If the connection breaks before all of the answer has come.
    pub async fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        self.send("POST", path, body.to_string().as_bytes()).await
    }

    /// Sends a request, and waits for its answer.
    ///
    /// # Errors
    ///
    /// If the connection breaks before all of the answer has come.
    pub async fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let headers = &self.headers;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n");
        self.stream
            .write_all(&[head.as_bytes(), body].concat())
            .await?;
        let (head, body) = read_message(&mut self.stream, &mut self.buffer).await?;
        let status = head.get(9..12).and_then(|digits| digits.parse().ok());
        Ok(Answer {
            status: status.ok_or(ErrorKind::InvalidData)?,
            body,
        })
    }
}

/// Reads one request or answer; answers its head and body.
///
/// - `buffer`: what was read beyond the message before.
pub(super) async fn read_message(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> io::Result<(String, Vec<u8>)> {
    let body_at = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(stream, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..body_at]).into_owned();
    let end = body_at + content_length(&head)?;
    while buffer.len() < end {
        read_more(stream, buffer).await?;
    }
    let body = buffer[body_at..end].to_vec();
    buffer.drain(..end);
    Ok((head, body))
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.reserve(4096);
    match stream.read_buf(buffer).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn content_length(head: &str) -> io::Result<usize> {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then_some(value.trim())
    });
    length.map_or(Ok(0), |length| {
        length.parse().map_err(|_| ErrorKind::InvalidData.into())
    })
}
