//! Says how documents differ from those that were expected, for people.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::Value;

/// How `actual` differs from `expected`, a few lines a document; none where it does not.
pub(super) fn documents(
    expected: Vec<(String, Value)>,
    mut actual: BTreeMap<String, Value>,
) -> Option<String> {
    let mut told = String::new();
    for (key, expected) in expected {
        match actual.remove(&key) {
            None => line(&mut told, &format!("{key:?} is missing; expected {expected}")),
            Some(actual) => values(&mut told, &format!("{key:?}"), "", &expected, &actual),
        }
    }
    for (key, actual) in actual {
        line(&mut told, &format!("{key:?} was not expected: {actual}"));
    }
    (!told.is_empty()).then_some(told)
}

/// Says where two values differ, as deep down as they do.
fn values(told: &mut String, key: &str, path: &str, expected: &Value, actual: &Value) {
    if expected == actual {
        return;
    }
    if let (Value::Object(expected), Value::Object(actual)) = (expected, actual) {
        let names =
            expected.keys().chain(actual.keys().filter(|name| !expected.contains_key(*name)));
        for name in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match (expected.get(name), actual.get(name)) {
                (Some(expected), Some(actual)) => values(told, key, &path, expected, actual),
                (Some(expected), None) => {
                    line(told, &format!("{key} has no {path}; expected {expected}"));
                }
                (None, actual) => {
                    let actual = actual.unwrap_or(&Value::Null);
                    line(told, &format!("{key} has an unexpected {path}: {actual}"));
                }
            }
        }
        return;
    }
    let place = if path.is_empty() { String::new() } else { format!(" at {path}") };
    line(told, &format!("{key}{place}: expected {expected}, is {actual}"));
}

fn line(told: &mut String, text: &str) {
    let _ = write!(told, "\n  {text}");
}
