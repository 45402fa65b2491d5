//! Serves HTTP/1.1 on a listener.
//!
//! A loop of our own: `axum::serve` gives hyper no timer, so its header timeout never
//! fires and a slow client holds a connection for ever (axum 0.8).

use std::{io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{Api, ApiConfig, Peer};

const MAX_HEADERS: usize = 100;
/// Of a request's head; bodies are read through it too.
const BUFFER_BYTES: usize = 64 * 1024;
/// When the system has no file descriptors left, trying again at once would spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

impl Api {
    /// Serves until `shutdown` is cancelled, and accepts meanwhile what is emitted inside
    /// the database; then lets what is under way finish, for at most
    /// [`ApiConfig::stop_timeout`].
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let config = self.config().clone();
        let router = self.router();
        let emitted = tokio::spawn(self.clone().accept_emitted(shutdown.clone()));
        let connections = GracefulShutdown::new();
        let permits = Arc::new(Semaphore::new(config.max_connections));
        while let Some((stream, permit)) = next(&listener, &permits, &shutdown).await {
            let watcher = connections.watcher();
            tokio::spawn(serve_one(
                stream,
                router.clone(),
                config.clone(),
                watcher,
                permit,
            ));
        }
        drop(listener);
        let finish = async {
            connections.shutdown().await;
            // It returns by itself, or has panicked, which is logged where it is seen.
            let _ = emitted.await;
        };
        if tokio::time::timeout(config.stop_timeout, finish)
            .await
            .is_err()
        {
            tracing::warn!("requests were still under way when the API stopped");
        }
        self.quotas().flush().await;
    }
}

/// The next connection, when there is room for one; `None` on shutdown.
async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let accept = async {
        // The semaphore is never closed.
        let permit = Arc::clone(permits).acquire_owned().await.ok()?;
        Some((accept(listener).await, permit))
    };
    shutdown.run_until_cancelled(accept).await.flatten()
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted right now");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

/// The client gave up before it was accepted.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn serve_one(
    stream: TcpStream,
    router: Router,
    config: ApiConfig,
    watcher: Watcher,
    _permit: OwnedSemaphorePermit,
) {
    // Answers are small and whole: waiting to fill a segment only delays them.
    let _ = stream.set_nodelay(true);
    // Without one, its requests come from elsewhere.
    let peer = stream.peer_addr().ok().map(Peer);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // Clients break off, and that is their affair.
    if let Err(error) = watcher.watch(connection).await {
        tracing::trace!(
            error = &error as &dyn std::error::Error,
            "a connection ended"
        );
    }
}
