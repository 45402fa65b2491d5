//! An attempt as it is shown: without secrets, and without the URL's query.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use ringback_model::{AttemptId, DeliveryId, time::rfc3339};
use ringback_store::{Attempt, AttemptAnswer, AttemptRecord};
use serde::Serialize;
use utoipa::ToSchema;

use crate::routes::subscriptions::is_credential;

const MASK: &str = "***";

/// One HTTP exchange.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptView {
    #[schema(value_type = String)]
    id: AttemptId,
    /// Counted from 1.
    number: u16,
    #[schema(format = DateTime)]
    started_at: String,
    /// `delivered` or `failed`.
    #[schema(value_type = String)]
    outcome: &'static str,
    /// What the receiver answered, if it did.
    status_code: Option<u16>,
    /// `http_status`, `dns`, `connect_refused`, `connect_timeout`, `tls`, `timeout`,
    /// `reset`, `too_large`, `redirect`, `blocked_address` or `protocol`.
    #[schema(value_type = Option<String>)]
    error: Option<&'static str>,
    /// The address that was connected to.
    #[schema(example = "203.0.113.7:443")]
    remote_addr: Option<String>,
    timings_ms: Timings,
    request: SentRequest,
    response: Option<ReceivedResponse>,
}

/// What took how long, in milliseconds; null for what was not done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Timings {
    dns: Option<u32>,
    connect: Option<u32>,
    tls: Option<u32>,
    /// From the beginning.
    first_byte: Option<u32>,
    /// From the beginning to the end.
    total: u32,
}

/// What was sent. The body is the event's.
#[derive(Serialize, ToSchema)]
pub(crate) struct SentRequest {
    /// `…` stands for the query, which may hold credentials.
    #[schema(example = "https://billing.example/hooks?…")]
    url: String,
    /// The subscription's own are shown as `***`.
    headers: BTreeMap<String, String>,
}

/// What the receiver answered, cut to what is kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReceivedResponse {
    headers: BTreeMap<String, String>,
    /// The body, if it is text. Null without the scope `payloads:read`.
    body: Option<String>,
    /// The body in base64, if it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// Whether there was more of the body.
    truncated: bool,
}

impl AttemptView {
    /// - `own_headers`: the names of the subscription's own headers.
    /// - `with_body`: whether the caller may see what was answered.
    pub(super) fn of(
        delivery: DeliveryId,
        attempt: Attempt,
        own_headers: impl IntoIterator<Item = String>,
        with_body: bool,
    ) -> Self {
        let record = attempt.record;
        let headers = sent_headers(delivery, &record, own_headers);
        Self {
            id: AttemptId {
                delivery,
                number: record.number,
            },
            number: record.number,
            started_at: rfc3339(record.started_at),
            outcome: if record.error.is_none() {
                "delivered"
            } else {
                "failed"
            },
            status_code: record.answer.as_ref().map(|answer| answer.status_code),
            error: record.error.map(|error| error.as_str()),
            remote_addr: record.remote_addr.map(|addr| addr.to_string()),
            timings_ms: Timings {
                dns: record.dns_ms,
                connect: record.connect_ms,
                tls: record.tls_ms,
                first_byte: record.first_byte_ms,
                total: record.total_ms,
            },
            request: SentRequest {
                url: without_query(&attempt.url),
                headers,
            },
            response: record.answer.map(|answer| received(answer, with_body)),
        }
    }
}

/// Not kept, but a function of what is.
fn sent_headers(
    delivery: DeliveryId,
    record: &AttemptRecord,
    own: impl IntoIterator<Item = String>,
) -> BTreeMap<String, String> {
    let ours = [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", delivery.event.to_string()),
        (
            "webhook-timestamp",
            record.started_at.timestamp().to_string(),
        ),
        (
            "user-agent",
            concat!("Ringback/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("ringback-attempt", record.number.to_string()),
    ];
    let ours = ours.map(|(name, value)| (name.to_owned(), value));
    own.into_iter()
        .map(|name| (name, MASK.to_owned()))
        .chain(ours)
        .collect()
}

/// `…` in place of the query; a fragment is never sent.
fn without_query(url: &str) -> String {
    let sent = url.split('#').next().unwrap_or_default();
    match sent.split_once('?') {
        Some((path, _)) => format!("{path}?…"),
        None => sent.to_owned(),
    }
}

fn received(answer: AttemptAnswer, with_body: bool) -> ReceivedResponse {
    let (body, body_base64) = match text(&answer) {
        _ if !with_body => (None, None),
        Some(text) => (Some(text.to_owned()), None),
        None => (None, Some(BASE64_STANDARD.encode(&answer.body))),
    };
    ReceivedResponse {
        headers: received_headers(&answer.headers),
        body,
        body_base64,
        truncated: answer.truncated,
    }
}

/// The body, if it is UTF-8. The cut may have gone through its last character.
fn text(answer: &AttemptAnswer) -> Option<&str> {
    match std::str::from_utf8(&answer.body) {
        Ok(text) => Some(text),
        Err(error) if answer.truncated && error.error_len().is_none() => {
            std::str::from_utf8(&answer.body[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// A name that came several times gets its values joined, as HTTP has it.
fn received_headers(headers: &[(String, Vec<u8>)]) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value);
        let value = if is_credential(name) { MASK } else { &*value };
        shown
            .entry(name.clone())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_fragments_are_not_shown() {
        let cases = [
            ("https://r.example/x", "https://r.example/x"),
            ("https://r.example/x?sig=1", "https://r.example/x?…"),
            ("https://r.example/x?", "https://r.example/x?…"),
            ("https://r.example?a#b?c", "https://r.example?…"),
            ("https://r.example/x#frag", "https://r.example/x"),
        ];
        for (url, shown) in cases {
            assert_eq!(without_query(url), shown, "{url}");
        }
    }

    #[test]
    fn a_body_is_shown_as_text_if_it_is_text() {
        let cases = [
            (&b"ok"[..], false, Some("ok"), None),
            (b"", false, Some(""), None),
            (b"\xff", false, None, Some("/w==")),
            (b"caf\xc3", true, Some("caf"), None), // cut in the middle of an é
            (b"caf\xc3", false, None, Some("Y2Fmww==")),
        ];
        for (body, truncated, text, base64) in cases {
            let answer = AttemptAnswer {
                status_code: 200,
                headers: Vec::new(),
                body: bytes::Bytes::copy_from_slice(body),
                truncated,
            };
            let shown = received(answer.clone(), true);
            assert_eq!(
                (shown.body.as_deref(), shown.body_base64.as_deref()),
                (text, base64)
            );
            let hidden = received(answer, false);
            assert_eq!((hidden.body, hidden.body_base64), (None, None));
        }
    }

    #[test]
    fn a_receivers_cookies_are_not_shown() {
        let headers = [
            ("server", "nginx"),
            ("set-cookie", "a=1"),
            ("via", "x"),
            ("via", "y"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        let shown = received_headers(&headers);
        let expected = [("server", "nginx"), ("set-cookie", "***"), ("via", "x, y")];
        assert!(
            shown
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .eq(expected),
            "{shown:?}"
        );
    }
}
