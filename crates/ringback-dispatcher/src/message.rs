//! An event as it goes out: the same for each of its deliveries.

use bytes::Bytes;
use http::HeaderValue;
use ringback_model::{EventId, EventType, delivery_body};
use ringback_store::Payload;

/// What is the same in every request that an event causes.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) event: EventId,
    pub(crate) event_type: EventType,
    /// The value of `webhook-id`, which is signed too.
    pub(crate) id: HeaderValue,
    pub(crate) body: Bytes,
    /// The producer's trace context, if it had one that fits in a header.
    pub(crate) traceparent: Option<HeaderValue>,
}

impl Message {
    /// Its bytes in memory, roughly.
    pub(crate) fn size(&self) -> usize {
        self.body.len() + 256
    }
}

impl From<Payload> for Message {
    fn from(payload: Payload) -> Self {
        let body = delivery_body(&payload.event_type, payload.event.time(), &payload.data);
        Self {
            event: payload.event,
            event_type: payload.event_type,
            id: text(payload.event.to_string()),
            body: Bytes::from(body),
            traceparent: payload
                .traceparent
                .and_then(|value| HeaderValue::try_from(value).ok()),
        }
    }
}

/// A header value of plain text of our own making: ids, numbers, signatures.
pub(crate) fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
