//! The URL of a subscription, kept byte for byte.
//!
//! URL libraries rewrite what they read: `'` becomes `%27`, `0177.0.0.1` becomes
//! `127.0.0.1`, tabs vanish. A callback URL may be signed, so it must go out as it
//! came in; and what looks like one host must not be read as another. Hence a
//! parser of our own, which refuses whatever two readers could read differently.

use std::fmt;

use http::{
    Uri,
    uri::{Authority, PathAndQuery},
};

use crate::AddressPolicy;

mod error;
pub use error::InvalidTarget;

mod host;
pub use host::Host;

mod scheme;
pub use scheme::Scheme;

mod parts;
use parts::{check_text, split_port, split_scheme, uri};

/// What URLs are admitted.
#[derive(Clone, Debug, Default)]
pub struct TargetPolicy {
    /// Which addresses may be called.
    pub addresses: AddressPolicy,
    /// Whether `http://` is admitted beside `https://`.
    pub allow_http: bool,
    /// Whether every port is admitted, also those where other services listen.
    pub allow_any_port: bool,
}

/// A subscriber's URL that is fit to be called.
///
/// It has passed the policy as far as that goes without asking DNS: what its name
/// resolves to is judged when it is dialled.
///
/// `Display` and `Debug` leave the query out, which often holds a signature.
///
/// ```
/// # use ringback_model::{Target, TargetPolicy};
/// let raw = "https://r.example/x/%2F..%2Fy/a%20b?sig=A%2Bb%3d%3D&e=&t='(~)#part";
/// let target = Target::parse(raw, &TargetPolicy::default())?;
/// assert_eq!(target.path_and_query(), "/x/%2F..%2Fy/a%20b?sig=A%2Bb%3d%3D&e=&t='(~)");
/// assert_eq!(target.to_string(), "https://r.example/x/%2F..%2Fy/a%20b?…");
/// # Ok::<(), ringback_model::InvalidTarget>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    raw: Box<str>,
    scheme: Scheme,
    host: Host,
    port: u16,
    /// The same without the fragment, in the form that HTTP libraries take.
    uri: Uri,
}

impl Target {
    /// Reads a URL, if `policy` admits it.
    ///
    /// # Errors
    ///
    /// [`InvalidTarget`] says what is wrong with it, and what would be right.
    pub fn parse(raw: &str, policy: &TargetPolicy) -> Result<Self, InvalidTarget> {
        check_text(raw)?;
        let (scheme, rest) = split_scheme(raw)?;
        if scheme == Scheme::Http && !policy.allow_http {
            return Err(InvalidTarget::Scheme);
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host_text, port) = split_port(authority)?;
        let host = Host::parse(host_text)?;
        host.admit(&policy.addresses)?;
        let port = port.unwrap_or(scheme.default_port());
        if !policy.allow_any_port && !scheme.admits_port(port) {
            return Err(InvalidTarget::Port);
        }
        let uri = uri(scheme, host_text, port, rest)?;
        let raw = raw.into();
        Ok(Self {
            raw,
            scheme,
            host,
            port,
            uri,
        })
    }

    /// The URL as it was given.
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// How it is called.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whom it names.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The TCP port, also where the URL leaves it to the scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as it was written, and the port unless it is the scheme's own: the
    /// value of the `host` header.
    pub fn authority(&self) -> &str {
        // Built with one in `uri`.
        self.uri.authority().map_or("", Authority::as_str)
    }

    /// What is asked for: the exact bytes after the authority, without a fragment.
    ///
    /// Where the URL has no path, it is `/`.
    pub fn path_and_query(&self) -> &str {
        // Built with one in `uri`.
        self.uri.path_and_query().map_or("/", PathAndQuery::as_str)
    }

    /// Scheme, authority, path and query, in a form that is cheap to clone.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The URL for logs and people: `…` in place of the query.
    pub fn redacted(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.as_str(),
            self.authority(),
            self.uri.path()
        )?;
        if self.uri.query().is_some() {
            f.write_str("?…")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open() -> TargetPolicy {
        let everything = ["0.0.0.0/0", "::/0"].map(|net| net.parse().unwrap());
        let addresses = AddressPolicy::new(everything.to_vec(), vec![]);
        TargetPolicy {
            addresses,
            allow_http: true,
            allow_any_port: true,
        }
    }

    fn opening(net: &str) -> TargetPolicy {
        let addresses = AddressPolicy::new(vec![net.parse().unwrap()], vec![]);
        TargetPolicy {
            addresses,
            allow_http: true,
            allow_any_port: false,
        }
    }

    fn code(raw: &str, policy: &TargetPolicy) -> &'static str {
        Target::parse(raw, policy).map_or_else(InvalidTarget::code, |_| "ok")
    }

    #[test]
    fn a_strict_policy_admits_public_https_urls_only() {
        let long = format!("https://r.example/{}", "x".repeat(2048));
        let long_label = format!("https://{}.example/", "x".repeat(64));
        let long_name = format!("https://{}example/", "x.".repeat(130));
        let cases = [
            ("https://r.example/hooks", "ok"),
            ("HTTPS://R.Example", "ok"),
            ("https://r.example.:8443/", "ok"), // one final dot is the root
            ("https://a_b.xn--bcher-kva.example", "ok"),
            ("https://1.2.3.example", "ok"),
            ("https://93.184.215.14/", "ok"),
            ("https://[2606:2800:21f::1]:8443/", "ok"),
            ("https://r.example?x=//@:80", "ok"), // all of it is query
            ("https://r.example#@x:1", "ok"),
            (&long, "too_long"),
            ("", "relative"),
            ("/hooks", "relative"),
            ("//r.example/hooks", "relative"),
            ("r.example/hooks", "relative"),
            ("/a?u=https://r.example", "relative"),
            ("https:/r.example", "relative"),
            ("https:r.example", "relative"),
            ("://r.example", "relative"),
            ("http://r.example/", "scheme"),
            ("ftp://r.example/", "scheme"),
            ("javascript:alert(1)", "scheme"),
            ("r.example:443/hooks", "scheme"),
            ("https://user@r.example/", "userinfo"),
            ("https://user:pass@r.example/", "userinfo"),
            ("https://r.example:443@127.0.0.1/", "userinfo"),
            ("https://r.example/a b", "characters"),
            (" https://r.example/", "characters"),
            ("https://r.example/\n", "characters"),
            ("https://r.example/\0", "characters"),
            ("https://r.example\\@127.0.0.1/", "characters"),
            ("https://bücher.example/", "characters"),
            ("https://①②⑦.⓪.⓪.①/", "characters"),
            ("https://r.example/<x>", "characters"),
            ("https://", "host"),
            ("https:///hooks", "host"),
            ("https://?x", "host"),
            ("https://./", "host"),
            ("https://a..example/", "host"),
            ("https://.example/", "host"),
            ("https://r.example../", "host"),
            ("https://-a.example/", "host"),
            ("https://a-.example/", "host"),
            ("https://a%2eexample/", "host"),
            ("https://%31%32%37.0.0.1/", "host"),
            ("https://a!b.example/", "host"),
            (&long_label, "host"),
            (&long_name, "host"),
            ("https://2130706433/", "host"),
            ("https://0177.0.0.1/", "host"),
            ("https://0x7f.1/", "host"),
            ("https://0x7f000001/", "host"),
            ("https://127.1/", "host"),
            ("https://127.0.0.1./", "host"),
            ("https://127.0.0.01/", "host"),
            ("https://1.2.3.256/", "host"),
            ("https://1.2.3.4.5/", "host"),
            ("https://a.0x/", "host"),
            ("https://[::1/", "host"),
            ("https://::1/", "port"),
            ("https://[::1]x/", "host"),
            ("https://[fe80::1%25eth0]/", "host"), // no zones
            ("https://[1.2.3.4]/", "host"),
            ("https://r.example:/", "port"),
            ("https://r.example:0/", "port"),
            ("https://r.example:0443/", "port"),
            ("https://r.example:+443/", "port"),
            ("https://r.example:443:443/", "port"),
            ("https://r.example:65536/", "port"),
            ("https://r.example:80/", "port"), // TLS does not live there
            ("https://r.example:22/", "port"),
            ("https://r.example:5432/", "port"),
            ("https://r.example:6669/", "port"),
            ("https://127.0.0.1/", "blocked_address"),
            (
                "https://169.254.169.254/latest/meta-data/",
                "blocked_address",
            ),
            ("https://[::1]/", "blocked_address"),
            ("https://[::ffff:93.184.215.14]/", "blocked_address"),
            ("https://localhost/", "blocked_address"),
            ("https://LOCALHOST./", "blocked_address"),
            ("https://a.localhost:8443/", "blocked_address"),
            ("https://intranet/", "blocked_address"),
            ("https://printer.local/", "blocked_address"),
            ("https://metadata.google.internal/", "blocked_address"),
            ("https://nas.home.arpa/", "blocked_address"),
            ("https://home.arpa/", "blocked_address"),
            ("https://notlocalhost.example/", "ok"),
            ("https://thelocal.arpa/", "ok"),
        ];
        for (raw, expected) in cases {
            assert_eq!(code(raw, &TargetPolicy::default()), expected, "{raw}");
        }
    }

    #[test]
    fn an_opened_range_admits_the_names_that_may_lead_into_it() {
        let cases = [
            ("127.0.0.0/8", "http://localhost:3000/hooks", "ok"),
            ("127.0.0.1/32", "http://a.localhost/", "ok"),
            ("::1/128", "http://localhost/", "ok"),
            ("0.0.0.0/0", "http://localhost/", "ok"),
            ("10.0.0.0/8", "http://localhost/", "blocked_address"),
            ("10.0.0.0/8", "http://receiver:8080/", "ok"),
            ("10.0.0.0/8", "http://db.internal/", "ok"),
            ("10.0.0.0/8", "http://10.1.2.3/", "ok"),
            ("10.0.0.0/8", "http://127.0.0.1/", "blocked_address"),
            ("10.0.0.0/8", "http://10.1.2.3:5432/", "port"),
            ("10.0.0.0/8", "http://10.1.2.3:443/", "ok"),
            ("10.0.0.0/8", "https://10.1.2.3:80/", "port"),
            ("0.0.0.0/0", "http://[::ffff:10.1.2.3]/", "blocked_address"),
        ];
        for (net, raw, expected) in cases {
            assert_eq!(code(raw, &opening(net)), expected, "{raw} with {net} open");
        }
        assert_eq!(code("http://10.1.2.3:22/", &open()), "ok");
    }

    #[test]
    fn what_is_asked_for_stays_as_it_was_written() {
        let cases = [
            ("https://r.example", "r.example", "/"),
            ("https://r.example#f", "r.example", "/"),
            ("https://r.example?q", "r.example", "/?q"),
            ("https://r.example/?", "r.example", "/?"),
            (
                "https://r.example/a/../b//c;d?x=1?y#z#",
                "r.example",
                "/a/../b//c;d?x=1?y",
            ),
            ("https://R.example.:443/%zz", "R.example.", "/%zz"),
            ("https://r.example:8443/", "r.example:8443", "/"),
            ("http://r.example:443/", "r.example:443", "/"),
            ("https://[2606:2800::1]/'(~)", "[2606:2800::1]", "/'(~)"),
        ];
        for (raw, authority, request) in cases {
            let target = Target::parse(raw, &open()).unwrap();
            assert_eq!(
                (target.authority(), target.path_and_query()),
                (authority, request)
            );
            assert_eq!(target.as_str(), raw);
        }
    }

    #[test]
    fn hosts_are_ready_for_lookup() {
        let host = |raw| Target::parse(raw, &open()).unwrap().host().clone();
        assert_eq!(
            host("https://R.Example./"),
            Host::Name("r.example".to_owned())
        );
        assert_eq!(host("https://10.0.0.1/"), Host::V4([10, 0, 0, 1].into()));
        assert_eq!(
            host("https://[FC00::1]/"),
            Host::V6("fc00::1".parse().unwrap())
        );
    }

    #[test]
    fn queries_never_print() {
        let target = Target::parse("https://r.example/x?sig=canary#canary", &open()).unwrap();
        for shown in [
            format!("{target}"),
            format!("{target:?}"),
            target.redacted(),
        ] {
            assert!(shown.contains("https://r.example/x?…"), "{shown}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in any::<String>(), tail in "[ -~]{0,40}") {
            let _ = Target::parse(&text, &open());
            let _ = Target::parse(&format!("https://{tail}"), &open());
            let _ = Target::parse(&format!("https://r.example/{text}"), &open());
        }

        #[test]
        fn what_is_accepted_reads_the_same_again(
            host in "([a-z0-9-]{1,5}\\.){0,3}[a-z0-9]{1,4}|\\[[0-9a-f:]{2,9}\\]|[0-9.]{7,9}",
            port in "(:[0-9]{1,5})?",
            tail in "([/?#][!-~]{0,20})?",
        ) {
            let raw = format!("https://{host}{port}{tail}");
            if let Ok(target) = Target::parse(&raw, &open()) {
                let tail = tail.split('#').next().unwrap_or_default();
                let slash = if tail.starts_with('/') { "" } else { "/" };
                prop_assert_eq!(target.path_and_query(), format!("{slash}{tail}"));
                // Without its fragment it is another text, but the same target.
                let plain = format!("https://{}{}", target.authority(), target.path_and_query());
                let again = Target::parse(&plain, &open()).unwrap();
                prop_assert_eq!(target.uri(), again.uri());
                prop_assert_eq!(target.host(), again.host());
                prop_assert_eq!(target.port(), again.port());
            }
        }
    }
}
