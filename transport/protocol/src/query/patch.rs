//! JSON merge patches (RFC 7396): made from two values, and applied.

use serde_json::{Map, Value};

/// Applies a patch: members of objects are set, or removed where the patch has null; anything
/// else is replaced.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// The patch that makes `after` of `before`, both of them objects; none where no patch can:
/// setting a member to null is what no patch can say.
pub fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return None };
    let mut patch = Map::new();
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in after {
        let part = match (before.get(name), value) {
            (Some(same), value) if same == value => continue,
            (Some(Value::Object(_)), Value::Object(_)) => difference(&before[name], value)?,
            // Merging keeps what stands before it only between objects; into anything else an
            // object is put member by member, and loses those that are null.
            (_, value) if says_null(value) => return None,
            (_, value) => value.clone(),
        };
        patch.insert(name.clone(), part);
    }
    Some(Value::Object(patch))
}

/// Whether a value put by a patch would lose something: nulls in objects, but not in arrays,
/// which are replaced whole.
fn says_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().any(says_null),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_do_what_the_rfc_says() {
        // The rows of RFC 7396, appendix A.
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut patched = target.clone();
            merge(&mut patched, &patch);
            assert_eq!(patched, result, "{target} patched with {patch}");
        }
    }

    #[test]
    fn what_no_patch_can_say_is_said_to_be_so() {
        for (before, after) in [
            (json!({}), json!({"a": null})),
            (json!({"a": 1}), json!({"a": {"b": null}})),
            (json!({"a": {"b": 1}}), json!({"a": {"b": null}})),
        ] {
            assert_eq!(difference(&before, &after), None, "{before} to {after}");
        }
        let kept = difference(&json!({"a": null, "b": 1}), &json!({"a": null}));
        assert_eq!(kept, Some(json!({"b": null})));
    }

    fn object() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(null)), (0..3).prop_map(Value::from), Just(json!("x"))];
        let value = leaf.prop_recursive(3, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..4).prop_map(|map| json!(map)),
            ]
        });
        prop::collection::btree_map("[abc]", value, 0..4).prop_map(|map| json!(map))
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_the_one_to_the_other(before in object(), after in object()) {
            if let Some(patch) = difference(&before, &after) {
                let mut patched = before;
                merge(&mut patched, &patch);
                prop_assert_eq!(patched, after);
            }
        }

        #[test]
        fn a_difference_is_found_wherever_nothing_new_is_null(before in object(), after in object()) {
            fn without_null(value: &Value) -> Value {
                match value {
                    Value::Object(members) => members
                        .iter()
                        .filter(|(_, member)| !member.is_null())
                        .map(|(name, member)| (name.clone(), without_null(member)))
                        .collect(),
                    other => other.clone(),
                }
            }
            prop_assert!(difference(&before, &without_null(&after)).is_some());
        }
    }
}
