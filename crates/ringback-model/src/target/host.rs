//! The host of a URL: what is one, and which are called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::InvalidTarget;
use crate::{AddressPolicy, Verdict};

/// Whom a target names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A domain name in lower case, without the final dot.
    Name(String),
    /// An address, written as such.
    V4(Ipv4Addr),
    /// An address, written in brackets.
    V6(Ipv6Addr),
}

impl Host {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidTarget> {
        if let Some(literal) = text.strip_prefix('[') {
            let literal = literal.strip_suffix(']').ok_or(InvalidTarget::Host)?;
            return literal
                .parse()
                .map(Self::V6)
                .map_err(|_| InvalidTarget::Host);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::V4(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if is_name(name) {
            Ok(Self::Name(name.to_ascii_lowercase()))
        } else {
            Err(InvalidTarget::Host)
        }
    }

    pub(super) fn admit(&self, policy: &AddressPolicy) -> Result<(), InvalidTarget> {
        let address = match self {
            Self::Name(name) => {
                let admitted = match Realm::of(name) {
                    Realm::Public => true,
                    Realm::ThisMachine => policy.opens_loopback(),
                    Realm::LocalNetwork => policy.opens_any(),
                };
                return if admitted {
                    Ok(())
                } else {
                    Err(InvalidTarget::LocalName)
                };
            }
            &Self::V4(address) => IpAddr::V4(address),
            // Nobody writes an IPv4 address so, except to get past a check.
            Self::V6(address) if address.to_ipv4_mapped().is_some() => {
                return Err(InvalidTarget::BlockedAddress);
            }
            &Self::V6(address) => IpAddr::V6(address),
        };
        match policy.verdict(address) {
            Verdict::Allowed => Ok(()),
            Verdict::Forbidden(_) => Err(InvalidTarget::BlockedAddress),
        }
    }
}

/// Where a name means something.
enum Realm {
    Public,
    /// RFC 6761 §6.3.
    ThisMachine,
    LocalNetwork,
}

impl Realm {
    fn of(name: &str) -> Self {
        let is_below = |zone: &str| {
            name.strip_suffix(zone)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if is_below("localhost") {
            Self::ThisMachine
        } else if !name.contains('.')
            || ["local", "internal", "home.arpa"]
                .iter()
                .any(|z| is_below(z))
        {
            Self::LocalNetwork
        } else {
            Self::Public
        }
    }
}

/// Letters, digits, `-` and `_` in labels; not one that could be read as a number.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // No top-level domain is a number, but `127.1` and `0x7f000001` are addresses to many.
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.starts_with("0x")
        || last.starts_with("0X");
    name.len() <= 253 && name.split('.').all(is_label) && !is_number
}
