//! [`Condition`]: what a document has to meet, as a tree over its fields. Not authorisation.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{FieldPath, SortKey};

/// A condition. Values are compared in the order of [`SortKey`]: numbers with numbers, texts with
/// texts; a field that is absent, null, an array or an object meets no comparison but equality
/// with null.
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
    /// The field is less than the value.
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
    /// Whether `document` meets the condition.
    pub fn matches(&self, document: &Value) -> bool {
        let _ = document;
        unimplemented!("the owner of queries")
    }
}
