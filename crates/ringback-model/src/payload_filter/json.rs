//! Reads what is known to be JSON, with its numbers as they are written.
//!
//! `serde_json` makes numbers into floats, so `1e400` is an error to it and `2^53 + 1`
//! another number. Here a number stays its text until it is compared.

use std::borrow::Cow;

/// How many arrays and objects may stand in each other. No path leads deeper, so what is
/// there is not read.
pub(super) const MAX_DEPTH: usize = 32;
/// An object with more members is sorted, so that looking into it stays cheap.
const MANY: usize = 16;

/// A value, borrowed from its text where that is possible.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    /// Half a surrogate pair is U+FFFD.
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// In the order of the text; sorted by name if they are many.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
    /// An array or object too deep to be looked into.
    Deep,
}

impl<'a> Json<'a> {
    /// Reads a text; `None` for much that is no JSON.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        (reader.at == text.len()).then_some(value)
    }

    /// The member of this name, the last one if there are several, as most parsers have
    /// it; or the element with this index.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) if members.len() > MANY => {
                let behind = members.partition_point(|(other, _)| **other <= *name);
                let (found, value) = members.get(behind.checked_sub(1)?)?;
                (found == name).then_some(value)
            }
            Self::Object(members) => {
                let mut backwards = members.iter().rev();
                backwards
                    .find(|(other, _)| other == name)
                    .map(|(_, value)| value)
            }
            Self::List(elements) => elements.get(index(name)?),
            _ => None,
        }
    }
}

/// An index as a path has it: without leading zeros, so that each has one name.
fn index(name: &str) -> Option<usize> {
    let is_plain = name == "0" || !name.starts_with('0');
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain && is_number).then(|| name.parse().ok()).flatten()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Steps over this byte and the space before it, if it is there.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        self.skip_space();
        match self.peek()? {
            b'{' | b'[' if depth >= MAX_DEPTH => self.skip_nested(),
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(Json::Text),
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Option<Json<'a>> {
        let is_there = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        is_there.then_some(value)
    }

    fn number(&mut self) -> Option<Json<'a>> {
        let start = self.at;
        while let Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') = self.peek() {
            self.at += 1;
        }
        (self.at > start).then(|| Json::Number(&self.text[start..self.at]))
    }

    fn list(&mut self, depth: usize) -> Option<Json<'a>> {
        self.at += 1;
        let mut elements = Vec::new();
        if self.eat(b']') {
            return Some(Json::List(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            if self.eat(b']') {
                return Some(Json::List(elements));
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        self.at += 1;
        let mut members = Vec::new();
        if self.eat(b'}') {
            return Some(Json::Object(members));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            if !self.eat(b':') {
                return None;
            }
            members.push((name, self.value(depth + 1)?));
            if self.eat(b'}') {
                break;
            }
            if !self.eat(b',') {
                return None;
            }
        }
        if members.len() > MANY {
            // Stable: of several with one name, the last stays last.
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        Some(Json::Object(members))
    }

    fn skip_nested(&mut self) -> Option<Json<'a>> {
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Some(Json::Deep);
            }
        }
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return None;
        }
        self.at += 1;
        let start = self.at;
        let plain = self.run();
        if self.peek()? == b'"' {
            self.at += 1;
            return Some(Cow::Borrowed(&self.text[start..start + plain]));
        }
        let mut decoded = self.text[start..start + plain].to_owned();
        loop {
            let from = self.at;
            let plain = self.run();
            decoded.push_str(&self.text[from..from + plain]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(Cow::Owned(decoded));
                }
                // A backslash: that is where a run ends otherwise.
                _ => decoded.push(self.escape()?),
            }
        }
    }

    /// Steps over what stands for itself; answers how many bytes that is.
    fn run(&mut self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        let length = length.unwrap_or(rest.len());
        self.at += length;
        length
    }

    fn escape(&mut self) -> Option<char> {
        self.at += 1;
        let letter = self.peek()?;
        self.at += 1;
        Some(match letter {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            b'"' | b'\\' | b'/' => char::from(letter),
            _ => return None,
        })
    }

    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        if self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            }
        }
        self.at = before;
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// As `serde_json` has it; numbers only if it can hold them.
    fn plain(json: &Json<'_>) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(is) => Value::Bool(*is),
            Json::Number(text) => serde_json::from_str(text).unwrap(),
            Json::Text(text) => Value::String(text.to_string()),
            Json::List(elements) => elements.iter().map(plain).collect(),
            Json::Object(members) => members
                .iter()
                .map(|(name, value)| (name.to_string(), plain(value)))
                .collect(),
            Json::Deep => panic!("too deep"),
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Not any float: `serde_json` reads some of them back as their neighbours.
            any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 24, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..24).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..24)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_other_parsers_read(value in any_json()) {
            for text in [value.to_string(), format!(" {value:#}\n")] {
                prop_assert_eq!(plain(&Json::read(&text).unwrap()), value.clone());
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"[\[\]{}",:\\u0-9a-fé ntrue-]{0,40}"#) {
            let _ = Json::read(&text);
        }
    }

    #[test]
    fn strings_are_decoded() {
        let cases = [
            (r#""plain é""#, "plain é"),
            (r#""\u00e9\/\"\\\n""#, "é/\"\\\n"),
            (r#""\ud83d\ude00!""#, "😀!"),
            (r#""\ud83dx""#, "\u{fffd}x"), // half a pair
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ude00""#, "\u{fffd}"),
            (r#""\u0000""#, "\0"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Json::read(text),
                Some(Json::Text(expected.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn the_last_of_several_members_counts() {
        let many: String = (0..50).map(|n| format!(r#""k{n}":{n},"#)).collect();
        for text in [
            r#"{"a":1,"b":0,"a":2}"#.to_owned(),
            format!(r#"{{"a":1,{many}"a":2}}"#),
        ] {
            let json = Json::read(&text).unwrap();
            assert_eq!(json.child("a"), Some(&Json::Number("2")), "{text}");
            assert_eq!(json.child("c"), None);
        }
    }

    #[test]
    fn elements_are_found_by_index() {
        let json = Json::read("[0, 10, 20]").unwrap();
        let cases = [
            ("0", Some("0")),
            ("2", Some("20")),
            ("3", None),
            ("01", None),
            ("-1", None),
            ("", None),
            ("99999999999999999999999", None),
        ];
        for (name, expected) in cases {
            assert_eq!(
                json.child(name),
                expected.map(Json::Number).as_ref(),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_too_deep_is_stepped_over() {
        let deep = format!(r#"[{}"]"{},1]"#, "[".repeat(100_000), "]".repeat(100_000));
        let mut json = &Json::read(&deep).unwrap();
        assert_eq!(json.child("1"), Some(&Json::Number("1")));
        for _ in 0..MAX_DEPTH {
            json = json.child("0").unwrap();
        }
        assert_eq!(json, &Json::Deep);
    }
}
