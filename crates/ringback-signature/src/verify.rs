//! The receiver's side.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::Mac;

use crate::{ID_HEADER, SIGNATURE_HEADER, SigningSecret, TIMESTAMP_HEADER};

/// How far the sender's clock and the receiver's may differ, in seconds; also how
/// long a captured request stays useful to whoever captured it.
pub const TOLERANCE_S: u64 = 300;

/// The three headers of a webhook, as they arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookHeaders<'a> {
    /// `webhook-id`. Once verified, drop requests whose id was already handled.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signature: &'a str,
}

/// A request is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// One of the three headers is not there, or is not text.
    #[error("the header `{0}` is missing")]
    MissingHeader(&'static str),
    /// The timestamp is not a whole number of seconds.
    #[error("the header `webhook-timestamp` is not a number of seconds")]
    BadTimestamp,
    /// It was signed more than five minutes ago.
    #[error("the request was signed too long ago")]
    TooOld,
    /// It was signed more than five minutes from now.
    #[error("the request was signed in the future")]
    TooNew,
    /// None of the signatures was made with one of the secrets over these bytes.
    #[error("no signature matches")]
    NoMatch,
}

impl<'a> WebhookHeaders<'a> {
    /// Asks for each of the three headers by its lower-case name.
    ///
    /// # Errors
    ///
    /// [`VerifyError::MissingHeader`] names the first for which there is `None`.
    pub fn find(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, VerifyError> {
        let find = |name| get(name).ok_or(VerifyError::MissingHeader(name));
        Ok(Self {
            id: find(ID_HEADER)?,
            timestamp: find(TIMESTAMP_HEADER)?,
            signature: find(SIGNATURE_HEADER)?,
        })
    }
}

/// Verifies that a request came from someone who has one of the secrets, lately.
///
/// - `body`: the exact bytes that arrived, before any parsing.
/// - `secrets`: any of them may have signed; two while a rotation is under way.
/// - `now`: Unix seconds.
///
/// Signatures of unknown versions are skipped. Comparing takes the same time
/// wherever the difference is.
///
/// # Errors
///
/// [`VerifyError`]: do not act on the request; answer 400 or 401.
///
/// ```
/// # use std::collections::HashMap;
/// # use ringback_signature::{SigningSecret, WebhookHeaders, verify};
/// let request = HashMap::from([
///     ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
///     ("webhook-timestamp", "1614265330"),
///     ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
/// ]);
/// let secret: SigningSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// let headers = WebhookHeaders::find(|name| request.get(name).copied())?;
/// verify(&headers, br#"{"test": 2432232314}"#, &[secret], 1_614_265_331)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(
    headers: &WebhookHeaders<'_>,
    body: &[u8],
    secrets: &[SigningSecret],
    now: i64,
) -> Result<(), VerifyError> {
    check_timestamp(headers.timestamp, now)?;
    let matches = secrets.iter().any(|secret| {
        let mac = secret.authenticate(headers.id, headers.timestamp, body);
        // The whole MAC must be there: a verifier that compared only as far as the
        // shorter one went accepted `v1,` (RUSTSEC-2024-0010). `verify_slice` does not.
        version_1(headers.signature).any(|given| mac.clone().verify_slice(&given).is_ok())
    });
    if matches {
        Ok(())
    } else {
        Err(VerifyError::NoMatch)
    }
}

fn check_timestamp(text: &str, now: i64) -> Result<(), VerifyError> {
    // `parse` alone would take a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::BadTimestamp);
    }
    let sent_at: i64 = text.parse().map_err(|_| VerifyError::BadTimestamp)?;
    if sent_at.abs_diff(now) <= TOLERANCE_S {
        Ok(())
    } else if sent_at < now {
        Err(VerifyError::TooOld)
    } else {
        Err(VerifyError::TooNew)
    }
}

/// The signatures of version 1, decoded; what cannot be decoded matches nothing.
fn version_1(header: &str) -> impl Iterator<Item = Vec<u8>> {
    header
        .split(' ')
        .filter_map(|token| STANDARD.decode(token.strip_prefix("v1,")?).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sign;

    const NOW: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const MAC: &str = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secret() -> SigningSecret {
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()
    }

    fn other() -> SigningSecret {
        SigningSecret::from_bytes(&[9; 32]).unwrap()
    }

    fn headers<'a>(timestamp: &'a str, signature: &'a str) -> WebhookHeaders<'a> {
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        WebhookHeaders {
            id,
            timestamp,
            signature,
        }
    }

    #[test]
    fn only_the_whole_mac_matches() {
        let over_long = {
            let mut bytes = STANDARD.decode(MAC).unwrap();
            bytes.push(0);
            STANDARD.encode(bytes)
        };
        let no_match = Err(VerifyError::NoMatch);
        let cases = [
            (format!("v1,{MAC}"), Ok(())),
            (format!("v1,AAAA v1,{MAC}"), Ok(())), // any one will do
            (format!("v1a,{MAC} v2,x y v1,{MAC}"), Ok(())), // unknown versions are skipped
            (format!("v1,{MAC} "), Ok(())),
            (String::new(), no_match),
            ("v1,".to_owned(), no_match), // RUSTSEC-2024-0010
            ("v1".to_owned(), no_match),
            (MAC.to_owned(), no_match),
            (format!("v1,{}", &MAC[..40]), no_match), // truncated
            (format!("v1,{over_long}"), no_match),
            (format!("v1,{}", MAC.trim_end_matches('=')), no_match),
            (format!("v1a,{MAC}"), no_match),
            (format!("V1,{MAC}"), no_match),
            (format!("v1,v1,{MAC}"), no_match),
            (format!("v1,{MAC},"), no_match),
        ];
        for (signature, expected) in cases {
            let headers = headers("1614265330", &signature);
            assert_eq!(
                verify(&headers, BODY, &[secret()], NOW),
                expected,
                "{signature}"
            );
        }
    }

    #[test]
    fn one_of_the_secrets_must_have_signed() {
        let signature = format!("v1,{MAC}");
        let headers = headers("1614265330", &signature);
        let no_match = Err(VerifyError::NoMatch);
        assert_eq!(verify(&headers, BODY, &[other(), secret()], NOW), Ok(()));
        assert_eq!(verify(&headers, BODY, &[other()], NOW), no_match);
        assert_eq!(verify(&headers, BODY, &[], NOW), no_match);
    }

    #[test]
    fn a_request_is_good_for_five_minutes_either_way() {
        let cases = [
            ("1614265330", 0, Ok(())),
            ("1614265330", 300, Ok(())),
            ("1614265330", -300, Ok(())),
            ("1614265330", 301, Err(VerifyError::TooOld)),
            ("1614265330", -301, Err(VerifyError::TooNew)),
            ("1614265330", i64::MIN, Err(VerifyError::TooNew)),
            ("9223372036854775807", 0, Err(VerifyError::TooNew)),
            ("9223372036854775808", 0, Err(VerifyError::BadTimestamp)),
            ("", 0, Err(VerifyError::BadTimestamp)),
            ("-1", 0, Err(VerifyError::BadTimestamp)),
            ("+1614265330", 0, Err(VerifyError::BadTimestamp)),
            ("1614265330.0", 0, Err(VerifyError::BadTimestamp)),
            ("01614265330", 0, Err(VerifyError::NoMatch)), // another text was signed
        ];
        let signature = format!("v1,{MAC}");
        for (timestamp, later, expected) in cases {
            let headers = headers(timestamp, &signature);
            let now = NOW.saturating_add(later);
            assert_eq!(
                verify(&headers, BODY, &[secret()], now),
                expected,
                "{timestamp} {later}"
            );
        }
    }

    #[test]
    fn a_missing_header_is_named() {
        for missing in [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER] {
            let found = WebhookHeaders::find(|name| (name != missing).then_some("x"));
            assert_eq!(found, Err(VerifyError::MissingHeader(missing)));
        }
    }

    proptest! {
        #[test]
        fn what_was_signed_verifies_and_nothing_else(
            key in proptest::collection::vec(any::<u8>(), 24..=64),
            id in "[a-z0-9_]{1,40}",
            body in proptest::collection::vec(any::<u8>(), 1..200),
            flip in any::<proptest::sample::Index>(),
            bit in 0u8..8,
        ) {
            let secrets = [SigningSecret::from_bytes(&key).unwrap()];
            let signature = sign(&id, NOW, &body, &secrets).unwrap();
            let timestamp = NOW.to_string();
            let headers = WebhookHeaders { id: &id, timestamp: &timestamp, signature: &signature };
            prop_assert_eq!(verify(&headers, &body, &secrets, NOW), Ok(()));

            let mut altered = body.clone();
            altered[flip.index(body.len())] ^= 1 << bit;
            prop_assert_eq!(verify(&headers, &altered, &secrets, NOW), Err(VerifyError::NoMatch));

            let mut mac = STANDARD.decode(&signature[3..]).unwrap();
            mac[flip.index(32)] ^= 1 << bit;
            let signature = format!("v1,{}", STANDARD.encode(mac));
            let headers = WebhookHeaders { signature: &signature, ..headers };
            prop_assert_eq!(verify(&headers, &body, &secrets, NOW), Err(VerifyError::NoMatch));
        }

        #[test]
        fn no_header_breaks_the_verifier(id in any::<String>(), signature in any::<String>()) {
            let headers = WebhookHeaders { id: &id, timestamp: "1614265330", signature: &signature };
            prop_assert_eq!(verify(&headers, BODY, &[secret()], NOW), Err(VerifyError::NoMatch));
        }
    }
}
