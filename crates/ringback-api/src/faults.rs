//! Collects what is wrong with a body, so that one answer tells all of it.

use std::collections::BTreeMap;

use crate::{body::escape, error::ApiError, problem::Fault};

const MAX_PAIRS: usize = 50;
const MAX_NAME_CHARS: usize = 64;
const MAX_VALUE_CHARS: usize = 512;

/// The faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(
        &mut self,
        pointer: impl Into<String>,
        code: &'static str,
        detail: impl Into<String>,
    ) {
        self.0.push(Fault::new(pointer, code, detail));
    }

    /// Takes a parsed field, or notes why it could not be parsed.
    pub(crate) fn keep<T, E: std::fmt::Display>(
        &mut self,
        pointer: &str,
        code: &'static str,
        parsed: Result<T, E>,
    ) -> Option<T> {
        parsed
            .map_err(|invalid| self.add(pointer, code, invalid.to_string()))
            .ok()
    }

    /// Like [`Self::finish`], with the field that [`Self::keep`] gave.
    pub(crate) fn finish_with<T>(self, kept: Option<T>) -> Result<T, ApiError> {
        kept.filter(|_| self.0.is_empty())
            .ok_or(ApiError::Invalid(self.0))
    }

    /// Refuses the body if there was a fault.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(self.0))
        }
    }

    /// Checks a text that is for people.
    pub(crate) fn check_text(&mut self, pointer: &str, text: &str, max_chars: usize) {
        if text.contains('\0') {
            self.add(
                pointer,
                "nul",
                "has a NUL character, which only `data` may have",
            );
        } else if text.chars().count() > max_chars {
            self.add(
                pointer,
                "too_long",
                format!("is longer than {max_chars} characters"),
            );
        }
    }

    /// Checks names and values that are for searching or for people.
    ///
    /// - `what`: like `label`.
    pub(crate) fn check_pairs(
        &mut self,
        pointer: &str,
        what: &str,
        pairs: &BTreeMap<String, String>,
    ) {
        if pairs.len() > MAX_PAIRS {
            self.add(
                pointer,
                "too_many",
                format!("has more than {MAX_PAIRS} entries"),
            );
        }
        for (name, value) in pairs {
            let place = format!("{pointer}/{}", escape(name));
            if !is_name(name) {
                let detail = format!(
                    "is no name of a {what}: use 1 to {MAX_NAME_CHARS} letters, digits, `_`, `.`, `/` and `-`"
                );
                self.add(&place, "bad_name", detail);
            }
            self.check_text(&place, value, MAX_VALUE_CHARS);
        }
    }
}

/// No colon, so that `name:value` in a filter can be read in one way only.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(check: impl FnOnce(&mut Faults)) -> Vec<(String, &'static str)> {
        let mut faults = Faults::default();
        check(&mut faults);
        faults
            .0
            .into_iter()
            .map(|fault| (fault.pointer, fault.code))
            .collect()
    }

    #[test]
    fn texts_are_bounded_and_without_nul() {
        let cases: [(&str, &[&str]); 5] = [
            ("", &[]),
            ("vier", &[]),
            ("vïer", &[]),
            ("fünfe", &["too_long"]),
            ("a\0", &["nul"]),
        ];
        for (text, expected) in cases {
            let found = codes(|faults| faults.check_text("/x", text, 4));
            let found: Vec<_> = found.iter().map(|(_, code)| *code).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn names_can_be_searched_for_and_every_fault_is_told() {
        let pairs = [("order", "1042"), ("a/b", "x\0"), ("a:b", "x"), ("", "x")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = codes(|faults| faults.check_pairs("/labels", "label", &pairs.into()));
        let expected = [
            ("/labels/", "bad_name"),
            ("/labels/a~1b", "nul"),
            ("/labels/a:b", "bad_name"),
        ];
        assert_eq!(
            found,
            expected.map(|(pointer, code)| (pointer.to_owned(), code))
        );
    }
}
