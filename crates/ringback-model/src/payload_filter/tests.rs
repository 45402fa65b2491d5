use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::EventType;

fn filter(text: &str) -> PayloadFilter {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn order() -> EventType {
    "order.paid".parse().unwrap()
}

fn holds(filter: &PayloadFilter, data: &str) -> bool {
    filter.matches(&EventFields::new(
        &order(),
        &BTreeMap::new(),
        data.as_bytes(),
    ))
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    let deep = |levels: usize| {
        format!(
            r#"{}{{"type":"a"}}{}"#,
            r#"{"not":"#.repeat(levels),
            "}".repeat(levels)
        )
    };
    let many = |count: usize| json!({"data.a": {"in": vec![1; count]}}).to_string();
    let long = |length: usize| json!({"type": "a".repeat(length - 11)}).to_string();
    for good in [deep(8), many(200), long(8 * 1024)] {
        filter(&good);
    }
    let cases = [
        ("", "", "not_json"),
        ("{", "", "not_json"),
        (r#"{"data.a":01}"#, "", "not_json"),
        ("[]", "", "wrong_type"),
        ("true", "", "wrong_type"),
        ("{}", "", "empty"),
        (r#"{"data.a":{}}"#, "/data.a", "empty"),
        (r#"{"any":[]}"#, "/any", "empty"),
        (r#"{"any":{}}"#, "/any", "wrong_type"),
        (r#"{"any":[{"type":"a"},7]}"#, "/any/1", "wrong_type"),
        (r#"{"all":[{"all":[{}]}]}"#, "/all/0/all/0", "empty"),
        (r#"{"not":[]}"#, "/not", "wrong_type"),
        (r#"{"total":1}"#, "/total", "bad_path"),
        (r#"{"a/b~":1}"#, "/a~1b~0", "bad_path"),
        (r#"{"data.a":[1]}"#, "/data.a", "wrong_type"),
        (r#"{"data.a":{"gte":null}}"#, "/data.a/gte", "wrong_type"),
        (r#"{"data.a":{"lt":true}}"#, "/data.a/lt", "wrong_type"),
        (r#"{"data.a":{"eq":{}}}"#, "/data.a/eq", "wrong_type"),
        (r#"{"data.a":{"in":1}}"#, "/data.a/in", "wrong_type"),
        (r#"{"data.a":{"in":[]}}"#, "/data.a/in", "empty"),
        (r#"{"data.a":{"in":[1,[]]}}"#, "/data.a/in/1", "wrong_type"),
        (r#"{"data.a":{"prefix":1}}"#, "/data.a/prefix", "wrong_type"),
        (r#"{"data.a":{"exists":1}}"#, "/data.a/exists", "wrong_type"),
        (
            r#"{"data.a":{"like":1}}"#,
            "/data.a/like",
            "unknown_operator",
        ),
        (r#"{"data.a":1,"data.a":1}"#, "/data.a", "duplicate_field"),
        (
            r#"{"data.a":1e9999999999999999}"#,
            "/data.a",
            "out_of_range",
        ),
        (r#"{"data.a":{"lt":-1e309}}"#, "/data.a/lt", "out_of_range"),
        (
            r#"{"data.a":1e-9999999999999999}"#,
            "/data.a",
            "out_of_range",
        ),
        (r#"{"data.a":"\ud83d"}"#, "", "half_a_character"),
        (r#"{"data.a":"\u0000"}"#, "/data.a", "nul"),
        (&deep(9), &"/not".repeat(9), "too_deep"),
        (&many(201), "", "too_many"),
        (&long(8 * 1024 + 1), "", "too_long"),
    ];
    for (text, pointer, code) in cases {
        let error = text.parse::<PayloadFilter>().unwrap_err();
        let found = (&*error.pointer, error.problem.code());
        assert_eq!(found, (pointer, code), "{}", &text[..text.len().min(60)]);
    }
}

#[test]
fn a_filter_reads_back_as_it_was_written() {
    let written = r#" { "data.total" : { "gte" : 1.10 } ,
        "type":"a \" b\\" , "data.b":"\u00e9 é" } "#;
    let filter = filter(written);
    let expected = r#"{"data.total":{"gte":1.10},"type":"a \" b\\","data.b":"\u00e9 é"}"#;
    assert_eq!(filter.as_str(), expected);
}

#[test]
fn equalities_are_what_every_match_has() {
    let cases = [
        (r#"{"data.a":1}"#, 1),
        (r#"{"data.a":{"eq":1},"data.b":{"in":[1,2]}}"#, 2),
        (r#"{"data.a":{"in":[1],"gt":0}}"#, 1),
        (
            r#"{"all":[{"data.a":1},{"all":[{"data.b":1}]}],"type":"x"}"#,
            3,
        ),
        (r#"{"any":[{"data.a":1},{"data.b":1}]}"#, 0),
        (r#"{"not":{"data.a":1}}"#, 0),
        (r#"{"data.a":{"ne":1}}"#, 0),
        (r#"{"data.a":{"exists":true}}"#, 0),
    ];
    for (text, count) in cases {
        assert_eq!(filter(text).equalities().len(), count, "{text}");
    }
}

#[test]
fn data_is_read_only_if_a_filter_looks_into_it() {
    let (event_type, labels) = (order(), [("a".to_owned(), "1".to_owned())].into());
    let cases = [
        (
            r#"{"type":"order.paid","labels.a":"1","labels.b":{"exists":false}}"#,
            false,
        ),
        (r#"{"type":"other","data.a":1}"#, false), // the first one settles it
        (r#"{"data.a":1}"#, true),
    ];
    for (text, expected) in cases {
        let event = EventFields::new(&event_type, &labels, b"{}");
        filter(text).matches(&event);
        assert_eq!(event.was_read(), expected, "{text}");
    }
}

#[test]
fn data_need_not_be_an_object() {
    assert!(holds(&filter(r#"{"data":7}"#), "7.0"));
    assert!(holds(&filter(r#"{"data.1":"b"}"#), r#"["a","b"]"#));
    assert!(!holds(&filter(r#"{"data.a":1}"#), "7"));
    assert!(holds(&filter(r#"{"data":{"exists":true}}"#), "null"));
}

#[test]
fn a_number_beyond_comparing_equals_nothing_but_exists() {
    let data = r#"{"a":1e9999999999999999}"#;
    assert!(!holds(&filter(r#"{"data.a":{"gt":0}}"#), data));
    assert!(holds(&filter(r#"{"data.a":{"ne":1}}"#), data));
    assert!(holds(&filter(r#"{"data.a":{"exists":true}}"#), data));
}

#[test]
fn strings_are_ordered_by_code_points() {
    // UTF-16, as in JavaScript, has these two the other way round.
    assert!(holds(&filter(r#"{"data":{"gt":"\uffee"}}"#), r#""😀""#));
    assert!(holds(&filter(r#"{"data":{"lt":"a"}}"#), r#""Z""#));
    assert!(!holds(&filter(r#"{"data":"é"}"#), r#""e\u0301""#));
}

#[test]
fn an_equality_at_the_top_is_hashed_like_what_equals_it() {
    use std::collections::HashMap;
    let filter = filter(r#"{"data.a":{"in":[1.10,"x",null,true,1e2]}}"#);
    let (path, values) = filter.equalities().remove(0);
    let index: HashMap<FilterValue<'static>, ()> =
        values.iter().map(|value| (value.clone(), ())).collect();
    for (data, is_there) in [
        (r#"{"a":11e-1}"#, true),
        (r#"{"a":"\u0078"}"#, true),
        (r#"{"a":null}"#, true),
        (r#"{"a":true}"#, true),
        (r#"{"a":100}"#, true),
        (r#"{"a":"1.1"}"#, false),
        (r#"{"a":false}"#, false),
    ] {
        let (event_type, labels) = (order(), BTreeMap::new());
        let event = EventFields::new(&event_type, &labels, data.as_bytes());
        let found = event
            .value(path)
            .is_some_and(|value| index.contains_key(&value));
        assert_eq!(found, is_there, "{data}");
        assert_eq!(filter.matches(&event), is_there, "{data}");
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..3_i64).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
    ]
}

/// `data` with a few names, that few filters look for.
fn data() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[abc]", scalar(), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn operators() -> impl Strategy<Value = Value> {
    let ordered = prop_oneof![
        (-3..3_i64).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from)
    ];
    prop_oneof![
        scalar(),
        scalar().prop_map(|value| json!({"ne": value})),
        prop::collection::vec(scalar(), 1..4).prop_map(|values| json!({"in": values})),
        prop::collection::vec(scalar(), 1..4).prop_map(|values| json!({"nin": values})),
        (
            prop::sample::select(vec!["gt", "gte", "lt", "lte"]),
            ordered
        )
            .prop_map(|(operator, value)| json!({operator: value})),
        any::<bool>().prop_map(|is| json!({"exists": is})),
        "[ab]{0,1}".prop_map(|text| json!({"prefix": text})),
    ]
}

fn any_filter() -> impl Strategy<Value = Value> {
    let leaf = ("data\\.[abcd]", operators()).prop_map(|(path, test)| json!({path: test}));
    leaf.prop_recursive(3, 12, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            list.clone().prop_map(|parts| json!({"any": parts})),
            list.prop_map(|parts| json!({"all": parts})),
            inner.prop_map(|part| json!({"not": part})),
        ]
    })
}

proptest! {
    #[test]
    fn the_normal_form_is_the_same_filter(written in any_filter(), data in data()) {
        let spaced = filter(&format!("{written:#}"));
        let normal = filter(spaced.as_str());
        prop_assert_eq!(&normal, &spaced);
        prop_assert_eq!(serde_json::from_str::<Value>(normal.as_str()).unwrap(), written);
        prop_assert_eq!(holds(&normal, &data.to_string()), holds(&spaced, &data.to_string()));
    }

    #[test]
    fn not_is_the_complement(written in any_filter(), data in data()) {
        let (plain, not) = (filter(&written.to_string()), filter(&json!({"not": written}).to_string()));
        prop_assert_ne!(holds(&plain, &data.to_string()), holds(&not, &data.to_string()));
    }

    #[test]
    fn any_and_all_are_or_and_and(one in any_filter(), other in any_filter(), data in data()) {
        let data = data.to_string();
        let holds = |written: Value| holds(&filter(&written.to_string()), &data);
        let (a, b) = (holds(one.clone()), holds(other.clone()));
        prop_assert_eq!(holds(json!({"any": [one, other]})), a || b);
        prop_assert_eq!(holds(json!({"all": [one, other]})), a && b);
    }

    #[test]
    fn on_values_that_are_there_operators_have_opposites(value in -5..5_i64, bound in -5..5_i64) {
        let data = json!({"a": value}).to_string();
        let holds = |operator: &str| holds(&filter(&json!({"data.a": {operator: bound}}).to_string()), &data);
        prop_assert_ne!(holds("eq"), holds("ne"));
        prop_assert_ne!(holds("gt"), holds("lte"));
        prop_assert_ne!(holds("lt"), holds("gte"));
        prop_assert_eq!(holds("gte"), holds("gt") || holds("eq"));
    }

    #[test]
    fn an_equality_is_necessary(written in any_filter(), data in data()) {
        let (filter, data) = (filter(&written.to_string()), data.to_string());
        let (event_type, labels) = (order(), BTreeMap::new());
        let event = EventFields::new(&event_type, &labels, data.as_bytes());
        if filter.matches(&event) {
            for (path, values) in filter.equalities() {
                prop_assert!(event.value(path).is_some_and(|value| values.contains(&value)));
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in r#"[\[\]{}",:\\ 0-9adtypelbsnoij.]{0,40}"#) {
        let _ = text.parse::<PayloadFilter>();
    }
}
