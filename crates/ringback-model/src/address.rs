//! Which addresses may be called: one pure function.
//!
//! IPv6 is judged by what is allowed, because its special ranges are many and
//! grow; IPv4 by the whole registry of what is special. The verdict is asked for
//! literals when a URL is registered, and for every address that is dialled.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Which addresses may be called: public ones, and what the operator says.
///
/// The operator's deny list outranks its allow list, which outranks the built-in
/// rule: the IANA special-purpose registries.
///
/// ```
/// # use ringback_model::{AddressPolicy, Verdict};
/// let lab = AddressPolicy::new(vec!["10.1.0.0/16".parse()?], vec!["10.1.9.0/24".parse()?]);
/// let allowed = |address: &str| lab.verdict(address.parse().unwrap()) == Verdict::Allowed;
/// assert!(allowed("93.184.215.14")); // public
/// assert!(!allowed("10.0.0.1")); // private
/// assert!(allowed("10.1.0.1")); // private, but opened
/// assert!(!allowed("10.1.9.1")); // opened, but denied
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

/// What [`AddressPolicy::verdict`] says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be called.
    Allowed,
    /// It may not. The reason is for operators: customers see one text for all.
    Forbidden(Reason),
}

/// Why an address is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not on the public internet; the range it is in, in words.
    Special(&'static str),
    /// The operator denied its range.
    Denied,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Special(range) => write!(f, "special: {range}"),
            Self::Denied => f.write_str("denied by the operator"),
        }
    }
}

impl AddressPolicy {
    /// Opens the ranges of `allow` beyond the public internet and closes those of `deny`.
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>) -> Self {
        let plain = |nets: Vec<IpNet>| nets.into_iter().map(without_mapping).collect();
        Self {
            allow: plain(allow),
            deny: plain(deny),
        }
    }

    /// Whether `address` may be called. `::ffff:a.b.c.d` is judged as `a.b.c.d`.
    pub fn verdict(&self, address: IpAddr) -> Verdict {
        let address = address.to_canonical();
        let listed = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        if listed(&self.deny) {
            return Verdict::Forbidden(Reason::Denied);
        }
        if listed(&self.allow) {
            return Verdict::Allowed;
        }
        let special = match address {
            IpAddr::V4(address) => special_v4(address),
            IpAddr::V6(address) => special_v6(address),
        };
        special.map_or(Verdict::Allowed, |range| {
            Verdict::Forbidden(Reason::Special(range))
        })
    }

    /// Whether the operator opened any range at all.
    pub fn opens_any(&self) -> bool {
        !self.allow.is_empty()
    }

    /// Whether the operator opened some of the loopback range.
    pub fn opens_loopback(&self) -> bool {
        self.allow.iter().any(|net| match net {
            IpNet::V4(net) => overlaps(net, &LOOPBACK_V4),
            IpNet::V6(net) => net.contains(&Ipv6Addr::LOCALHOST),
        })
    }
}

const LOOPBACK_V4: Ipv4Net = v4(127, 0, 0, 0, 8);

/// What the IANA IPv4 special-purpose registry keeps from the public internet, with
/// multicast and class E; and one public address that only looks so: Azure's host agent.
const SPECIAL_V4: [(Ipv4Net, &str); 15] = [
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (LOOPBACK_V4, "loopback"),
    (v4(168, 63, 129, 16, 32), "Azure host agent"),
    (v4(169, 254, 0, 0, 16), "link-local, cloud metadata"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "IETF protocols"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 3), "multicast and reserved"),
];

/// What is special inside the only allowed IPv6 range.
const SPECIAL_V6: [(Ipv6Net, &str); 4] = [
    (v6(0x2001, 0, 23), "IETF protocols, Teredo"),
    (v6(0x2001, 0xdb8, 32), "documentation"),
    (v6(0x2002, 0, 16), "6to4"),
    (v6(0x3fff, 0, 20), "documentation"),
];

const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let held = SPECIAL_V4.iter().find(|(net, _)| net.contains(&address));
    held.map(|(_, range)| *range)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    if !GLOBAL_V6.contains(&address) {
        return Some("outside 2000::/3");
    }
    let held = SPECIAL_V6.iter().find(|(net, _)| net.contains(&address));
    held.map(|(_, range)| *range)
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(first: u16, second: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length)
}

fn overlaps(one: &Ipv4Net, other: &Ipv4Net) -> bool {
    one.contains(other) || other.contains(one)
}

/// Addresses are judged without their mapping, so ranges are compared without it:
/// otherwise a denied `::ffff:10.0.0.0/104` would deny nothing.
fn without_mapping(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else { return net };
    let plain = mapped
        .addr()
        .to_ipv4_mapped()
        .zip(mapped.prefix_len().checked_sub(96));
    plain
        .and_then(|(address, length)| Ipv4Net::new(address, length).ok())
        .map_or(net, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> AddressPolicy {
        let nets = |texts: &[&str]| texts.iter().map(|net| net.parse().unwrap()).collect();
        AddressPolicy::new(nets(allow), nets(deny))
    }

    fn allows(policy: &AddressPolicy, address: &str) -> bool {
        policy.verdict(address.parse().unwrap()) == Verdict::Allowed
    }

    #[test]
    fn only_public_addresses_are_called() {
        let (yes, no) = (true, false);
        let cases: [(bool, &[&str]); _] = [
            (
                yes,
                &[
                    "1.1.1.1",
                    "93.184.215.14",
                    "9.255.255.255",
                    "11.0.0.0",
                    "223.255.255.255",
                ],
            ),
            (
                yes,
                &[
                    "2606:4700::1111",
                    "2400::",
                    "3ffe::1",
                    "2001:200::",
                    "2620:4f:8000::1",
                ],
            ),
            (no, &["127.0.0.1", "127.255.255.255", "::1"]), // self
            (no, &["0.0.0.0", "0.1.2.3", "0.255.255.255", "::"]), // self, on Linux
            (
                no,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.0.1",
                ],
            ),
            (
                yes,
                &[
                    "172.15.255.255",
                    "172.32.0.0",
                    "192.167.255.255",
                    "192.169.0.0",
                ],
            ),
            (no, &["169.254.169.254", "169.254.170.2", "169.254.0.0"]), // cloud metadata
            (no, &["100.64.0.0", "100.100.100.200", "100.127.255.255"]), // CGNAT, Alibaba
            (yes, &["100.63.255.255", "100.128.0.0"]),
            (no, &["192.0.0.0", "192.0.0.192", "192.0.0.255"]), // Oracle metadata
            (no, &["192.0.2.1", "198.51.100.1", "203.0.113.1"]), // documentation
            (no, &["192.88.99.1"]),                             // 6to4 relay
            (no, &["198.18.0.0", "198.19.255.255"]),            // benchmarking
            (
                no,
                &[
                    "224.0.0.1",
                    "239.255.255.255",
                    "240.0.0.1",
                    "255.255.255.255",
                ],
            ),
            (no, &["168.63.129.16"]), // Azure's host agent
            (yes, &["168.63.129.15", "168.63.129.17"]),
            (no, &["::ffff:127.0.0.1", "::ffff:10.0.0.1"]), // mapped: as IPv4
            (yes, &["::ffff:1.1.1.1"]),
            (no, &["::127.0.0.1", "::1.1.1.1"]), // IPv4-compatible
            (no, &["::ffff:0:127.0.0.1", "::ffff:0:1.1.1.1"]), // SIIT
            (no, &["::5efe:127.0.0.1", "fe80::5efe:127.0.0.1"]), // ISATAP
            (no, &["64:ff9b::7f00:1", "64:ff9b::1.1.1.1", "64:ff9b:1::1"]), // NAT64
            (no, &["2002:7f00:1::", "2002::"]),  // 6to4
            (
                no,
                &["2001::1", "2001:0:4136:e378::", "2001:1ff::1", "2001:20::1"],
            ), // Teredo, IETF
            (no, &["fc00::", "fd00:ec2::254"]),  // unique local, AWS metadata
            (no, &["fe80::1", "fec0::1", "ff02::1"]), // link-local, site-local, multicast
            (
                no,
                &["100::1", "2001:db8::1", "3fff::1", "3fff:fff::1", "5f00::1"],
            ),
            (no, &["4000::", "8000::", "1fff::"]), // never handed out
        ];
        for (expected, addresses) in cases {
            for address in addresses {
                let allowed = allows(&AddressPolicy::default(), address);
                assert_eq!(allowed, expected, "{address}");
            }
        }
    }

    #[test]
    fn the_operator_has_the_last_word_and_denying_is_the_stronger() {
        let policy = policy(
            &["10.0.0.0/8", "fd00::/8", "168.63.129.16/32", "1.0.0.0/8"],
            &["10.9.0.0/16", "1.1.1.1/32", "::ffff:8.8.8.0/120"],
        );
        let cases = [
            ("10.1.1.1", true),
            ("::ffff:10.1.1.1", true),
            ("10.9.1.1", false),
            ("::ffff:10.9.1.1", false),
            ("192.168.0.1", false), // not opened
            ("fd00::1", true),
            ("fc00::1", false),
            ("168.63.129.16", true),
            ("1.1.1.2", true),
            ("1.1.1.1", false),
            ("8.8.8.8", false), // denied in its mapped form
            ("8.8.9.8", true),
        ];
        for (address, expected) in cases {
            assert_eq!(allows(&policy, address), expected, "{address}");
        }
    }

    #[test]
    fn loopback_is_open_only_if_the_operator_opened_some_of_it() {
        let cases = [
            ("127.0.0.0/8", true),
            ("127.0.0.1/32", true),
            ("0.0.0.0/0", true),
            ("::1/128", true),
            ("::/0", true),
            ("10.0.0.0/8", false),
            ("fd00::/8", false),
        ];
        for (net, expected) in cases {
            assert_eq!(policy(&[net], &[]).opens_loopback(), expected, "{net}");
        }
        assert!(!AddressPolicy::default().opens_any());
    }

    proptest! {
        #[test]
        fn outside_2000_every_ipv6_address_is_forbidden(bits in any::<u128>()) {
            let address = Ipv6Addr::from_bits(bits);
            prop_assume!(bits >> 125 != 1 && address.to_ipv4_mapped().is_none());
            prop_assert!(!allows(&AddressPolicy::default(), &address.to_string()));
        }

        #[test]
        fn an_address_that_carries_an_ipv4_one_is_never_more_open(bits in any::<u32>()) {
            let (v4, default) = (Ipv4Addr::from(bits), AddressPolicy::default());
            let carried = u128::from(bits);
            let carriers = [
                0xffff << 32 | carried,                            // mapped
                carried,                                           // compatible
                0xffff << 48 | carried,                            // SIIT
                0x5efe << 32 | carried,                            // ISATAP
                0x0064_ff9b << 96 | carried,                       // NAT64
                0x2002 << 112 | carried << 80,                     // 6to4
                0x2001 << 112 | u128::from(!bits),                 // Teredo
            ];
            let v4_allowed = default.verdict(v4.into()) == Verdict::Allowed;
            for carrier in carriers.map(Ipv6Addr::from_bits) {
                let allowed = default.verdict(carrier.into()) == Verdict::Allowed;
                prop_assert!(!allowed || v4_allowed, "{} in {}", v4, carrier);
            }
        }

        #[test]
        fn what_std_calls_private_is_forbidden(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            let allowed = AddressPolicy::default().verdict(address.into()) == Verdict::Allowed;
            prop_assert!(!(special && allowed));
        }

        #[test]
        fn an_operators_denial_always_holds(bits in any::<u32>(), length in 0u8..=32) {
            let net = IpNet::new(Ipv4Addr::from(bits).into(), length).unwrap();
            let policy = AddressPolicy::new(vec![net], vec![net]);
            let verdict = policy.verdict(net.addr());
            prop_assert_eq!(verdict, Verdict::Forbidden(Reason::Denied));
        }
    }
}
