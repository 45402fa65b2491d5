//! Typed identifiers: 64 bits that sort by the time they were made.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 2024-01-01T00:00:00Z in Unix milliseconds: ids count from here.
const EPOCH_MS: i64 = 1_704_067_200_000;
const NODE_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
const TIME_SHIFT: u32 = NODE_BITS + SEQUENCE_BITS;

/// Crockford base 32 in lower case: no i, l, o or u, so an id can be read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a 64-bit number in base 32.
const WIDTH: usize = 13;

/// A text is not an identifier of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}` and {length} characters of Crockford base 32")]
pub struct ParseIdError {
    prefix: &'static str,
    length: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// The lowest id: a cursor before everything.
            pub const MIN: Self = Self(0);
            /// The highest id: a cursor after everything.
            pub const MAX: Self = Self(i64::MAX);

            /// Takes a number that came from [`Self::get`] or an [`IdGenerator`].
            pub const fn new(raw: i64) -> Self {
                Self(raw)
            }

            /// The number, as databases keep it.
            pub const fn get(self) -> i64 {
                self.0
            }

            /// When it was made, to the millisecond.
            pub fn time(self) -> DateTime<Utc> {
                time_of(self.0)
            }

            /// The node that made it.
            pub const fn node(self) -> NodeId {
                NodeId((self.0 >> SEQUENCE_BITS & (NodeId::COUNT - 1) as i64) as u16)
            }

            /// The lowest id that could be made at `time`.
            pub fn floor(time: DateTime<Utc>) -> Self {
                Self(floor_of(time))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(encode(self.0, &mut [0; WIDTH]))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .and_then(decode)
                    .map(Self)
                    .ok_or(ParseIdError { prefix: $prefix, length: WIDTH })
            }
        }

        text_serde!($name);
    };
}

/// Serialises a type as its `Display` text and reads it back through `FromStr`.
macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// Identifies an application: the tenant that owns subscriptions and events.
    AppId, "app_"
}
id! {
    /// Identifies a subscription: one application's standing wish for events.
    SubscriptionId, "sub_"
}
id! {
    /// Identifies an event; also the `webhook-id` its receivers see.
    ///
    /// 64 bits: milliseconds, node, sequence, so ids sort by acceptance. Written
    /// `evt_` and 13 characters of Crockford base 32.
    ///
    /// ```
    /// # use ringback_model::EventId;
    /// let text = "evt_02xk6m3q9s0w1";
    /// assert_eq!(text.parse::<EventId>()?.to_string(), text);
    /// assert!(text.replace("evt_", "dlv_").parse::<EventId>().is_err());
    /// # Ok::<(), ringback_model::ParseIdError>(())
    /// ```
    EventId, "evt_"
}
id! {
    /// Identifies an API key; not the key itself.
    KeyId, "key_"
}

/// Identifies a delivery: one event on its way to one subscription.
///
/// It has no number of its own: it is the pair. Written `dlv_`, then the event,
/// then the subscription, 13 characters each.
///
/// ```
/// # use ringback_model::{DeliveryId, EventId, SubscriptionId};
/// let id = DeliveryId { event: EventId::new(7), subscription: SubscriptionId::new(32) };
/// assert_eq!(id.to_string(), "dlv_00000000000070000000000010");
/// assert_eq!(id.to_string().parse(), Ok(id));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The event that is delivered.
    pub event: EventId,
    /// The subscription it is delivered to.
    pub subscription: SubscriptionId,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pair(f, "dlv_", *self)
    }
}

impl FromStr for DeliveryId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.strip_prefix("dlv_")
            .and_then(read_pair)
            .ok_or(ParseIdError {
                prefix: "dlv_",
                length: 2 * WIDTH,
            })
    }
}

text_serde!(DeliveryId);

/// Identifies an attempt: the `number`-th HTTP exchange of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The delivery it belongs to.
    pub delivery: DeliveryId,
    /// Counted from 1.
    pub number: u16,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pair(f, "att_", self.delivery)?;
        write!(f, "{:04x}", self.number)
    }
}

impl Serialize for AttemptId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A running process, as numbered by its registration in the database: 0 to 1023.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u16);

impl NodeId {
    /// How many nodes can be registered in one database.
    pub const COUNT: u16 = 1 << NODE_BITS;

    /// `None` if the number does not fit in an id.
    pub const fn new(number: u16) -> Option<Self> {
        if number < Self::COUNT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number, as databases keep it.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Makes ids for one node: unique, and rising also when the clock steps back.
#[derive(Debug)]
pub struct IdGenerator {
    node: NodeId,
    /// Time and sequence of the last id, without the node's bits.
    last: AtomicI64,
}

impl IdGenerator {
    /// Makes ids in the name of `node`, which must be held by nobody else.
    pub const fn new(node: NodeId) -> Self {
        Self {
            node,
            last: AtomicI64::new(0),
        }
    }

    /// The next number, made at `now`.
    ///
    /// More than 4096 in a millisecond borrow from the next one.
    pub fn next(&self, now: DateTime<Utc>) -> i64 {
        let floor = millis_since_epoch(now) << SEQUENCE_BITS;
        let rise = |last: i64| Some(floor.max(last + 1));
        // The closure always answers `Some`, so both arms hold the previous value.
        let (Ok(last) | Err(last)) =
            self.last
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rise);
        let counter = floor.max(last + 1);
        let (time, sequence) = (
            counter >> SEQUENCE_BITS,
            counter & ((1 << SEQUENCE_BITS) - 1),
        );
        time << TIME_SHIFT | i64::from(self.node.0) << SEQUENCE_BITS | sequence
    }
}

fn millis_since_epoch(time: DateTime<Utc>) -> i64 {
    (time.timestamp_millis() - EPOCH_MS).clamp(0, (1 << 41) - 1)
}

fn floor_of(time: DateTime<Utc>) -> i64 {
    millis_since_epoch(time) << TIME_SHIFT
}

fn time_of(raw: i64) -> DateTime<Utc> {
    let millis = (raw >> TIME_SHIFT) + EPOCH_MS;
    // 41 bits of milliseconds end in 2093, well inside what chrono can hold.
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}

fn write_pair(f: &mut fmt::Formatter<'_>, prefix: &str, id: DeliveryId) -> fmt::Result {
    f.write_str(prefix)?;
    f.write_str(encode(id.event.0, &mut [0; WIDTH]))?;
    f.write_str(encode(id.subscription.0, &mut [0; WIDTH]))
}

fn read_pair(text: &str) -> Option<DeliveryId> {
    let (event, subscription) = text.split_at_checked(WIDTH)?;
    Some(DeliveryId {
        event: EventId(decode(event)?),
        subscription: SubscriptionId(decode(subscription)?),
    })
}

fn encode(raw: i64, buffer: &mut [u8; WIDTH]) -> &str {
    let mut rest = raw.cast_unsigned();
    for slot in buffer.iter_mut().rev() {
        *slot = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    // Only characters of ALPHABET were written.
    std::str::from_utf8(buffer).unwrap_or_default()
}

fn decode(text: &str) -> Option<i64> {
    if text.len() != WIDTH {
        return None;
    }
    let mut raw: u64 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)? as u64;
        if raw >> 59 != 0 {
            return None;
        }
        raw = raw << 5 | digit;
    }
    i64::try_from(raw).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(EPOCH_MS + millis).unwrap()
    }

    #[test]
    fn ids_rise_also_when_the_clock_steps_back() {
        let ids = IdGenerator::new(NodeId::new(3).unwrap());
        let made: Vec<i64> = [5, 5, 4, 6]
            .into_iter()
            .map(|ms| ids.next(at(ms)))
            .collect();
        assert!(
            made.is_sorted() && made.windows(2).all(|pair| pair[0] != pair[1]),
            "{made:?}"
        );
        assert_eq!(EventId::new(made[3]).time(), at(6));
        assert_eq!(EventId::new(made[3]).node(), NodeId(3));
    }

    #[test]
    fn a_full_millisecond_borrows_from_the_next() {
        let ids = IdGenerator::new(NodeId::new(0).unwrap());
        let made: std::collections::BTreeSet<i64> = (0..10_000).map(|_| ids.next(at(1))).collect();
        assert_eq!(made.len(), 10_000);
        assert_eq!(EventId::new(*made.last().unwrap()).time(), at(3));
    }

    #[test]
    fn nodes_never_make_the_same_id() {
        let [a, b] = [1, 2].map(|node| IdGenerator::new(NodeId::new(node).unwrap()));
        assert_ne!(a.next(at(9)), b.next(at(9)));
    }

    #[test]
    fn an_id_that_overflows_is_refused() {
        assert!("evt_zzzzzzzzzzzzz".parse::<EventId>().is_err());
        assert!("evt_7zzzzzzzzzzzz".parse::<EventId>().is_ok());
        for bad in [
            "evt_",
            "evt_0000000000000 ",
            "evt_000000000000o",
            "EVT_0000000000000",
            "évt",
        ] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }
}
