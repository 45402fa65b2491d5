//! HTTP/1.1 by hand: as much as a receiver of webhooks needs.

use std::{
    io::{self, ErrorKind},
    ops::ControlFlow,
};

use bytes::Bytes;
use chrono::Utc;
use tokio::{
    io::{
        AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
        BufReader,
    },
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    Request,
    reply::{Act, Reply},
};

/// A connection, plain or encrypted.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

pub(super) fn buffered<W: Wire>(stream: W) -> BufReader<W> {
    BufReader::new(stream)
}

/// The next request; `None` when the sender has closed the connection.
#[expect(
    clippy::disallowed_methods,
    reason = "a receiver notes when something came"
)]
pub(super) async fn read_request<W: Wire>(
    stream: &mut BufReader<W>,
    connection: usize,
) -> io::Result<Option<Request>> {
    let Some(first) = read_line(stream).await? else {
        return Ok(None);
    };
    let mut parts = first.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ErrorKind::InvalidData.into());
    };
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: read_headers(stream).await?,
        body: Bytes::new(),
        connection,
        received_at: Utc::now(),
    };
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    request.body = read_body(stream, &request).await?;
    request.received_at = Utc::now();
    Ok(Some(request))
}

/// Does what the reply says; whether another request may follow.
pub(super) async fn write_reply<W: Wire>(
    stream: &mut BufReader<W>,
    reply: Reply,
) -> io::Result<ControlFlow<()>> {
    reply.wait().await;
    match reply.act {
        Act::Answer {
            status,
            headers,
            body,
        } => {
            stream.write_all(&answer(status, &headers, &body)).await?;
            stream.flush().await?;
            Ok(ControlFlow::Continue(()))
        }
        Act::Raw { bytes, then_close } => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            if !then_close {
                // Until the sender has had enough.
                let _ = tokio::io::copy(stream, &mut tokio::io::sink()).await;
            }
            Ok(ControlFlow::Break(()))
        }
        Act::Reset => {
            stream.get_ref().tcp().set_zero_linger()?;
            Ok(ControlFlow::Break(()))
        }
    }
}

async fn read_headers(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream).await?.ok_or(ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

async fn read_body(
    stream: &mut (impl AsyncBufRead + Unpin),
    request: &Request,
) -> io::Result<Bytes> {
    if request.header("transfer-encoding").is_some() {
        return read_chunks(stream).await;
    }
    let Some(length) = request.header("content-length") else {
        return Ok(Bytes::new());
    };
    let length = length.parse().map_err(|_| ErrorKind::InvalidData)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body.into())
}

async fn read_chunks(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Bytes> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream).await?.ok_or(ErrorKind::UnexpectedEof)?;
        let length = line.split(';').next().unwrap_or_default();
        let length = u64::from_str_radix(length, 16).map_err(|_| ErrorKind::InvalidData)?;
        if length == 0 {
            read_headers(stream).await?;
            return Ok(body.into());
        }
        (&mut *stream).take(length).read_to_end(&mut body).await?;
        read_line(stream).await?;
    }
}

/// A line without its end; `None` at the end of the stream.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    let line = line.strip_suffix(b"\r\n").ok_or(ErrorKind::InvalidData)?;
    Ok(Some(String::from_utf8_lossy(line).into_owned()))
}

fn answer(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} x\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    // These have no body, by their nature.
    if !matches!(status, 100..=199 | 204 | 304) {
        text += &format!("content-length: {}\r\n", body.len());
    }
    text += "\r\n";
    [text.as_bytes(), body].concat()
}
