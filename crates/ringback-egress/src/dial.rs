//! Opens TCP connections, to addresses that were judged.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

/// How many of a name's addresses are tried.
const MOST: usize = 6;

/// No address took a connection; this was the last one tried.
#[derive(Debug)]
pub(crate) struct Unreached {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) error: io::Error,
}

/// Connects to the first address that takes a connection, in the order given.
///
/// - `limit`: for all together. Each gets its share of what is left, so that one
///   that is silent leaves time for the next.
pub(crate) async fn dial(
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<TcpStream, Unreached> {
    #[expect(clippy::disallowed_methods, reason = "this is the place that connects")]
    let stream = first(addresses, limit, TcpStream::connect).await?;
    // Requests are written whole, so waiting for more to send would only delay them. A
    // socket that cannot be told so is about to fail anyway.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn first<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    limit: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Unreached> {
    let end = Instant::now() + limit;
    let tried = &addresses[..addresses.len().min(MOST)];
    let mut unreached = Unreached {
        address: None,
        error: io::ErrorKind::AddrNotAvailable.into(),
    };
    for (index, &address) in tried.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        // At most `MOST`, so it fits.
        let share = left / (tried.len() - index) as u32;
        let error = match timeout(share, connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        unreached = Unreached {
            address: Some(address),
            error,
        };
    }
    Err(unreached)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// What the addresses of a test do, told by their port.
    async fn connect(address: SocketAddr) -> io::Result<SocketAddr> {
        match address.port() {
            1 => Err(io::ErrorKind::ConnectionRefused.into()),
            2 => std::future::pending().await,
            _ => Ok(address),
        }
    }

    async fn outcome(ports: &[u16]) -> (Result<u16, io::ErrorKind>, Duration) {
        let addresses: Vec<_> = ports
            .iter()
            .map(|&port| SocketAddr::from(([10, 0, 0, 1], port)))
            .collect();
        let begun = Instant::now();
        let result = match first(&addresses, LIMIT, connect).await {
            Ok(address) => Ok(address.port()),
            Err(unreached) => Err(unreached.error.kind()),
        };
        (result, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_tried_in_order_within_the_limit() {
        let (refused, timed_out) = (io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut);
        let cases: [(&[u16], _, _); _] = [
            (&[3, 4], Ok(3), 0),
            (&[1, 3], Ok(3), 0),
            (&[2, 3], Ok(3), 2500), // a silent one leaves time for the next
            (&[2, 2, 3], Ok(3), 3333),
            (&[1], Err(refused), 0),
            (&[2], Err(timed_out), 5000),
            (&[2, 2, 2, 2, 2, 2], Err(timed_out), 5000),
            (&[1, 1, 1, 1, 1, 1, 3], Err(refused), 0), // no more than six
            (&[2, 1], Err(refused), 2500),
        ];
        for (ports, expected, millis) in cases {
            let (result, took) = outcome(ports).await;
            assert_eq!(result, expected, "{ports:?}");
            assert!(
                took.as_millis().abs_diff(millis) < 10,
                "{ports:?} took {took:?}"
            );
        }
    }
}
