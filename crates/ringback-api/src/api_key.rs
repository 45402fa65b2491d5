//! What an API key looks like.
//!
//! `rbk_`, 32 random bytes and a checksum, so that secret scanners recognise one and
//! a mistyped one costs no look-up. Only its hash is stored: with 256 random bits,
//! a plain SHA-256 cannot be reversed.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

const PREFIX: &str = "rbk_";
/// Characters of 32 bytes in base64.
const BODY_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;

/// Makes an API key of 32 bytes from a cryptographic random source.
///
/// Gives the key, to be shown once, and its SHA-256, to be stored.
///
/// ```
/// let (key, _hash) = ringback_api::new_api_key([7; 32]);
/// assert_eq!(key, "rbk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc3Ev4DH");
/// ```
pub fn new_api_key(random: [u8; 32]) -> (String, [u8; 32]) {
    let body = BASE64_URL_SAFE_NO_PAD.encode(random);
    let key = format!("{PREFIX}{body}{}", checksum(&body));
    let hash = hash(&key);
    (key, hash)
}

/// The SHA-256 of a text that can be a key; `None` if it cannot.
pub(crate) fn hash_of(text: &str) -> Option<[u8; 32]> {
    let (body, sum) = text.strip_prefix(PREFIX)?.split_at_checked(BODY_LENGTH)?;
    // The checksum is no secret: comparing it may take as long as it likes.
    (sum == checksum(body)).then(|| hash(text))
}

fn checksum(body: &str) -> String {
    let mut sum = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(body));
    sum.truncate(CHECKSUM_LENGTH);
    sum
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_key_is_looked_up() {
        let (key, hash) = new_api_key([0xfb; 32]);
        assert_eq!(key.len(), PREFIX.len() + BODY_LENGTH + CHECKSUM_LENGTH);
        assert_eq!(hash_of(&key), Some(hash));
        let typo = key.replacen('_', "_x", 1);
        for bad in [
            &key[1..],
            &key[..52],
            &*typo,
            "",
            "rbk_",
            "rbk_é",
            &key.to_uppercase(),
        ] {
            assert_eq!(hash_of(bad), None, "{bad}");
        }
    }
}
