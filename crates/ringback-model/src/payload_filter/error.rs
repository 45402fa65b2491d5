//! Why a filter is refused.

use super::{MAX_BYTES, MAX_CONDITIONS, MAX_NESTING};

/// A text cannot be a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidFilter {
    /// Where in the filter, as a JSON pointer.
    pub pointer: String,
    /// What is wrong there.
    pub problem: FilterProblem,
}

/// What is wrong with a filter, and what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterProblem {
    /// Not JSON at all.
    #[error("is not JSON")]
    NotJson,
    /// Longer than 8 KiB without its spaces.
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// More than 200 conditions.
    #[error(
        "the filter has more than {MAX_CONDITIONS} conditions, of which each value in a list is one"
    )]
    TooManyConditions,
    /// More than 8 deep.
    #[error("`any`, `all` and `not` stand in each other more than {MAX_NESTING} deep")]
    TooDeep,
    /// Something else where conditions belong.
    #[error(r#"must be an object of conditions, like {{"data.total":{{"gte":1}}}}"#)]
    NotConditions,
    /// `{}`, or an empty list.
    #[error("is empty; leave it out, or name a condition")]
    Empty,
    /// The same name twice in one object.
    #[error("is there twice; put the two into `all`")]
    Twice,
    /// A member that is no path.
    #[error(
        r"is no path into an event; use `type`, `labels.<name>` or `data.<name>.<name>…`, with `\.` for a dot in a name, or `any`, `all` or `not`"
    )]
    BadPath,
    /// A value that is neither a scalar nor operators.
    #[error(
        r#"must be a string, a number, true, false, null, or operators like {{"gte":1}}; for one of several write {{"in":[…]}}"#
    )]
    NotComparable,
    /// No operator of this name.
    #[error("is no operator; use `eq ne in nin gt gte lt lte exists` or `prefix`")]
    UnknownOperator,
    /// For `eq ne`, and the elements of `in nin`.
    #[error("must be a string, a number, true, false or null")]
    NotScalar,
    /// For `in nin any all`.
    #[error("must be a list")]
    NotList,
    /// For `gt gte lt lte`.
    #[error("must be a number or a string: nothing else has an order")]
    NotOrdered,
    /// For `prefix`.
    #[error("must be a string")]
    NotText,
    /// For `exists`.
    #[error("must be true or false")]
    NotBool,
    /// A number that most programs could not read back.
    #[error("is too large or too small a number; use one up to 1.7e308")]
    NumberOutOfRange,
    /// A lone surrogate: most programs could not read it back.
    #[error("has half of a character that is written as two `\\u…`; write both")]
    HalfACharacter,
    /// A NUL character, which only `data` may have.
    #[error("has a NUL character, which only `data` may have")]
    Nul,
}

impl FilterProblem {
    /// The fault as one word, which never changes.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::TooLong => "too_long",
            Self::TooManyConditions => "too_many",
            Self::TooDeep => "too_deep",
            Self::NotConditions
            | Self::NotComparable
            | Self::NotScalar
            | Self::NotList
            | Self::NotOrdered
            | Self::NotText
            | Self::NotBool => "wrong_type",
            Self::Empty => "empty",
            Self::Twice => "duplicate_field",
            Self::BadPath => "bad_path",
            Self::UnknownOperator => "unknown_operator",
            Self::NumberOutOfRange => "out_of_range",
            Self::HalfACharacter => "half_a_character",
            Self::Nul => "nul",
        }
    }
}
