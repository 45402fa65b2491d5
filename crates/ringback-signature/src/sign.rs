//! The sender's side.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::Mac;

use crate::SigningSecret;

/// `v1,`, 44 characters of base64, and the space before the next.
const SIGNATURE_LENGTH: usize = 48;

/// There is no secret to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no active secret to sign with")]
pub struct NoActiveSecret;

/// Signs one attempt; returns the value of its `webhook-signature` header.
///
/// HMAC-SHA256 over `{event_id}.{sent_at}.{body}`, as the Standard Webhooks
/// specification 1.0.0 lays down under "Signature scheme".
///
/// - `sent_at`: the attempt's time in Unix seconds. It changes with every
///   attempt; `event_id` does not, so receivers can drop repeats by it.
/// - `body`: the exact bytes to be sent. Serialising again breaks the signature.
/// - `secrets`: newest first; one as a rule, two while a rotation is under way.
///
/// The value is `v1,` and 44 base64 characters per secret, parted by spaces.
///
/// # Errors
///
/// [`NoActiveSecret`] if `secrets` is empty: nothing is ever sent unsigned.
///
/// ```
/// # use ringback_signature::{SigningSecret, sign};
/// let secret: SigningSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".parse()?;
/// let event_id = "evt_0197f0c2a3b47c1d8e2f90a1b2c3d4e5"; // any id without a dot
/// let value = sign(event_id, 1_767_603_600, br#"{"type":"order.paid"}"#, &[secret])?;
/// assert_eq!(value, "v1,erbvH76LKYUg6FMLebp+kipVjOGPpSghBf5k5RJcCP4=");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sign(
    event_id: &str,
    sent_at: i64,
    body: &[u8],
    secrets: &[SigningSecret],
) -> Result<String, NoActiveSecret> {
    if secrets.is_empty() {
        return Err(NoActiveSecret);
    }
    let timestamp = sent_at.to_string();
    let mut value = String::with_capacity(SIGNATURE_LENGTH * secrets.len());
    for secret in secrets {
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str("v1,");
        let mac = secret.authenticate(event_id, &timestamp, body).finalize();
        STANDARD.encode_string(mac.as_bytes(), &mut value);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the specification's reference libraries.
    #[test]
    fn the_published_vectors_hold() {
        let cases = [
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ];
        for (secret, id, sent_at, body, expected) in cases {
            let secret = secret.parse().unwrap();
            let value = sign(id, sent_at, body.as_bytes(), &[secret]);
            assert_eq!(value.as_deref(), Ok(expected), "{id}");
        }
    }

    #[test]
    fn every_secret_signs_and_the_newest_comes_first() {
        let [old, new] = [[1; 32], [2; 32]].map(|bytes| SigningSecret::from_bytes(&bytes).unwrap());
        let alone =
            |secret: &SigningSecret| sign("id", 1, b"{}", std::slice::from_ref(secret)).unwrap();
        let expected = format!("{} {}", alone(&new), alone(&old));
        assert_eq!(sign("id", 1, b"{}", &[new, old]), Ok(expected));
    }

    #[test]
    fn nothing_goes_out_unsigned() {
        assert_eq!(sign("id", 1, b"{}", &[]), Err(NoActiveSecret));
    }
}
