//! Why a URL is refused.

/// A text cannot be a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// More than 2048 bytes.
    #[error("the URL is longer than 2048 bytes; use a shorter one")]
    TooLong,
    /// A character that no URL may hold as it is.
    #[error(
        "the URL has a space, a control character, `\\` or another character that must be percent-encoded; write the host of an international name in punycode (`xn--…`)"
    )]
    Characters,
    /// Not of the form `scheme://…`.
    #[error("the URL is not absolute; write it whole, like `https://billing.example/hooks`")]
    Relative,
    /// Neither `https` nor, where admitted, `http`.
    #[error("the URL must begin with `https://`")]
    Scheme,
    /// `user:password@`.
    #[error("the URL has a user name or password before the host; send them in a header instead")]
    Userinfo,
    /// Neither a domain name, nor four decimal numbers, nor IPv6 in brackets.
    #[error(
        "the host of the URL is neither a domain name like `billing.example` nor an address like `93.184.215.14` or `[2606:2800::1]`"
    )]
    Host,
    /// Not a number, or one that is not called.
    #[error("the port of the URL is not one that is called; use 443, or a free one from 1024 up")]
    Port,
    /// A literal address that the policy forbids.
    #[error("the URL has an address that is not called; use one on the public internet")]
    BlockedAddress,
    /// A name that only local networks know.
    #[error(
        "the URL has a name that only local networks know, like `localhost`, `intranet` or `db.internal`; use a public one"
    )]
    LocalName,
}

impl InvalidTarget {
    /// The fault as one word, which never changes.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Characters => "characters",
            Self::Relative => "relative",
            Self::Scheme => "scheme",
            Self::Userinfo => "userinfo",
            Self::Host => "host",
            Self::Port => "port",
            // A local name stands for an address that is not called.
            Self::BlockedAddress | Self::LocalName => "blocked_address",
        }
    }
}
