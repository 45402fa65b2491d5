//! What has to hold of an event.

use std::cmp::Ordering;

use super::{EventFields, FilterPath, FilterValue, event::Found};

/// A filter, or a part of one.
#[derive(Debug)]
pub(super) enum Condition {
    All(Box<[Condition]>),
    Any(Box<[Condition]>),
    Not(Box<Condition>),
    At(FilterPath, Test),
}

/// What has to hold at a path.
#[derive(Debug)]
pub(super) enum Test {
    In(Box<[FilterValue<'static>]>),
    NotIn(Box<[FilterValue<'static>]>),
    Than(Comparison, FilterValue<'static>),
    Prefix(Box<str>),
    Exists(bool),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Condition {
    /// All of them; a single one is itself.
    pub(super) fn all(mut conditions: Vec<Self>) -> Self {
        match conditions.pop() {
            Some(only) if conditions.is_empty() => only,
            last => {
                conditions.extend(last);
                Self::All(conditions.into())
            }
        }
    }

    pub(super) fn holds(&self, event: &EventFields<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(event)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(event)),
            Self::Not(part) => !part.holds(event),
            Self::At(path, test) => test.holds(&event.find(path)),
        }
    }

    /// See [`super::PayloadFilter::equalities`].
    pub(super) fn equalities<'c>(
        &'c self,
        found: &mut Vec<(&'c FilterPath, &'c [FilterValue<'static>])>,
    ) {
        match self {
            Self::All(parts) => parts.iter().for_each(|part| part.equalities(found)),
            Self::At(path, Test::In(values)) => found.push((path, values)),
            Self::At(..) | Self::Any(_) | Self::Not(_) => {}
        }
    }
}

impl Test {
    fn holds(&self, found: &Found<'_>) -> bool {
        let value = match found {
            Found::Value(value) => Some(value),
            Found::Missing | Found::Incomparable => None,
        };
        let is_in = |values: &[FilterValue<'static>]| {
            value.is_some_and(|value| values.iter().any(|one| one == value))
        };
        match self {
            Self::In(values) => is_in(values),
            Self::NotIn(values) => !is_in(values),
            Self::Than(comparison, bound) => value
                .and_then(|value| value.order(bound))
                .is_some_and(|order| comparison.holds(order)),
            Self::Prefix(prefix) => value
                .and_then(FilterValue::as_text)
                .is_some_and(|text| text.starts_with(&**prefix)),
            Self::Exists(wanted) => *wanted != matches!(found, Found::Missing),
        }
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }
}
