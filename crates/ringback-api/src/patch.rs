//! Merge patches (RFC 7396): what a PATCH says of one field.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// How often a PATCH without `If-Match` is merged anew when somebody else was quicker.
pub(crate) const TRIES: u32 = 5;

/// What a PATCH says of one field. Needs `#[serde(default)]`, for when it is not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Patch<T> {
    /// Nothing: it stays as it is.
    #[default]
    Keep,
    /// `null`: it goes back to its default.
    Reset,
    /// This.
    Set(T),
}

impl<T> Patch<T> {
    /// What to set, if anything; `default` makes what `null` stands for.
    pub(crate) fn or_reset_to(self, default: impl FnOnce() -> T) -> Option<T> {
        match self {
            Self::Keep => None,
            Self::Reset => Some(default()),
            Self::Set(value) => Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(input)?.map_or(Self::Reset, Self::Set))
    }
}

/// What a PATCH says of names and values: `null` removes a name.
pub(crate) type MapPatch = Patch<BTreeMap<String, Option<String>>>;

impl MapPatch {
    /// The names and values as they are to be; `None` if they stay as they are.
    pub(crate) fn merge_into(
        self,
        mut present: BTreeMap<String, String>,
    ) -> Option<BTreeMap<String, String>> {
        match self {
            Self::Keep => return None,
            Self::Reset => present.clear(),
            Self::Set(changes) => {
                for (name, value) in changes {
                    match value {
                        Some(value) => present.insert(name, value),
                        None => present.remove(&name),
                    };
                }
            }
        }
        Some(present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Sample {
        #[serde(default)]
        name: Patch<String>,
        #[serde(default)]
        labels: MapPatch,
    }

    #[test]
    fn a_field_is_kept_reset_or_set() {
        let cases = [
            (r#"{}"#, Patch::Keep),
            (r#"{"name":null}"#, Patch::Reset),
            (r#"{"name":"x"}"#, Patch::Set("x".to_owned())),
        ];
        for (text, expected) in cases {
            assert_eq!(
                serde_json::from_str::<Sample>(text).unwrap().name,
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn names_are_merged_and_null_removes() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        let cases = [
            (r#"{}"#, None),
            (r#"{"labels":null}"#, Some(map(&[]))),
            (r#"{"labels":{}}"#, Some(map(&[("a", "1"), ("b", "2")]))),
            (
                r#"{"labels":{"a":null,"c":"3"}}"#,
                Some(map(&[("b", "2"), ("c", "3")])),
            ),
        ];
        for (text, expected) in cases {
            let patch = serde_json::from_str::<Sample>(text).unwrap().labels;
            let merged = patch.merge_into(map(&[("a", "1"), ("b", "2")]));
            assert_eq!(merged, expected, "{text}");
        }
    }
}
