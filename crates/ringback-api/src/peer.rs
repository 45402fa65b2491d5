//! Where a request comes from.

use std::net::SocketAddr;

use axum::extract::Request;
use http::{HeaderMap, HeaderName, header::FORWARDED, header::VIA};

/// The other end of a request's connection, among its extensions: put there by whoever
/// accepted the connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Whether a request comes from this machine: over loopback, and not by way of a proxy
/// that says it forwards for somebody. What is not known is elsewhere.
pub(crate) fn is_here(request: &Request) -> bool {
    let peer = request.extensions().get::<Peer>();
    peer.is_some_and(|Peer(address)| address.ip().to_canonical().is_loopback())
        && !is_forwarded(request.headers())
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    const BY_PROXIES: [HeaderName; 5] = [
        FORWARDED,
        VIA,
        HeaderName::from_static("x-forwarded-for"),
        HeaderName::from_static("x-forwarded-host"),
        HeaderName::from_static("x-real-ip"),
    ];
    BY_PROXIES.iter().any(|name| headers.contains_key(name))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_loopback_without_a_proxy_is_here() {
        let cases = [
            (Some("127.0.0.1:5000"), None, true),
            (Some("127.8.9.1:5000"), None, true),
            (Some("[::1]:5000"), None, true),
            (Some("[::ffff:127.0.0.1]:5000"), None, true),
            (Some("10.0.0.1:5000"), None, false),
            (Some("[fe80::1]:5000"), None, false),
            (Some("[::ffff:10.0.0.1]:5000"), None, false),
            (Some("0.0.0.0:5000"), None, false),
            (None, None, false), // nobody said
            (Some("127.0.0.1:5000"), Some("forwarded"), false),
            (Some("127.0.0.1:5000"), Some("via"), false),
            (Some("127.0.0.1:5000"), Some("x-forwarded-for"), false),
            (Some("127.0.0.1:5000"), Some("x-real-ip"), false),
            (Some("127.0.0.1:5000"), Some("x-request-id"), true),
        ];
        for (peer, header, expected) in cases {
            let mut request = Request::new(Body::empty());
            if let Some(peer) = peer {
                request.extensions_mut().insert(Peer(peer.parse().unwrap()));
            }
            if let Some(header) = header {
                let value = "192.0.2.1".parse().unwrap();
                request.headers_mut().insert(header, value);
            }
            assert_eq!(is_here(&request), expected, "{peer:?} {header:?}");
        }
    }
}
