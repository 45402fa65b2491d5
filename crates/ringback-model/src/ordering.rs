//! Which deliveries keep the order of their events.

words! {
    /// Whether a subscription's deliveries keep the order in which their events were
    /// accepted.
    Ordering {
        /// They do not.
        None = 0 "none",
        /// Those with the same ordering key do.
        Fifo = 1 "fifo",
    }
}

/// An ordering key's hash: what a row keeps of it. Deliveries of one subscription with
/// the same hash follow each other. Two keys that share one wait for each other, which
/// is harmless and rare.
///
/// ```
/// # use ringback_model::{Ordering, OrderKey};
/// let order = |key| OrderKey::of(Ordering::Fifo, key);
/// assert_eq!(order(Some("order-1042")), order(Some("order-1042")));
/// assert_ne!(order(Some("order-1042")), order(Some("order-1043")));
/// assert_eq!(order(None), order(None)); // no key is one shared key
/// assert_eq!(OrderKey::of(Ordering::None, Some("order-1042")), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(i64);

impl OrderKey {
    /// Of an event with this ordering key, for a subscription with this ordering.
    pub fn of(ordering: Ordering, key: Option<&str>) -> Option<Self> {
        match ordering {
            Ordering::None => None,
            Ordering::Fifo => Some(Self(hash(key.unwrap_or_default().as_bytes()))),
        }
    }

    /// Takes a number that came from [`Self::get`].
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number, as databases keep it.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// FNV-1a, 64 bits: the same for ever and on every machine, since rows keep it.
fn hash(bytes: &[u8]) -> i64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_rows_were_written_with() {
        // Published test vectors of FNV-1a.
        let cases = [
            ("", 0xcbf2_9ce4_8422_2325_u64),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ];
        for (key, expected) in cases {
            assert_eq!(hash(key.as_bytes()).cast_unsigned(), expected, "{key}");
        }
    }
}
