//! Event types, and the patterns that subscriptions choose them by.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const MAX_LENGTH: usize = 128;

/// What kind of fact an event is: dot-separated parts, `order.paid`.
///
/// Each part is of `[A-Za-z0-9_-]`; at most 128 characters in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(String);

/// A text cannot be an event type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "use parts of letters, digits, `_` and `-`, separated by dots, at most 128 characters in all, like `order.paid`"
)]
pub struct InvalidEventType;

impl EventType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one that Ringback itself emits: its first part is `ringback`.
    ///
    /// Producers cannot emit those, and only patterns that begin with `ringback` match
    /// them.
    ///
    /// ```
    /// # use ringback_model::EventType;
    /// let cases = [
    ///     ("ringback.subscription.disabled", true),
    ///     ("ringback", true),
    ///     ("ringbacks.sold", false),
    ///     ("order.ringback", false),
    ///     ("Ringback.sold", false),
    /// ];
    /// for (text, is_system) in cases {
    ///     assert_eq!(text.parse::<EventType>()?.is_system(), is_system, "{text}");
    /// }
    /// # Ok::<(), ringback_model::InvalidEventType>(())
    /// ```
    pub fn is_system(&self) -> bool {
        self.0.split('.').next() == Some("ringback")
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventType {
    type Err = InvalidEventType;

    fn from_str(text: &str) -> Result<Self, InvalidEventType> {
        if is_dotted(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidEventType)
        }
    }
}

impl TryFrom<String> for EventType {
    type Error = InvalidEventType;

    fn try_from(text: String) -> Result<Self, InvalidEventType> {
        if is_dotted(&text) {
            Ok(Self(text))
        } else {
            Err(InvalidEventType)
        }
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.0
    }
}

/// Which event types a subscription wants.
///
/// ```
/// # use ringback_model::EventTypePattern;
/// let cases = [
///     ("order.paid", "order.paid", true),
///     ("order.paid", "order.paid.twice", false),
///     ("order.*", "order.paid", true),
///     ("order.*", "order.line.added", true), // any depth
///     ("order.*", "order", false),
///     ("order.*", "orders.paid", false),
///     ("*", "anything.at.all", true),
///     ("*", "ringback.delivery.dead", false), // system events have to be asked for
///     ("ringback.*", "ringback.delivery.dead", true),
///     ("ringback.delivery.*", "ringback.delivery.dead", true),
///     ("ringback.delivery.dead", "ringback.delivery.dead", true),
///     ("ringback.subscription.*", "ringback.delivery.dead", false),
/// ];
/// for (pattern, event_type, matches) in cases {
///     let pattern: EventTypePattern = pattern.parse()?;
///     assert_eq!(pattern.matches(&event_type.parse().unwrap()), matches, "{pattern} {event_type}");
/// }
/// # Ok::<(), ringback_model::InvalidPattern>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EventTypePattern {
    /// `*`: every type but those of system events.
    Any,
    /// `order.*`: every type below `order`; held with its final dot.
    Below(String),
    /// `order.paid`: just this one.
    Exactly(EventType),
}

/// A text cannot be a pattern of event types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use an event type like `order.paid`, a prefix like `order.*`, or `*`")]
pub struct InvalidPattern;

impl EventTypePattern {
    /// Whether a subscription with this pattern wants events of `event_type`.
    pub fn matches(&self, event_type: &EventType) -> bool {
        match self {
            Self::Any => !event_type.is_system(),
            Self::Below(prefix) => event_type.0.starts_with(prefix.as_str()),
            Self::Exactly(wanted) => wanted == event_type,
        }
    }
}

impl fmt::Display for EventTypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(prefix) => write!(f, "{prefix}*"),
            Self::Exactly(event_type) => event_type.fmt(f),
        }
    }
}

impl FromStr for EventTypePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_suffix(".*") {
            Some(parent) if is_dotted(parent) && text.len() <= MAX_LENGTH => {
                Ok(Self::Below(format!("{parent}.")))
            }
            Some(_) => Err(InvalidPattern),
            None => text
                .parse()
                .map(Self::Exactly)
                .map_err(|InvalidEventType| InvalidPattern),
        }
    }
}

impl TryFrom<String> for EventTypePattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<EventTypePattern> for String {
    fn from(pattern: EventTypePattern) -> Self {
        pattern.to_string()
    }
}

fn is_dotted(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    text.len() <= MAX_LENGTH && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_are_dotted_names() {
        let long = "a".repeat(129);
        let cases = [
            ("order.paid", true),
            ("github.push", true),
            ("Order_1-x.PAID", true),
            ("order", true),
            ("", false),
            (".paid", false),
            ("order.", false),
            ("order..paid", false),
            ("order paid", false),
            ("order.*", false),
            ("bestellung.bezählt", false),
            (&*long, false),
        ];
        for (text, fits) in cases {
            assert_eq!(text.parse::<EventType>().is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn patterns_have_one_star_and_it_is_last() {
        for bad in [
            "",
            "*.paid",
            "order.*.paid",
            "order*",
            ".*",
            "order..*",
            "**",
        ] {
            assert!(bad.parse::<EventTypePattern>().is_err(), "{bad}");
        }
    }
}
