//! Signing secrets: what sender and receiver share.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";

/// A secret of 24 to 64 bytes, written `whsec_` and standard base64 with padding.
///
/// It prints as `***`; only [`Self::reveal`] shows it.
///
/// ```
/// # use ringback_signature::SigningSecret;
/// let text = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// let secret: SigningSecret = text.parse()?;
/// assert_eq!(secret.reveal(), text);
/// assert_eq!(format!("{secret:?}"), "SigningSecret(***)");
/// # Ok::<(), ringback_signature::InvalidSecret>(())
/// ```
#[derive(Clone)]
pub struct SigningSecret {
    bytes: Box<[u8]>,
    /// Already holds the key, so that signing costs only the message.
    keyed: Hmac<Sha256>,
}

/// A text or some bytes cannot be a signing secret. Never shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// It does not begin with `whsec_`.
    #[error("a signing secret begins with `whsec_`")]
    Prefix,
    /// The rest is not base64 in the standard alphabet, with padding.
    #[error("a signing secret is `whsec_` and base64, in the standard alphabet with padding")]
    Base64,
    /// It is too short to be safe, or too long.
    #[error("a signing secret has 24 to 64 bytes before encoding, and this one has {0}")]
    Length(usize),
}

impl SigningSecret {
    /// Takes 24 to 64 bytes, which must come from a cryptographic random source.
    ///
    /// # Errors
    ///
    /// [`InvalidSecret::Length`] if there are fewer or more.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidSecret> {
        let too_many_or_few = InvalidSecret::Length(bytes.len());
        if !(24..=64).contains(&bytes.len()) {
            return Err(too_many_or_few);
        }
        // HMAC itself takes a key of any length.
        let keyed = Hmac::new_from_slice(bytes).map_err(|_| too_many_or_few)?;
        let bytes = bytes.into();
        Ok(Self { bytes, keyed })
    }

    /// The secret as text, to be shown to its owner or stored encrypted.
    pub fn reveal(&self) -> String {
        let mut text = PREFIX.to_owned();
        STANDARD.encode_string(&self.bytes, &mut text);
        text
    }

    /// The HMAC over `{id}.{timestamp}.{body}`, not yet finished.
    pub(crate) fn authenticate(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(***)")
    }
}

impl FromStr for SigningSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret::Prefix)?;
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| InvalidSecret::Base64)?;
        Self::from_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_one_spelling() {
        let cases = [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None),
            ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", None),
            ("", Some(InvalidSecret::Prefix)),
            (
                "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                Some(InvalidSecret::Prefix),
            ),
            (
                "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                Some(InvalidSecret::Prefix),
            ),
            // Unpadded, padded twice, with bits to spare, URL-safe, with a space.
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
                Some(InvalidSecret::Base64),
            ),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw====",
                Some(InvalidSecret::Base64),
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=",
                Some(InvalidSecret::Base64),
            ),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa_-",
                Some(InvalidSecret::Base64),
            ),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw ",
                Some(InvalidSecret::Base64),
            ),
            ("whsec_", Some(InvalidSecret::Length(0))),
            ("whsec_c2hvcnQ=", Some(InvalidSecret::Length(5))),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<SigningSecret>().err(), expected, "{text}");
        }
    }

    #[test]
    fn secrets_have_24_to_64_bytes() {
        for (length, fits) in [(23, false), (24, true), (64, true), (65, false)] {
            let secret = SigningSecret::from_bytes(&vec![7; length]);
            assert_eq!(secret.is_ok(), fits, "{length} bytes");
            if let Ok(secret) = secret {
                let again: SigningSecret = secret.reveal().parse().unwrap();
                assert_eq!(again.bytes, secret.bytes);
            }
        }
    }
}
