//! Which events a subscription wants, by what is in them.

mod error;
pub use error::{FilterProblem, InvalidFilter};

mod path;
pub use path::FilterPath;

mod value;
pub use value::FilterValue;

mod event;
pub use event::EventFields;

mod condition;
mod json;
mod normal;
mod number;
mod parse;

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, sync::Arc};

use self::condition::{Condition, Test};

/// The most bytes of a filter, without the spaces between its parts.
const MAX_BYTES: usize = 8 * 1024;
/// The most conditions of a filter. Each value in a list is one.
const MAX_CONDITIONS: usize = 200;
/// How deep `any`, `all` and `not` may stand in each other.
const MAX_NESTING: usize = 8;

// Filters are stored, and read back by later versions: the limits may only grow.

/// Which events a subscription wants, by what is in them.
///
/// An object, all of whose members must hold. A member is a path into the event with a
/// value, which it must equal, or with operators, which must all hold; or `any`, `all`
/// (a list of such objects) or `not` (one).
///
/// - Paths begin with `data`, `labels` or `type`. `data.items.0.sku` goes by names and
///   indexes; a dot in a name is written `\.`, a backslash `\\`. What stands behind
///   `labels.` is the name of one label, dots and all.
/// - Operators are `eq ne in nin gt gte lt lte exists prefix`. `ne` and `nin` are the
///   opposites of `eq` and `in`.
/// - Where a path leads nowhere, only `ne`, `nin` and `{"exists":false}` hold. `null` is
///   a value like any other.
/// - Numbers are compared exactly, by what they are worth; strings by their code points.
///   Values of different kinds are unequal, and neither is less. Arrays and objects equal
///   nothing: they only exist.
/// - A filter is shown to programs, so its numbers go up to 1.7e308 and its strings have
///   whole characters. An event's `data` may have what it likes.
/// - If `data` has the same name twice in an object, the last one counts.
///
/// ```
/// # use ringback_model::{EventFields, EventType, PayloadFilter};
/// let event_type = "order.paid".parse().unwrap();
/// let labels = [("region".to_owned(), "eu".to_owned())].into();
/// let data = br#"{"total":1.10,"big":9007199254740993,"huge":1e400,"note":null,
///     "paid":true,"items":[{"sku":"A-7"},{"sku":"B-1"}],"a.b":1}"#;
/// let event = EventFields::new(&event_type, &labels, data);
/// let cases = [
///     (r#"{"data.total":1.1}"#, true),
///     (r#"{"data.total":"1.1"}"#, false), // a string is no number
///     (r#"{"data.total":{"gte":1,"lt":2}}"#, true),
///     (r#"{"data.total":{"gt":"1"}}"#, false), // nor is there an order between them
///     (r#"{"data.big":9007199254740992}"#, false), // exactly
///     (r#"{"data.huge":{"gt":1e308}}"#, true),
///     (r#"{"data.paid":true,"labels.region":"eu"}"#, true), // both hold
///     (r#"{"data.paid":true,"labels.region":"us"}"#, false),
///     (r#"{"labels.region":{"in":["eu","us"]}}"#, true),
///     (r#"{"type":{"prefix":"order."}}"#, true),
///     (r#"{"data.items.1.sku":"B-1"}"#, true),
///     (r#"{"data.items":{"exists":true}}"#, true),
///     (r#"{"data.a\\.b":1}"#, true), // a name with a dot, escaped in JSON too
///     (r#"{"data.note":null}"#, true),
///     (r#"{"data.note":{"exists":true}}"#, true), // null is a value
///     (r#"{"data.gone":null}"#, false),
///     (r#"{"data.gone":{"exists":false}}"#, true),
///     (r#"{"data.gone":{"ne":1}}"#, true),
///     (r#"{"data.gone":{"nin":[1,2]}}"#, true),
///     (r#"{"data.gone":{"lt":1}}"#, false),
///     (r#"{"any":[{"data.total":{"gt":5}},{"data.paid":true}]}"#, true),
///     (r#"{"not":{"any":[{"data.paid":false},{"data.gone":1}]}}"#, true),
/// ];
/// for (filter, expected) in cases {
///     let filter: PayloadFilter = filter.parse()?;
///     assert_eq!(filter.matches(&event), expected, "{filter}");
/// }
/// # Ok::<(), ringback_model::InvalidFilter>(())
/// ```
///
/// It is displayed as it was written, but for the spaces between its parts; that is also
/// how it is stored, and two filters are equal if they are displayed alike. Clones share
/// what was parsed.
#[derive(Clone)]
pub struct PayloadFilter(Arc<Parsed>);

struct Parsed {
    text: Box<str>,
    condition: Condition,
}

impl PayloadFilter {
    /// The normal form: as it was written, without spaces between its parts.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether the event is wanted.
    pub fn matches(&self, event: &EventFields<'_>) -> bool {
        self.0.condition.holds(event)
    }

    /// What must be so of every event that matches: at this path is one of these values.
    ///
    /// For an index: who has none of the values cannot match, whatever the rest is.
    pub fn equalities(&self) -> Vec<(&FilterPath, &[FilterValue<'static>])> {
        let mut found = Vec::new();
        self.0.condition.equalities(&mut found);
        found
    }
}

impl FromStr for PayloadFilter {
    type Err = InvalidFilter;

    /// Reads a filter from JSON.
    ///
    /// # Errors
    ///
    /// [`InvalidFilter`] names the first place at which something is wrong.
    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        let text = normal::without_spaces(text)?;
        let condition = parse::filter(&text)?;
        Ok(Self(Arc::new(Parsed {
            text: text.into(),
            condition,
        })))
    }
}

impl fmt::Display for PayloadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PayloadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PayloadFilter")
            .field(&self.as_str())
            .finish()
    }
}

impl PartialEq for PayloadFilter {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for PayloadFilter {}

impl std::hash::Hash for PayloadFilter {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}
