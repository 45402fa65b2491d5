//! Slugs: the names that people give to applications.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of an application in paths and bodies: `billing`.
///
/// Lower-case letters, digits, `-` and `_`, 1 to 64 characters, beginning with a
/// letter or digit. It never looks like an id, so `{app}` may be either.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

/// A text cannot be a slug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "use 1 to 64 lower-case letters, digits, `-` and `_`, beginning with a letter or digit and not with `app_`"
)]
pub struct InvalidSlug;

impl Slug {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Slug {
    type Err = InvalidSlug;

    fn from_str(text: &str) -> Result<Self, InvalidSlug> {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
            && !text.starts_with(['-', '_'])
            && !text.starts_with("app_");
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSlug)
        }
    }
}

impl TryFrom<String> for Slug {
    type Error = InvalidSlug;

    fn try_from(text: String) -> Result<Self, InvalidSlug> {
        text.parse()
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_short_lower_case_names() {
        let long = "a".repeat(65);
        let cases = [
            ("billing", true),
            ("team-7_eu", true),
            ("7up", true),
            ("", false),
            ("-x", false),
            ("Billing", false),
            ("a b", false),
            ("app_02xk6m3q9s0w1", false), // reads as an id
            (&*long, false),
        ];
        for (text, fits) in cases {
            assert_eq!(text.parse::<Slug>().is_ok(), fits, "{text}");
        }
    }
}
