//! Whom a URI names.

use std::{fmt, net::IpAddr};

use http::Uri;
use rustls::pki_types::ServerName;

use crate::Failure;

/// The host of a target's URI.
pub(crate) enum Host {
    Address(IpAddr),
    /// In lower case, without the final dot.
    Name(String),
}

impl Host {
    pub(crate) fn of(uri: &Uri) -> Self {
        let host = uri.host().unwrap_or_default();
        let literal = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        match literal.unwrap_or(host).parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()),
        }
    }

    /// Whether it is `localhost` or below it.
    pub(crate) fn is_this_machine(&self) -> bool {
        match self {
            Self::Address(_) => false,
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }

    /// Who the certificate must be for.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, Failure> {
        match self {
            Self::Address(address) => Ok(ServerName::IpAddress((*address).into())),
            Self::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|_| Failure::uncertifiable())
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringback_model::{Target, TargetPolicy};

    use super::*;

    #[test]
    fn hosts_are_read_as_targets_read_them() {
        let cases = [
            ("https://R.Example.:8443/", "r.example", false),
            ("https://93.184.215.14/", "93.184.215.14", false),
            ("https://[2606:2800::1]/", "2606:2800::1", false),
            ("https://notlocalhost/", "notlocalhost", false),
            ("https://LOCALHOST./", "localhost", true),
            ("https://a.localhost/", "a.localhost", true),
        ];
        for (uri, expected, is_this_machine) in cases {
            let host = Host::of(&uri.parse().unwrap());
            assert_eq!(
                (host.to_string().as_str(), host.is_this_machine()),
                (expected, is_this_machine)
            );
        }
    }

    proptest! {
        #[test]
        fn every_name_that_a_target_may_have_can_be_certified(
            name in "[a-z0-9_]([a-z0-9_-]{0,5}[a-z0-9_])?(\\.[a-z0-9_-]{1,3}){0,3}\\.[a-z]{2,3}\\.?",
        ) {
            if let Ok(target) = Target::parse(&format!("https://{name}/"), &TargetPolicy::default()) {
                prop_assert!(Host::of(target.uri()).server_name().is_ok());
            }
        }
    }
}
