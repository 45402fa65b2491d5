//! Cursors: where a list goes on, opaque to whoever holds one.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::error::ApiError;

/// The first byte of every cursor: a later format gets another.
const FORMAT: u8 = 1;

/// What a list was filtered by. A cursor goes on with the same only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilterHash([u8; 8]);

impl FilterHash {
    /// - `parts`: the list's name and its filters' names and values, in a fixed order.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut hash = Sha256::new();
        for (name, value) in parts {
            for text in [name, value] {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text);
            }
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        Self([a, b, c, d, e, f, g, h])
    }
}

/// Writes a cursor that stands behind the item with these numbers.
pub(crate) fn encode<const N: usize>(filter: FilterHash, position: [i64; N]) -> String {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&filter.0);
    for number in position {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor that [`encode`] wrote for the same filter.
pub(crate) fn decode<const N: usize>(text: &str, filter: FilterHash) -> Result<[i64; N], ApiError> {
    let bad = |code, detail: &str| ApiError::Malformed {
        code,
        detail: detail.to_owned(),
    };
    let unknown = || bad("bad_cursor", "`cursor` is not one that a list returned");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| unknown())?;
    let Some((&FORMAT, rest)) = bytes.split_first() else {
        return Err(unknown());
    };
    let (hash, numbers) = rest.split_at_checked(8).ok_or_else(unknown)?;
    if numbers.len() != 8 * N {
        return Err(unknown());
    }
    if hash != filter.0 {
        return Err(bad(
            "cursor_mismatch",
            "`cursor` belongs to another filter: begin again without it",
        ));
    }
    let mut position = [0; N];
    for (slot, bytes) in position.iter_mut().zip(numbers.chunks_exact(8)) {
        *slot = i64::from_be_bytes(bytes.try_into().map_err(|_| unknown())?);
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<const N: usize>(text: &str, filter: FilterHash) -> &'static str {
        match decode::<N>(text, filter) {
            Ok(_) => "ok",
            Err(ApiError::Malformed { code, .. }) => code,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_cursor_reads_back_under_its_own_filter_only() {
        let filter = FilterHash::of([("deliveries", ""), ("status", "dead")]);
        let other = FilterHash::of([("deliveries", ""), ("status", "held")]);
        let text = encode(filter, [7, i64::MAX]);
        assert_eq!(decode(&text, filter).unwrap(), [7, i64::MAX]);
        let cases = [
            (&*text, filter, "ok"),
            (&text, other, "cursor_mismatch"),
            (&text[1..], filter, "bad_cursor"),
            (&text[..text.len() - 4], filter, "bad_cursor"),
            ("", filter, "bad_cursor"),
            ("%%%", filter, "bad_cursor"),
            ("AAAA", filter, "bad_cursor"),
        ];
        for (text, filter, expected) in cases {
            assert_eq!(code::<2>(text, filter), expected, "{text}");
        }
        assert_eq!(code::<1>(&text, filter), "bad_cursor");
    }

    #[test]
    fn filters_that_only_look_alike_differ() {
        assert_ne!(FilterHash::of([("a", "bc")]), FilterHash::of([("ab", "c")]));
        assert_ne!(
            FilterHash::of([("a", ""), ("b", "")]),
            FilterHash::of([("a", "")])
        );
    }
}
