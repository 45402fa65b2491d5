//! The form in which a filter is stored and shown.

use serde_json::value::RawValue;

use super::{FilterProblem, InvalidFilter, MAX_BYTES};

/// The text without spaces between its parts, if it is JSON and no longer than allowed.
/// Names, numbers and strings stay as they are written.
pub(super) fn without_spaces(text: &str) -> Result<String, InvalidFilter> {
    let refuse = |problem| InvalidFilter {
        pointer: String::new(),
        problem,
    };
    // Checks the grammar, and makes nothing of it.
    serde_json::from_str::<&RawValue>(text).map_err(|_| refuse(FilterProblem::NotJson))?;
    let (mut in_string, mut escaped) = (false, false);
    let keep = |character: &char| {
        let is_space = matches!(character, ' ' | '\t' | '\n' | '\r');
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ if in_string => {}
            _ => return !is_space,
        }
        true
    };
    let normal: String = text.chars().filter(keep).collect();
    if normal.len() > MAX_BYTES {
        return Err(refuse(FilterProblem::TooLong));
    }
    Ok(normal)
}
