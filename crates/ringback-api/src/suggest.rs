//! "Did you mean …?": the known name that is nearest to a mistyped one.

/// The nearest of `known`, if any is near.
pub(crate) fn among<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long names need no help, and the distance costs the product of both lengths.
    if typed.len() > 64 {
        return None;
    }
    let near = known
        .into_iter()
        .map(|name| (distance(typed, name), name))
        .min()?;
    (near.0 <= 1 + typed.len() / 4).then_some(near.1)
}

/// How many letters to add, drop or change to get from one to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["event_types", "description", "url", "headers"];
        let cases = [
            ("event_type", Some("event_types")),
            ("desciption", Some("description")),
            ("ulr", None),
            ("uri", Some("url")),
            ("header", Some("headers")),
            ("colour", None),
        ];
        for (typed, expected) in cases {
            assert_eq!(among(typed, known), expected, "{typed}");
        }
    }
}
