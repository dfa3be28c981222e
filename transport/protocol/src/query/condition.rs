//! [`Condition`]: what a document has to meet, as a tree over its fields. Not authorisation.

mod json;

use std::collections::BTreeSet;

use serde_json::Value;

use super::{FieldPath, SortKey};

/// A condition. Values are compared in the order of [`SortKey`]: numbers with numbers, texts with
/// texts. A field that is absent, an array or an object meets no comparison; null meets equality
/// with null only.
///
/// As JSON it is an object with one key: `{"and": […]}`, `{"or": […]}`, `{"not": …}`,
/// `{"eq": [field, value]}`, `{"in": [field, [values]]}`, `{"lt": [field, value]}` and so with
/// `lte`, `gt` and `gte`, `{"prefix": [field, text]}`, `{"exists": field}`. What a newer version
/// may add is refused, never ignored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Every one of these holds; an empty list always does.
    And(Vec<Condition>),
    /// At least one of these holds; an empty list never does.
    Or(Vec<Condition>),
    /// This does not hold.
    Not(Box<Condition>),
    /// The field is one of these values. `eq` is this with one value.
    In(FieldPath, BTreeSet<SortKey>),
    /// The field is less than the value: a number or a text.
    Less(FieldPath, SortKey),
    /// The field is less than the value, or equal to it.
    AtMost(FieldPath, SortKey),
    /// The field is greater than the value.
    Greater(FieldPath, SortKey),
    /// The field is greater than the value, or equal to it.
    AtLeast(FieldPath, SortKey),
    /// The field is a text that begins with this one.
    Prefix(FieldPath, Box<str>),
    /// The document has the field, whatever it is.
    Exists(FieldPath),
}

impl Condition {
    /// The deepest nesting.
    pub const DEPTH_MAX: usize = 8;

    /// The most operators and values.
    pub const NODES_MAX: usize = 256;

    /// The longest text that fields are compared with, in bytes. What a [`SortKey`] keeps of a
    /// longer field is longer than that, so that no comparison is mistaken for being cut.
    pub const TEXT_BYTES_MAX: usize = 250;

    /// Whether `document` meets the condition.
    pub fn matches(&self, document: &Value) -> bool {
        let compare = |field: &FieldPath, value: &SortKey| {
            let found = SortKey::of([Some(field.of(document)?)]);
            found.is_like(value).then(|| found.cmp(value))
        };
        match self {
            Self::And(all) => all.iter().all(|condition| condition.matches(document)),
            Self::Or(any) => any.iter().any(|condition| condition.matches(document)),
            Self::Not(condition) => !condition.matches(document),
            Self::In(field, values) => match field.of(document) {
                None | Some(Value::Array(_) | Value::Object(_)) => false,
                Some(value) => values.contains(&SortKey::of([Some(value)])),
            },
            Self::Less(field, value) => compare(field, value).is_some_and(|order| order.is_lt()),
            Self::AtMost(field, value) => compare(field, value).is_some_and(|order| order.is_le()),
            Self::Greater(field, value) => compare(field, value).is_some_and(|order| order.is_gt()),
            Self::AtLeast(field, value) => compare(field, value).is_some_and(|order| order.is_ge()),
            Self::Prefix(field, text) => {
                field.of(document).and_then(Value::as_str).is_some_and(|it| it.starts_with(&**text))
            }
            Self::Exists(field) => field.of(document).is_some(),
        }
    }

    /// The fields that have to have one value each in every document that meets the condition:
    /// an index that begins with them finds those documents.
    pub fn equalities(&self) -> Vec<(&FieldPath, &SortKey)> {
        match self {
            Self::And(all) => all.iter().flat_map(Self::equalities).collect(),
            Self::In(field, values) if values.len() == 1 => {
                values.first().map(|value| (field, value)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Every field that the condition names, in the order in which it names them first.
    pub fn fields(&self) -> Vec<&FieldPath> {
        let mut fields = Vec::new();
        self.name_fields(&mut fields);
        fields
    }

    fn name_fields<'a>(&'a self, fields: &mut Vec<&'a FieldPath>) {
        match self {
            Self::And(list) | Self::Or(list) => {
                list.iter().for_each(|condition| condition.name_fields(fields));
            }
            Self::Not(condition) => condition.name_fields(fields),
            Self::In(field, _)
            | Self::Less(field, _)
            | Self::AtMost(field, _)
            | Self::Greater(field, _)
            | Self::AtLeast(field, _)
            | Self::Prefix(field, _)
            | Self::Exists(field) => {
                if !fields.contains(&field) {
                    fields.push(field);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
