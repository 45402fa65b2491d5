//! The reference library as judge: what we sign it takes, what it signs we take.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use ringback_signature::{
    ID_HEADER, SIGNATURE_HEADER, SigningSecret, TIMESTAMP_HEADER, WebhookHeaders, sign, verify,
};
use standardwebhooks::Webhook;

const ID: &str = "evt_02xk6m3q9s0w1";
const BODY: &[u8] = "{\"type\":\"order.paid\",\"data\":\"\u{1f4e6}\"}".as_bytes();

#[test]
fn the_reference_library_takes_what_we_sign_during_a_rotation() {
    let secrets = [old(), new()];
    let now = now();
    let signature = sign(ID, now, BODY, &secrets).unwrap();

    let mut headers = HeaderMap::new();
    for (name, value) in [
        (ID_HEADER, ID),
        (TIMESTAMP_HEADER, &now.to_string()),
        (SIGNATURE_HEADER, &signature),
    ] {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    for secret in &secrets {
        let judge = Webhook::new(&secret.reveal()).unwrap();
        judge.verify(BODY, &headers).unwrap();
        judge.verify(b"{}", &headers).unwrap_err();
    }
}

#[test]
fn we_take_what_the_reference_library_signs() {
    let now = now();
    let judge = Webhook::new(&old().reveal()).unwrap();
    let headers = WebhookHeaders {
        id: ID,
        timestamp: &now.to_string(),
        signature: &judge.sign(ID, now, BODY).unwrap(),
    };
    assert_eq!(verify(&headers, BODY, &[new(), old()], now), Ok(()));
}

fn old() -> SigningSecret {
    SigningSecret::from_bytes(&[1; 24]).expect("24 bytes are enough")
}

fn new() -> SigningSecret {
    SigningSecret::from_bytes(&[2; 64]).expect("64 bytes are not too many")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the judge reads the clock, so its input must follow it"
)]
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("1970 is over").as_secs().cast_signed()
}
