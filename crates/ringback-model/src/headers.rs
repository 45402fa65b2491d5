//! The headers that a subscriber adds to its requests.

use std::{collections::BTreeMap, fmt};

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

mod error;
pub use error::InvalidHeader;

const MAX_HEADERS: usize = 20;
const MAX_NAME_BYTES: usize = 128;
const MAX_VALUE_BYTES: usize = 4096;
const MAX_TOTAL_BYTES: usize = 16 * 1024;

/// Headers that frame the message, or that are ours to set.
const RESERVED: [&str; 19] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];
const RESERVED_PREFIXES: [&str; 4] = ["proxy-", "ringback-", "webhook-", "x-forwarded-"];

/// A subscriber's own headers: at most 20, of 16 KiB in all, each name once.
///
/// Values may be credentials: `Debug` leaves them out, and so does
/// [`Self::masked`]. Serialising writes them, for the database.
///
/// ```
/// # use ringback_model::CustomHeaders;
/// let headers: CustomHeaders = serde_json::from_str(r#"{"X-Env":"prod"}"#)?;
/// assert_eq!(serde_json::to_string(&headers)?, r#"{"x-env":"prod"}"#);
/// assert_eq!(serde_json::to_string(&headers.masked())?, r#"{"x-env":"***"}"#);
/// assert!(serde_json::from_str::<CustomHeaders>(r#"{"Host":"elsewhere.example"}"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, String>",
    into = "BTreeMap<String, String>"
)]
pub struct CustomHeaders(Vec<(HeaderName, HeaderValue)>);

impl CustomHeaders {
    /// The headers, names in lower case. Their values are marked as sensitive.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, with `***` for every value: fit to be shown.
    pub fn masked(&self) -> BTreeMap<String, String> {
        self.0
            .iter()
            .map(|(name, _)| (name.to_string(), "***".to_owned()))
            .collect()
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.masked()).finish()
    }
}

impl TryFrom<Vec<(String, String)>> for CustomHeaders {
    type Error = InvalidHeader;

    fn try_from(pairs: Vec<(String, String)>) -> Result<Self, InvalidHeader> {
        if pairs.len() > MAX_HEADERS {
            return Err(InvalidHeader::TooMany(pairs.len()));
        }
        let bytes = pairs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > MAX_TOTAL_BYTES {
            return Err(InvalidHeader::TooLarge(bytes));
        }
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let name = parse_name(&name)?;
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(InvalidHeader::Duplicate(name.to_string()));
            }
            let value = parse_value(&name, &value)?;
            headers.push((name, value));
        }
        Ok(Self(headers))
    }
}

impl TryFrom<BTreeMap<String, String>> for CustomHeaders {
    type Error = InvalidHeader;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, InvalidHeader> {
        Self::try_from(map.into_iter().collect::<Vec<_>>())
    }
}

impl From<CustomHeaders> for BTreeMap<String, String> {
    fn from(headers: CustomHeaders) -> Self {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect()
    }
}

fn parse_name(text: &str) -> Result<HeaderName, InvalidHeader> {
    // What is refused is shown, so it must be short and hold no control characters.
    let shown = || {
        text.chars()
            .take(MAX_NAME_BYTES)
            .collect::<String>()
            .escape_debug()
            .to_string()
    };
    if text.len() > MAX_NAME_BYTES {
        return Err(InvalidHeader::Name(shown()));
    }
    let name: HeaderName = text.parse().map_err(|_| InvalidHeader::Name(shown()))?;
    let is_reserved = RESERVED.contains(&name.as_str())
        || RESERVED_PREFIXES
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix));
    if is_reserved {
        Err(InvalidHeader::Reserved(name.to_string()))
    } else {
        Ok(name)
    }
}

fn parse_value(name: &HeaderName, text: &str) -> Result<HeaderValue, InvalidHeader> {
    let invalid = || InvalidHeader::Value(name.to_string());
    let fits = text.len() <= MAX_VALUE_BYTES
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
        && !text.starts_with(' ')
        && !text.ends_with(' ');
    if !fits {
        return Err(invalid());
    }
    let mut value = HeaderValue::from_str(text).map_err(|_| invalid())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(pairs: &[(&str, &str)]) -> &'static str {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        CustomHeaders::try_from(pairs).map_or_else(|invalid| invalid.code(), |_| "ok")
    }

    #[test]
    fn headers_are_tokens_with_visible_values() {
        let long = "x".repeat(129);
        let longer = "x".repeat(4097);
        let cases = [
            ("x-env", "prod", "ok"),
            ("X-Env", "two words", "ok"),
            ("authorization", "Bearer abc", "ok"),
            ("x-empty", "", "ok"),
            (&long[1..], "x", "ok"),
            ("x", &longer[1..], "ok"),
            ("", "x", "header_name"),
            ("x env", "x", "header_name"),
            ("x:env", "x", "header_name"),
            ("x\r\ny", "x", "header_name"),
            ("café", "x", "header_name"),
            (&long, "x", "header_name"),
            ("x", " padded", "header_value"),
            ("x", "padded ", "header_value"),
            ("x", "a\r\nhost: b", "header_value"),
            ("x", "a\tb", "header_value"),
            ("x", "café", "header_value"),
            ("x", "\0", "header_value"),
            ("x", &longer, "header_value"),
        ];
        for (name, value, expected) in cases {
            assert_eq!(code(&[(name, value)]), expected, "{name:?}: {value:?}");
        }
    }

    #[test]
    fn headers_that_are_ours_cannot_be_had() {
        let names = [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "proxy-authorization",
            "Proxy-Connection",
            "expect",
            "content-type",
            "content-encoding",
            "accept-encoding",
            "user-agent",
            "date",
            "via",
            "forwarded",
            "x-forwarded-for",
            "cookie",
            "webhook-id",
            "Webhook-Signature",
            "ringback-attempt",
            "traceparent",
            "tracestate",
        ];
        for name in names {
            assert_eq!(code(&[(name, "x")]), "header_reserved", "{name}");
        }
    }

    #[test]
    fn there_are_limits_for_all_together() {
        let names: Vec<String> = (0..21).map(|n| format!("x-{n}")).collect();
        let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert_eq!(code(&pairs[..20]), "ok");
        assert_eq!(code(&pairs), "too_many_headers");

        let value = "x".repeat(4000);
        let pairs = ["a", "b", "c", "d", "e"].map(|name| (name, value.as_str()));
        assert_eq!(code(&pairs[..4]), "ok");
        assert_eq!(code(&pairs), "headers_too_large");

        assert_eq!(code(&[("x-env", "a"), ("X-Env", "b")]), "header_duplicate");
    }

    #[test]
    fn values_never_print() {
        let canary = "canary\u{e9}".to_owned();
        let refused = CustomHeaders::try_from(vec![("x".to_owned(), canary)]).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("canary"));

        let headers = vec![("x-key".to_owned(), "canary".to_owned())];
        let headers = CustomHeaders::try_from(headers).unwrap();
        assert_eq!(format!("{headers:?}"), r#"{"x-key": "***"}"#);
        assert!(!format!("{:?}", headers.iter().collect::<Vec<_>>()).contains("canary"));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_stored_and_read_the_same(
            map in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..3),
            plain in proptest::collection::btree_map("[a-z-]{1,9}", "[!-~]([ -~]{0,9}[!-~])?", 0..9),
        ) {
            for map in [map, plain] {
                if let Ok(headers) = CustomHeaders::try_from(map) {
                    let stored = serde_json::to_string(&headers).unwrap();
                    prop_assert_eq!(serde_json::from_str::<CustomHeaders>(&stored).unwrap(), headers);
                }
            }
        }
    }
}
