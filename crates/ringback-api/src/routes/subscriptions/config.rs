//! What a subscription's owner may choose, field by field.
//!
//! A field at fault is noted, and something harmless stands for it until the whole
//! body is refused.

use std::collections::BTreeMap;

use ringback_model::{
    CustomHeaders, EventTypePattern, InvalidFilter, InvalidHeader, Ordering, PayloadFilter,
    RetryPolicy, RetrySpec, SubscriptionId, Target, TargetPolicy,
};
use ringback_signature::SigningSecret;
use ringback_store::Sealed;
use serde_json::value::RawValue;

use super::headers_context;
use crate::{
    Api,
    body::escape,
    error::{ApiError, InternalCause},
    faults::Faults,
};

pub(super) const DEFAULT_TIMEOUT_S: f64 = 15.0;
pub(super) const DEFAULT_MAX_IN_FLIGHT: i64 = 10;
pub(super) const MAX_DESCRIPTION_CHARS: usize = 1024;

const MAX_EVENT_TYPES: usize = 100;
/// One in a little under three hours.
const MIN_RATE_PER_S: f64 = 0.0001;
const MAX_RATE_PER_S: f64 = 10_000.0;
/// Stands for a credential wherever headers are shown.
const MASK: &str = "***";

pub(super) fn url(faults: &mut Faults, text: String, policy: &TargetPolicy) -> String {
    if let Err(invalid) = Target::parse(&text, policy) {
        faults.add("/url", invalid.code(), invalid.to_string());
    }
    text
}

/// None is every type.
pub(super) fn event_types(faults: &mut Faults, texts: &[String]) -> Vec<EventTypePattern> {
    if texts.len() > MAX_EVENT_TYPES {
        faults.add(
            "/event_types",
            "too_many",
            format!("has more than {MAX_EVENT_TYPES} entries"),
        );
    }
    if texts.is_empty() {
        return vec![EventTypePattern::Any];
    }
    let parse = |(index, text): (usize, &String)| {
        faults.keep(
            &format!("/event_types/{index}"),
            "bad_event_type",
            text.parse(),
        )
    };
    texts.iter().enumerate().filter_map(parse).collect()
}

pub(super) fn payload_filter(faults: &mut Faults, json: &RawValue) -> Option<PayloadFilter> {
    let parsed = json.get().parse::<PayloadFilter>();
    let note = |invalid: InvalidFilter| {
        let pointer = format!("/payload_filter{}", invalid.pointer);
        faults.add(pointer, invalid.problem.code(), invalid.to_string());
    };
    parsed.map_err(note).ok()
}

pub(super) fn headers(faults: &mut Faults, pairs: BTreeMap<String, String>) -> CustomHeaders {
    check_each_header(faults, &pairs);
    all_headers(faults, pairs)
}

/// One by one, so that each fault has its place.
pub(super) fn check_each_header(faults: &mut Faults, pairs: &BTreeMap<String, String>) {
    for (name, value) in pairs {
        let place = format!("/headers/{}", escape(name));
        if value == MASK {
            faults.add(
                &place,
                "masked_value",
                "is `***`, which only stands for the real value",
            );
        }
        let alone = CustomHeaders::try_from(vec![(name.clone(), value.clone())]);
        keep_headers(faults, &place, alone);
    }
}

/// Headers that [`check_each_header`] has seen.
pub(super) fn all_headers(faults: &mut Faults, pairs: BTreeMap<String, String>) -> CustomHeaders {
    match CustomHeaders::try_from(pairs) {
        // Told already, at its place.
        Err(InvalidHeader::Name(_) | InvalidHeader::Reserved(_) | InvalidHeader::Value(_)) => {
            CustomHeaders::default()
        }
        whole => keep_headers(faults, "/headers", whole),
    }
}

fn keep_headers(
    faults: &mut Faults,
    pointer: &str,
    parsed: Result<CustomHeaders, InvalidHeader>,
) -> CustomHeaders {
    parsed.unwrap_or_else(|invalid| {
        faults.add(pointer, invalid.code(), invalid.to_string());
        CustomHeaders::default()
    })
}

pub(super) fn retry(faults: &mut Faults, spec: RetrySpec) -> RetrySpec {
    faults.keep("/retry", "bad_retry", RetryPolicy::try_from(&spec));
    spec
}

/// Seconds, in milliseconds.
pub(super) fn timeout_ms(faults: &mut Faults, seconds: f64) -> u32 {
    if !(1.0..=30.0).contains(&seconds) {
        faults.add("/timeout_s", "out_of_range", "must be from 1 to 30 seconds");
        return 0;
    }
    // At most 30 000.
    (seconds * 1000.0).round() as u32
}

pub(super) fn max_in_flight(faults: &mut Faults, number: i64) -> u16 {
    match u16::try_from(number) {
        Ok(number @ 1..=1000) => number,
        _ => {
            faults.add("/max_in_flight", "out_of_range", "must be from 1 to 1000");
            0
        }
    }
}

pub(super) fn rate_per_s(faults: &mut Faults, rate: f64) -> f64 {
    if !(MIN_RATE_PER_S..=MAX_RATE_PER_S).contains(&rate) {
        let detail = format!("must be from {MIN_RATE_PER_S} to {MAX_RATE_PER_S}, or null");
        faults.add("/rate_per_s", "out_of_range", detail);
    }
    rate
}

pub(super) fn ordering(faults: &mut Faults, given: Option<&str>) -> Ordering {
    given.map_or(Ordering::None, |text| {
        text.parse().unwrap_or_else(|()| {
            faults.add("/ordering", "bad_ordering", "must be `none` or `fifo`");
            Ordering::None
        })
    })
}

/// The secret that was given, or a new one.
pub(super) fn secret(faults: &mut Faults, given: Option<&str>) -> Option<SigningSecret> {
    match given {
        Some(text) => faults.keep("/secret", "bad_secret", text.parse()),
        None => SigningSecret::from_bytes(&rand::random::<[u8; 32]>()).ok(),
    }
}

pub(super) fn seal_headers(
    api: &Api,
    id: SubscriptionId,
    headers: &CustomHeaders,
) -> Option<Sealed> {
    if headers.is_empty() {
        return None;
    }
    // Names and values are texts: serialising them cannot fail.
    let json = serde_json::to_vec(headers).unwrap_or_default();
    Some(api.vault().seal(&headers_context(id), &json))
}

/// A subscription's own headers, in clear.
pub(crate) fn open_headers(
    api: &Api,
    id: SubscriptionId,
    sealed: Option<&Sealed>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let Some(sealed) = sealed else {
        return Ok(BTreeMap::new());
    };
    let json = api.vault().open(&headers_context(id), sealed)?;
    serde_json::from_slice(&json).map_err(|_| InternalCause::Corrupt("headers").into())
}

/// Headers as they are shown: what looks like a credential is not.
pub(super) fn mask(headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let show = |(name, value): (String, String)| {
        let value = if is_credential(&name) {
            MASK.to_owned()
        } else {
            value
        };
        (name, value)
    };
    headers.into_iter().map(show).collect()
}

/// Whether a header of this name is likely to hold a credential.
pub(crate) fn is_credential(name: &str) -> bool {
    let words = [
        "auth",
        "cookie",
        "credential",
        "key",
        "password",
        "secret",
        "signature",
        "token",
    ];
    let name = name.to_ascii_lowercase();
    words.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(check: impl FnOnce(&mut Faults)) -> Vec<(String, &'static str)> {
        let mut faults = Faults::default();
        check(&mut faults);
        match faults.finish() {
            Ok(()) => Vec::new(),
            Err(ApiError::Invalid(faults)) => faults
                .into_iter()
                .map(|fault| (fault.pointer, fault.code))
                .collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn headers_that_look_like_credentials_are_not_shown() {
        let cases = [
            ("authorization", true),
            ("x-api-key", true),
            ("X-Token", true),
            ("x-hub-signature", true),
            ("my-secret", true),
            ("password", true),
            ("x-env", false),
            ("x-team", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_credential(name), expected, "{name}");
        }
    }

    #[test]
    fn every_header_at_fault_is_named() {
        let pairs = [
            ("Host", "x"),
            ("x-ok", "fine"),
            ("x-key", "***"),
            ("x-nul", "\0"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = codes(|faults| {
            headers(faults, pairs.into());
        });
        let expected = [
            ("/headers/Host", "header_reserved"),
            ("/headers/x-key", "masked_value"),
            ("/headers/x-nul", "header_value"),
        ];
        assert_eq!(
            found,
            expected.map(|(pointer, code)| (pointer.to_owned(), code))
        );
    }

    #[test]
    fn timeouts_are_fractions_of_seconds_from_1_to_30() {
        let cases = [
            (1.0, 1000),
            (1.5, 1500),
            (0.001 + 29.0, 29001),
            (30.0, 30000),
            (0.9, 0),
            (30.1, 0),
        ];
        for (seconds, expected) in cases {
            assert_eq!(
                timeout_ms(&mut Faults::default(), seconds),
                expected,
                "{seconds}"
            );
        }
        assert_eq!(timeout_ms(&mut Faults::default(), f64::NAN), 0);
    }

    #[test]
    fn no_event_types_are_all_of_them() {
        let mut faults = Faults::default();
        assert_eq!(event_types(&mut faults, &[]), [EventTypePattern::Any]);
        let texts = ["order.*", "*.bad", "a..b"].map(str::to_owned);
        let found = codes(|faults| {
            event_types(faults, &texts);
        });
        let places: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(places, ["/event_types/1", "/event_types/2"]);
    }

    #[test]
    fn a_rate_is_positive_and_may_be_a_fraction() {
        let cases = [
            (0.5, true),
            (10_000.0, true),
            (0.0001, true),
            (0.0, false),
            (-1.0, false),
            (10_000.1, false),
            (f64::NAN, false),
        ];
        for (rate, allowed) in cases {
            let found = codes(|faults| {
                rate_per_s(faults, rate);
            });
            assert_eq!(found.is_empty(), allowed, "{rate}");
        }
    }
}
