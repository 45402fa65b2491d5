//! The two schemes, and the ports they are called on.

/// How a target is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme in lower case, without the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(super) const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Refuses ports on which something other than a web server listens.
    pub(super) fn admits_port(self, port: u16) -> bool {
        port == 443
            || port == self.default_port()
            || (port >= 1024 && BAD_PORTS.binary_search(&port).is_err())
    }
}

/// Ports from 1024 up that are not called, sorted: the WHATWG fetch standard's
/// (<https://fetch.spec.whatwg.org/#port-blocking>), databases, and the control
/// ports of Docker, etcd and Kubernetes.
const BAD_PORTS: [u16; 29] = [
    1719, 1720, 1723, 2049, 2375, 2379, 3306, 3659, 4045, 4190, 5060, 5061, 5432, 6000, 6379, 6443,
    6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9200, 10_080, 10_250, 11_211, 27_017,
];
