//! What a receiver gets as the body, and what `data` may be.

use chrono::{DateTime, Utc};

use crate::{EventType, time};

/// The most that `data` may be.
pub const MAX_DATA_BYTES: usize = 256 * 1024;

/// How deep `data` may nest: the limit of the strictest common parsers.
const MAX_DEPTH: usize = 127;

/// `data` cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidData {
    /// More than [`MAX_DATA_BYTES`].
    #[error("is {0} bytes, and at most 262144 are taken")]
    TooLarge(usize),
    /// Nests deeper than receivers' parsers go.
    #[error("nests deeper than 127 levels")]
    TooDeep,
}

/// Checks the limits of `data`, which is known to be JSON.
///
/// # Errors
///
/// [`InvalidData`] says which limit it breaks.
pub fn check_data(data: &str) -> Result<(), InvalidData> {
    if data.len() > MAX_DATA_BYTES {
        return Err(InvalidData::TooLarge(data.len()));
    }
    if depth(data.as_bytes()) > MAX_DEPTH {
        return Err(InvalidData::TooDeep);
    }
    Ok(())
}

/// The body that is signed and sent: `data` byte for byte as the producer gave it.
///
/// ```
/// # use ringback_model::delivery_body;
/// let accepted_at = "2026-01-05T09:00:00.120Z".parse().unwrap();
/// let body = delivery_body(&"order.paid".parse().unwrap(), accepted_at, br#"{"total": 1.10}"#);
/// assert_eq!(
///     body,
///     br#"{"type":"order.paid","timestamp":"2026-01-05T09:00:00.120Z","data":{"total": 1.10}}"#,
/// );
/// ```
pub fn delivery_body(event_type: &EventType, accepted_at: DateTime<Utc>, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(data.len() + event_type.as_str().len() + 64);
    body.extend_from_slice(br#"{"type":""#);
    // An event type has no character that JSON would escape.
    body.extend_from_slice(event_type.as_str().as_bytes());
    body.extend_from_slice(br#"","timestamp":""#);
    body.extend_from_slice(time::rfc3339(accepted_at).as_bytes());
    body.extend_from_slice(br#"","data":"#);
    body.extend_from_slice(data);
    body.push(b'}');
    body
}

fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check_data(&nested(127)), Ok(()));
        assert_eq!(check_data(&nested(128)), Err(InvalidData::TooDeep));
        let brackets_in_a_string = format!(r#""\"{}""#, "[".repeat(500));
        assert_eq!(check_data(&brackets_in_a_string), Ok(()));
    }

    #[test]
    fn data_is_at_most_256_kib() {
        assert_eq!(check_data(&"1".repeat(MAX_DATA_BYTES)), Ok(()));
        assert!(check_data(&"1".repeat(MAX_DATA_BYTES + 1)).is_err());
    }
}
