//! The libraries of Standard Webhooks, as judges of captured requests.
//!
//! They are what receivers use, so what they say counts. Each is asked about many
//! requests at once. They compare timestamps with the time now.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use http::{HeaderMap, HeaderName};
use serde_json::json;

use crate::{databases::from_scripts_test, receiver::Request};

/// Asserts that all three libraries accept every one of `requests`.
///
/// # Panics
///
/// If one does not, or is not there: run the tests with `scripts/test`.
pub fn all_accept(secret: &str, requests: &[Request]) {
    let cases: Vec<_> = requests.iter().map(|request| (secret, request)).collect();
    let verdicts = [
        ("Rust", rust_verifies(&cases)),
        ("Python", python_verifies(&cases)),
        ("Node", node_verifies(&cases)),
    ];
    for (library, verdicts) in verdicts {
        for (request, accepted) in requests.iter().zip(verdicts) {
            assert!(accepted, "{library} refuses {request:?}");
        }
    }
}

/// What the crate says of each pair of secret and request.
pub fn rust_verifies(cases: &[(&str, &Request)]) -> Vec<bool> {
    let verdict = |(secret, request): &(&str, &Request)| {
        let library = standardwebhooks::Webhook::new(secret).unwrap();
        library.verify(&request.body, &headers(request)).is_ok()
    };
    cases.iter().map(verdict).collect()
}

/// What the package of PyPI says of each pair of secret and request.
pub fn python_verifies(cases: &[(&str, &Request)]) -> Vec<bool> {
    let mut command = Command::new(from_scripts_test("RINGBACK_TEST_PYTHON"));
    command.args(["-c", PYTHON]);
    ask(command, cases)
}

/// What the package of npm says of each pair of secret and request.
pub fn node_verifies(cases: &[(&str, &Request)]) -> Vec<bool> {
    let modules = PathBuf::from(from_scripts_test("RINGBACK_TEST_NODE_MODULES"));
    let mut command = Command::new("node");
    command.args(["-e", NODE]).env("NODE_PATH", modules);
    ask(command, cases)
}

const PYTHON: &str = "
import json, sys
from standardwebhooks.webhooks import Webhook

def accepts(case):
    try:
        body = bytes.fromhex(case['body'])
        Webhook(case['secret']).verify(body, case['headers'], json_parse=False)
        return True
    except Exception as refusal:
        print(repr(refusal), file=sys.stderr)
        return False

print(json.dumps([accepts(case) for case in json.load(sys.stdin)]))
";

const NODE: &str = "
const { Webhook } = require('standardwebhooks');
const accepts = ({ secret, headers, body }) => {
    try {
        new Webhook(secret).verify(Buffer.from(body, 'hex'), headers, { jsonParse: false });
        return true;
    } catch (refusal) {
        console.error(refusal.message);
        return false;
    }
};
const cases = JSON.parse(require('fs').readFileSync(0));
console.log(JSON.stringify(cases.map(accepts)));
";

fn ask(mut command: Command, cases: &[(&str, &Request)]) -> Vec<bool> {
    let case = |(secret, request): &(&str, &Request)| {
        let headers: serde_json::Map<_, _> = request
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let body: String = request
            .body
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        json!({ "secret": secret, "headers": headers, "body": body })
    };
    let question = serde_json::to_vec(&cases.iter().map(case).collect::<Vec<_>>()).unwrap();
    let mut judge = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads all before it writes, so neither waits for the other. Taken, to be closed.
    judge.stdin.take().unwrap().write_all(&question).unwrap();
    let answer = judge.wait_with_output().unwrap();
    assert!(answer.status.success(), "a judge failed: see above");
    let verdicts: Vec<bool> = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(verdicts.len(), cases.len());
    verdicts
}

fn headers(request: &Request) -> HeaderMap {
    let pair = |(name, value): &(String, String)| {
        (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
    };
    request.headers.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chrono::{DateTime, TimeDelta, Utc};

    use super::*;

    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[expect(
        clippy::disallowed_methods,
        reason = "the libraries compare with the time now"
    )]
    fn signed(sent_ago: TimeDelta) -> Request {
        let received_at: DateTime<Utc> = Utc::now();
        let sent_at = (received_at - sent_ago).timestamp();
        let body = "{\"type\":\"order.paid\",\"data\":\"\u{e9}\"}".as_bytes();
        let library = standardwebhooks::Webhook::new(SECRET).unwrap();
        let headers = [
            ("webhook-id", "evt_1".to_owned()),
            ("webhook-timestamp", sent_at.to_string()),
            (
                "webhook-signature",
                library.sign("evt_1", sent_at, body).unwrap(),
            ),
        ];
        Request {
            method: "POST".to_owned(),
            target: "/".to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
            body: Bytes::from_static(body),
            connection: 0,
            received_at,
        }
    }

    #[test]
    fn the_judges_accept_what_is_right_and_refuse_what_is_not() {
        let right = signed(TimeDelta::zero());
        let stale = signed(TimeDelta::minutes(6));
        let altered = Request {
            body: Bytes::from_static(b"{}"),
            ..right.clone()
        };
        let other = "whsec_BBECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let cases = [
            (SECRET, &right),
            (SECRET, &stale),
            (SECRET, &altered),
            (other, &right),
        ];
        let expected = [true, false, false, false];
        assert_eq!(rust_verifies(&cases), expected);
        assert_eq!(python_verifies(&cases), expected);
        assert_eq!(node_verifies(&cases), expected);
        all_accept(SECRET, &[right]);
    }
}
