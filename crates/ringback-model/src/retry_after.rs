//! What a receiver says about when to come again.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Longer is not waited because a receiver says so.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait that the value of a `Retry-After` header asks for: RFC 9110, section 10.2.3.
///
/// Either seconds, or an HTTP date in one of its three forms, counted from `now`. At
/// most 24 h; a date that has passed is no wait at all. `None` if it is neither.
///
/// ```
/// # use {ringback_model::retry_after, std::time::Duration};
/// let now = "2026-01-05T09:00:00Z".parse().unwrap();
/// let wait = |value: &str| retry_after(value.as_bytes(), now).map(|wait| wait.as_secs());
/// assert_eq!(wait("120"), Some(120));
/// assert_eq!(wait("Mon, 05 Jan 2026 09:02:00 GMT"), Some(120));
/// assert_eq!(wait("Monday, 05-Jan-26 09:02:00 GMT"), Some(120));
/// assert_eq!(wait("Mon Jan  5 09:02:00 2026"), Some(120));
/// assert_eq!(wait("Mon, 05 Jan 2026 08:00:00 GMT"), Some(0)); // has passed
/// assert_eq!(wait("31536000"), Some(24 * 60 * 60)); // not that long
/// assert_eq!(wait("soon"), None);
/// ```
pub fn retry_after(value: &[u8], now: DateTime<Utc>) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let wait = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        seconds(text)?
    } else {
        until(text, now)?
    };
    Some(wait.min(LONGEST))
}

fn seconds(digits: &str) -> Option<Duration> {
    if digits.is_empty() {
        return None;
    }
    // Only too many digits are left to fail: that is long.
    Some(digits.parse().map_or(LONGEST, Duration::from_secs))
}

fn until(date: &str, now: DateTime<Utc>) -> Option<Duration> {
    let date: DateTime<Utc> = httpdate::parse_http_date(date).ok()?.into();
    Some((date - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_no_wait_is_ignored() {
        let garbage: [&[u8]; 9] = [
            b"",
            b" ",
            b"-1",
            b"+1",
            b"1.5",
            b"1, 2",
            b"0x10",
            b"Mon, 05 Jan 2026 09:02:00 CET",
            b"\xff\xfe",
        ];
        for value in garbage {
            assert_eq!(retry_after(value, now()), None, "{value:?}");
        }
    }

    #[test]
    fn no_number_is_too_long_to_be_understood() {
        let cases = [
            ("0", 0),
            (" 3\t", 3),
            ("0003", 3),
            ("86400", 86_400),
            ("86401", 86_400),
            ("99999999999999999999999999", 86_400),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ];
        for (value, expected_s) in cases {
            let wait = retry_after(value.as_bytes(), now());
            assert_eq!(wait, Some(Duration::from_secs(expected_s)), "{value}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_the_wait_is_at_most_a_day(
            value in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..64),
                "[0-9]{0,40}".prop_map(String::into_bytes),
                "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
                    .prop_map(String::into_bytes),
            ],
            at_s in -62_135_596_800i64..253_402_300_799,
        ) {
            let now = DateTime::from_timestamp(at_s, 999_999_999).unwrap();
            prop_assert!(retry_after(&value, now).is_none_or(|wait| wait <= LONGEST));
        }
    }
}
