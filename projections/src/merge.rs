//! JSON merge patch (RFC 7396) in place, which can be undone: what it replaces is kept, not copied.

use serde_json::{Map, Value};

/// What takes one patch back.
#[derive(Debug)]
pub(crate) enum Undo {
    /// The value was this before.
    Was(Value),
    /// Some members of an object were this before; none: they were not there.
    Members(Vec<(String, Option<Undo>)>),
}

/// Patches `target`: a patch that is no object replaces it; else each member that is null is taken
/// out and every other one is merged in.
pub(crate) fn merge(target: &mut Value, patch: Value) -> Undo {
    let Value::Object(patch) = patch else {
        return Undo::Was(std::mem::replace(target, patch));
    };
    if let Value::Object(members) = target {
        return Undo::Members(merge_members(members, patch));
    }
    Undo::Was(std::mem::replace(target, Value::Object(bare(patch))))
}

fn merge_members(
    members: &mut Map<String, Value>,
    patch: Map<String, Value>,
) -> Vec<(String, Option<Undo>)> {
    let mut undo = Vec::with_capacity(patch.len());
    for (name, value) in patch {
        if value.is_null() {
            if let Some(was) = members.remove(&name) {
                undo.push((name, Some(Undo::Was(was))));
            }
        } else if let Some(member) = members.get_mut(&name) {
            let was = merge(member, value);
            undo.push((name, Some(was)));
        } else {
            members.insert(name.clone(), without_nulls(value));
            undo.push((name, None));
        }
    }
    undo
}

/// What a patch makes of nothing.
pub(crate) fn without_nulls(patch: Value) -> Value {
    match patch {
        Value::Object(members) => Value::Object(bare(members)),
        other => other,
    }
}

fn bare(members: Map<String, Value>) -> Map<String, Value> {
    members
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name, without_nulls(value)))
        .collect()
}

/// Takes the last patch of `target` back.
pub(crate) fn unmerge(target: &mut Value, undo: Undo) {
    match undo {
        Undo::Was(value) => *target = value,
        Undo::Members(undone) => {
            let Value::Object(members) = target else {
                unreachable!("members are kept only of an object, which a merge leaves one")
            };
            for (name, was) in undone {
                match was {
                    None => {
                        members.remove(&name);
                    }
                    Some(Undo::Was(value)) => {
                        members.insert(name, value);
                    }
                    Some(inner) => {
                        if let Some(member) = members.get_mut(&name) {
                            unmerge(member, inner);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc_hold() {
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
            let mut merged = target.clone();
            let undo = merge(&mut merged, patch.clone());
            assert_eq!(merged, result, "{target} patched by {patch}");
            unmerge(&mut merged, undo);
            assert_eq!(merged, target, "{patch} taken back");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3i64..3).prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_merged_can_be_taken_back(target in value(), patches in prop::collection::vec(value(), 1..4)) {
            let mut merged = target.clone();
            let undone: Vec<_> = patches.into_iter().map(|patch| merge(&mut merged, patch)).collect();
            for undo in undone.into_iter().rev() {
                unmerge(&mut merged, undo);
            }
            prop_assert_eq!(merged, target);
        }
    }
}
