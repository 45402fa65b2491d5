//! A request, as it came.

use bytes::Bytes;
use chrono::{DateTime, Utc};

/// A request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Like `POST`.
    pub method: String,
    /// The target of the request line, byte for byte; what is no UTF-8 is replaced.
    pub target: String,
    /// Names and values in their order and spelling; what is no UTF-8 is replaced.
    pub headers: Vec<(String, String)>,
    /// The body, without any transfer coding.
    pub body: Bytes,
    /// Which of the receiver's connections it came on, counted from 0.
    pub connection: usize,
    /// When all of it had been read.
    pub received_at: DateTime<Utc>,
}

impl Request {
    /// The first value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of a header, by its name in any case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self
            .headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// The event's id.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn webhook_id(&self) -> &str {
        self.header("webhook-id").unwrap()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}
