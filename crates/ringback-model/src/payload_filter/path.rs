//! Where in an event a condition looks.

use super::json::MAX_DEPTH;

/// A dotted path into an event: `data.total`, `labels.region`, `type`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilterPath(pub(super) Root);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Root {
    Type,
    /// The label of this name.
    Label(Box<str>),
    /// Names of members and indexes of elements, from outside in.
    Data(Parts),
}

/// Names that are not empty and have no NUL: with one between them, they are one text,
/// which matters where there are very many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Parts(Box<str>);

impl Parts {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        // Without any, the text is empty.
        self.0.split('\0').filter(|part| !part.is_empty())
    }
}

impl FilterPath {
    /// Reads a path; `None` if it is none.
    ///
    /// A dot parts names; `\.` is a dot in a name and `\\` a backslash. Labels do not
    /// nest, so all that stands behind `labels.` is the name of one, dots and all.
    pub(super) fn read(text: &str) -> Option<Self> {
        if text == "type" {
            return Some(Self(Root::Type));
        }
        if let Some(name) = text.strip_prefix("labels.") {
            return (!name.is_empty()).then(|| Self(Root::Label(name.into())));
        }
        let parts = match text.strip_prefix("data")? {
            "" => Vec::new(),
            rest => split(rest.strip_prefix('.')?)?,
        };
        (parts.len() <= MAX_DEPTH).then(|| Self(Root::Data(Parts(parts.join("\0").into()))))
    }
}

fn split(text: &str) -> Option<Vec<String>> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('\\') => match chars.next()? {
                escaped @ ('.' | '\\') => part.push(escaped),
                _ => return None,
            },
            None | Some('.') if part.is_empty() => return None,
            Some('\0') => return None,
            Some('.') => parts.push(std::mem::take(&mut part)),
            Some(other) => part.push(other),
            None => {
                parts.push(part);
                return Some(parts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_begins_at_one_of_three_roots() {
        let data = |parts: &[&str]| {
            let root = Root::Data(Parts(parts.join("\0").into()));
            let Root::Data(joined) = &root else { panic!() };
            assert!(joined.iter().eq(parts.iter().copied()));
            Some(root)
        };
        let label = |name: &str| Some(Root::Label(name.into()));
        let deepest = format!("data{}", ".a".repeat(MAX_DEPTH));
        let cases = [
            ("type", Some(Root::Type)),
            ("data", data(&[])),
            ("data.total", data(&["total"])),
            ("data.items.0.sku", data(&["items", "0", "sku"])),
            (r"data.a\.b\\.c", data(&[r"a.b\", "c"])),
            ("data.größe", data(&["größe"])),
            ("labels.region", label("region")),
            ("labels.k8s.io/name", label("k8s.io/name")),
            (&deepest, data(&["a"; MAX_DEPTH])),
            (&format!("{deepest}.a"), None),
            ("", None),
            ("total", None),
            ("database", None),
            ("data.", None),
            ("data..a", None),
            ("data.a.", None),
            (r"data.a\", None),
            (r"data.a\n", None),
            ("data.a\0b", None),
            ("labels", None),
            ("labels.", None),
            ("type.a", None),
            ("types", None),
        ];
        for (text, expected) in cases {
            assert_eq!(FilterPath::read(text), expected.map(FilterPath), "{text}");
        }
    }
}
