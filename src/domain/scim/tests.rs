//! The filter parser never panics, and what it has read it reads again.

use proptest::prelude::*;

use super::{
    core::{GROUPS_TYPE, USERS},
    filter::{Filter, Literal, parse_filter, parse_path},
    matching::fits,
};

/// A filter as text, as it would be written with all its parentheses.
fn written(filter: &Filter, within: bool) -> String {
    let name = |path: &super::path::AttrPath| if within { path.leaf().name.to_owned() } else { path.to_string() };
    match filter {
        Filter::And(all) => format!("({})", all.iter().map(|f| written(f, within)).collect::<Vec<_>>().join(" and ")),
        Filter::Or(any) => format!("({})", any.iter().map(|f| written(f, within)).collect::<Vec<_>>().join(" or ")),
        Filter::Not(inner) => format!("not ({})", written(inner, within)),
        Filter::Present(path) => format!("{} pr", name(path)),
        Filter::Values(path, inner) => format!("{path}[{}]", written(inner, true)),
        Filter::Compare(path, op, literal) => {
            let value = match literal {
                Literal::Text(text) => serde_json::to_string(text).unwrap(),
                Literal::Flag(flag) => flag.to_string(),
                Literal::Instant(at) => format!("\"{at}\""),
                Literal::Whole(number) => number.to_string(),
                Literal::Number(number) => number.to_string(),
            };
            format!("{} {} {value}", name(path), op.as_str())
        }
    }
}

fn term() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        Just("userName"),
        Just("externalId"),
        Just("name.givenName"),
        Just("emails.value"),
        Just("department")
    ];
    let op = prop_oneof![
        Just("eq"),
        Just("NE"),
        Just("co"),
        Just("sw"),
        Just("ew"),
        Just("gt"),
        Just("Ge"),
        Just("lt"),
        Just("le")
    ];
    let compared = (text, op, "[^\\x00]{0,12}")
        .prop_map(|(name, op, value)| format!("{name} {op} {}", serde_json::to_string(&value).unwrap()));
    prop_oneof![
        compared,
        Just("active eq true".to_owned()),
        Just("title pr".to_owned()),
        Just("meta.created ge \"2026-01-01T00:00:00Z\"".to_owned()),
        Just("emails[type eq \"work\" and not (primary eq true)]".to_owned()),
    ]
}

fn filters() -> impl Strategy<Value = String> {
    term().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} and {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or {b}")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = parse_filter(&USERS, &text);
        let _ = parse_path(&GROUPS_TYPE, &text);
    }

    #[test]
    fn nor_does_what_is_nearly_a_filter(text in "[a-zA-Z.:\\[\\]() \"\\\\eqornd]{0,120}") {
        let _ = parse_filter(&USERS, &text);
        let _ = parse_path(&USERS, &text);
    }

    #[test]
    fn what_was_read_is_read_again(text in filters()) {
        let read = parse_filter(&USERS, &text).unwrap();
        prop_assert_eq!(parse_filter(&USERS, &written(&read, false)).unwrap(), read);
    }
}

#[test]
fn and_binds_before_or_and_names_have_no_case() {
    let read = |text| written(&parse_filter(&USERS, text).unwrap(), false);
    assert_eq!(
        read("USERNAME eq \"a\" OR title pr AND active EQ \"True\""),
        "(userName eq \"a\" or (title pr and active eq true))"
    );
    assert_eq!(read("not(urn:ietf:params:scim:schemas:core:2.0:user:title pr)"), "not (title pr)");
    assert_eq!(read("emails eq \"x\""), "emails.value eq \"x\"");
    assert_eq!(read("title eq null"), "not (title pr)");
}

#[test]
fn refusals_say_where() {
    let refused = |text: &str| parse_filter(&USERS, text).unwrap_err().detail;
    assert_eq!(refused("userName eq \"a\" x"), "there is more than can be read, at character 17");
    assert_eq!(refused("flavour pr"), "there is no attribute `flavour` here, at character 1");
    assert!(refused(&"(".repeat(4000)).contains("nested"));
    assert!(refused(&vec!["title pr"; 65].join(" or ")).contains("comparisons"));
    assert!(refused(&" ".repeat(4097)).contains("bytes"));
}

#[test]
fn values_are_compared_as_their_attributes_say() {
    let Filter::Values(_, filter) = parse_filter(&USERS, "emails[type eq \"WORK\" and value sw \"a\"]").unwrap() else {
        panic!("no value path")
    };
    let value = |json: serde_json::Value| json.as_object().unwrap().clone();
    assert!(fits(&filter, &value(serde_json::json!({"type": "work", "value": "A@x"}))));
    assert!(!fits(&filter, &value(serde_json::json!({"type": "home", "value": "a@x"}))));
    assert!(!fits(&filter, &value(serde_json::json!({"value": "a@x"}))));
}
