//! A connection, and what is known of how it came to be.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use http::Extensions;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// How a connection came to be, as far as it did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) begun: Instant,
    pub(crate) dns_ms: Option<u32>,
    pub(crate) connect_ms: Option<u32>,
    pub(crate) tls_ms: Option<u32>,
    /// Whom it leads to, or was to lead to.
    pub(crate) peer: Option<SocketAddr>,
}

impl Link {
    pub(crate) fn begin() -> Self {
        let begun = Instant::now();
        Self {
            begun,
            dns_ms: None,
            connect_ms: None,
            tls_ms: None,
            peer: None,
        }
    }

    /// That of the connection which a request was given, if it was given one.
    pub(crate) fn captured(captured: &CaptureConnection) -> Option<Self> {
        let mut extensions = Extensions::new();
        captured
            .connection_metadata()
            .as_ref()?
            .get_extras(&mut extensions);
        extensions.remove()
    }
}

/// Whole milliseconds since `start`.
pub(crate) fn millis(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_millis()).unwrap_or(u32::MAX)
}

/// A connection in plain text or TLS.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    link: Link,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Wire {
    pub(crate) fn new(stream: impl Stream + 'static, link: Link) -> Self {
        let stream = Box::new(stream);
        Self { stream, link }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Stream> {
        Pin::new(&mut *self.get_mut().stream)
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.link)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
