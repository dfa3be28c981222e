//! JSON merge patches (RFC 7396) between two values of a document.

use serde_json::{Map, Value};

/// The patch that makes `to` of `from`, as JSON text, where there is one. There is none where a
/// member of `to` is null, which a patch cannot say.
pub(super) fn between(from: &Value, to: &Value) -> Option<String> {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return None };
    members(from, to).map(|patch| Value::Object(patch).to_string())
}

fn members(from: &Map<String, Value>, to: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut patch = Map::new();
    for (name, value) in to {
        match (from.get(name), value) {
            (Some(was), value) if was == value => {}
            (Some(Value::Object(was)), Value::Object(value)) => {
                patch.insert(name.clone(), Value::Object(members(was, value)?));
            }
            (_, value) => {
                if has_null(value) {
                    return None;
                }
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(patch)
}

/// Whether a patch would take something out instead of setting it to null. Arrays are set whole.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().any(has_null),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Merges as RFC 7396 has it.
    pub(super) fn merge(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut members = match target {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        for (name, value) in patch {
            if value.is_null() {
                members.remove(name);
            } else {
                let member = members.remove(name).unwrap_or_default();
                members.insert(name.clone(), merge(member, value));
            }
        }
        Value::Object(members)
    }

    #[test]
    fn a_patch_says_what_differs_and_nothing_else() {
        for (from, to, patch) in [
            (json!({"a": 1, "b": 2}), json!({"a": 1, "b": 3}), Some(json!({"b": 3}))),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null}))),
            (
                json!({"a": {"x": 1, "y": 2}}),
                json!({"a": {"x": 1}}),
                Some(json!({"a": {"y": null}})),
            ),
            (json!({"a": {"x": 1}}), json!({"a": [null]}), Some(json!({"a": [null]}))),
            (json!({"a": 1}), json!({"a": {"x": {"y": 1}}}), Some(json!({"a": {"x": {"y": 1}}}))),
            (json!({"a": null}), json!({"a": null, "b": 1}), Some(json!({"b": 1}))),
            (json!({"a": 1}), json!({"a": null}), None),
            (json!({"a": 1}), json!({"a": {"x": {"y": null}}}), None),
            (json!({"a": {}}), json!({"a": {"x": null}}), None),
        ] {
            let made = between(&from, &to);
            let made = made.map(|text| serde_json::from_str::<Value>(&text).expect("JSON"));
            assert_eq!(made, patch, "{from} to {to}");
            if let Some(patch) = patch {
                assert_eq!(merge(from, &patch), to);
            }
        }
    }
}
