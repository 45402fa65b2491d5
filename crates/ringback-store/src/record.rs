//! How attempts and answers are packed into one database column.
//!
//! A column each would cost more bytes and more time than the whole rest of a
//! settled delivery, and nothing searches by them. What lists filter by (status
//! code, error) has columns of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use chrono::DateTime;
use ringback_model::{AttemptError, EventId};
use serde::{Deserialize, Serialize};

use crate::{Accepted, AttemptAnswer, AttemptRecord, StoreError};

/// The first byte of everything packed: a later format gets another.
const FORMAT: u8 = 1;

#[derive(Serialize, Deserialize)]
struct PackedAttempt {
    number: u16,
    started_at_ms: i64,
    subscription_version: i32,
    error: Option<i16>,
    remote_addr: Option<SocketAddr>,
    dns_ms: Option<u32>,
    connect_ms: Option<u32>,
    tls_ms: Option<u32>,
    first_byte_ms: Option<u32>,
    total_ms: u32,
    answer: Option<PackedAnswer>,
}

#[derive(Serialize, Deserialize)]
struct PackedAnswer {
    status_code: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    truncated: bool,
}

#[derive(Serialize, Deserialize)]
struct PackedAccepted {
    id: i64,
    deliveries: u32,
    duplicate: bool,
}

impl AttemptRecord {
    /// Packs it for the column `record`.
    pub fn pack(&self) -> Vec<u8> {
        pack(&PackedAttempt {
            number: self.number,
            started_at_ms: self.started_at.timestamp_millis(),
            subscription_version: self.subscription_version,
            error: self.error.map(AttemptError::code),
            remote_addr: self.remote_addr,
            dns_ms: self.dns_ms,
            connect_ms: self.connect_ms,
            tls_ms: self.tls_ms,
            first_byte_ms: self.first_byte_ms,
            total_ms: self.total_ms,
            answer: self.answer.as_ref().map(|answer| PackedAnswer {
                status_code: answer.status_code,
                headers: answer.headers.clone(),
                body: answer.body.to_vec(),
                truncated: answer.truncated,
            }),
        })
    }

    /// Unpacks the column `record` of `table`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it is nothing that [`Self::pack`] makes.
    pub fn unpack(table: &'static str, bytes: &[u8]) -> Result<Self, StoreError> {
        let corrupt = StoreError::Corrupt {
            table,
            column: "record",
        };
        let Some(packed) = unpack::<PackedAttempt>(bytes) else {
            return Err(corrupt);
        };
        let error = match packed.error.map(AttemptError::from_code) {
            Some(None) => return Err(corrupt),
            known => known.flatten(),
        };
        Ok(Self {
            number: packed.number,
            started_at: DateTime::from_timestamp_millis(packed.started_at_ms).ok_or(corrupt)?,
            subscription_version: packed.subscription_version,
            error,
            remote_addr: packed.remote_addr,
            dns_ms: packed.dns_ms,
            connect_ms: packed.connect_ms,
            tls_ms: packed.tls_ms,
            first_byte_ms: packed.first_byte_ms,
            total_ms: packed.total_ms,
            answer: packed.answer.map(|answer| AttemptAnswer {
                status_code: answer.status_code,
                headers: answer.headers,
                body: Bytes::from(answer.body),
                truncated: answer.truncated,
            }),
        })
    }
}

impl Accepted {
    /// Packs what a request was answered, for the column `answer`.
    pub fn pack_all(accepted: &[Self]) -> Vec<u8> {
        let pack_one = |one: &Self| PackedAccepted {
            id: one.id.get(),
            deliveries: one.deliveries,
            duplicate: one.duplicate,
        };
        pack(&accepted.iter().map(pack_one).collect::<Vec<_>>())
    }

    /// Unpacks the column `answer` of `idempotency`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it is nothing that [`Self::pack_all`] makes.
    pub fn unpack_all(bytes: &[u8]) -> Result<Vec<Self>, StoreError> {
        let corrupt = StoreError::Corrupt {
            table: "idempotency",
            column: "answer",
        };
        let packed = unpack::<Vec<PackedAccepted>>(bytes).ok_or(corrupt)?;
        let unpack_one = |one: PackedAccepted| Self {
            id: EventId::new(one.id),
            deliveries: one.deliveries,
            duplicate: one.duplicate,
        };
        Ok(packed.into_iter().map(unpack_one).collect())
    }
}

fn pack(value: &impl Serialize) -> Vec<u8> {
    // Growing a vector cannot fail, and none of these types can refuse to serialise.
    postcard::to_extend(value, vec![FORMAT]).unwrap_or_default()
}

fn unpack<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first() {
        Some((&FORMAT, packed)) => postcard::from_bytes(packed).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AttemptRecord {
        AttemptRecord {
            number: 3,
            started_at: "2026-01-05T09:00:00.120Z".parse().unwrap(),
            subscription_version: 2,
            error: Some(AttemptError::HttpStatus),
            remote_addr: Some("203.0.113.7:443".parse().unwrap()),
            dns_ms: None,
            connect_ms: Some(12),
            tls_ms: None,
            first_byte_ms: Some(80),
            total_ms: 83,
            answer: Some(AttemptAnswer {
                status_code: 503,
                headers: vec![("server".to_owned(), b"nginx\xff".to_vec())],
                body: Bytes::from_static(b"\0busy"),
                truncated: true,
            }),
        }
    }

    #[test]
    fn an_attempt_survives_packing() {
        let packed = record().pack();
        assert_eq!(
            AttemptRecord::unpack("attempts", &packed).unwrap(),
            record()
        );
    }

    #[test]
    fn a_plain_success_is_small() {
        let mut plain = record();
        (plain.error, plain.connect_ms) = (None, None);
        plain.answer = Some(AttemptAnswer {
            status_code: 204,
            headers: Vec::new(),
            body: Bytes::new(),
            truncated: false,
        });
        assert!(plain.pack().len() <= 32, "{}", plain.pack().len());
    }

    #[test]
    fn what_was_not_packed_here_is_corrupt() {
        let packed = record().pack();
        for bytes in [&[][..], &[9], &packed[..packed.len() - 1]] {
            assert!(AttemptRecord::unpack("attempts", bytes).is_err());
        }
    }

    #[test]
    fn answers_survive_packing() {
        let answers = [Accepted {
            id: EventId::new(7),
            deliveries: 2,
            duplicate: true,
        }];
        assert_eq!(
            Accepted::unpack_all(&Accepted::pack_all(&answers)).unwrap(),
            answers
        );
    }
}
