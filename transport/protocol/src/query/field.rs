//! [`FieldPath`]: where in a document a field is.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde_json::Value;

/// Names of members from a document's top downwards, joined by dots, such as `sender.name`: 1–200
/// bytes, at most [`Self::DEPTH_MAX`] names, none of them empty. A member whose own name has a dot
/// cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Arc<str>);

impl FieldPath {
    /// The longest path, in bytes of UTF-8.
    pub const BYTES_MAX: usize = 200;

    /// The most names in a path.
    pub const DEPTH_MAX: usize = 8;

    /// A path, if `path` is one.
    pub fn new(path: &str) -> Option<Self> {
        let good = (1..=Self::BYTES_MAX).contains(&path.len())
            && path.split('.').count() <= Self::DEPTH_MAX
            && path.split('.').all(|name| !name.is_empty())
            && !path.chars().any(char::is_control);
        good.then(|| Self(path.into()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The field's value in `document`, if it is there. Arrays are not looked into.
    pub fn of<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.split('.').try_fold(document, |value, name| value.as_object()?.get(name))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for FieldPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_down_through_objects_only() {
        let document = json!({"a": {"b": 1, "c": [2]}, "d": null});
        for (path, value) in [
            ("a.b", Some(json!(1))),
            ("a", Some(json!({"b": 1, "c": [2]}))),
            ("d", Some(json!(null))),
            ("a.c.0", None),
            ("e", None),
        ] {
            let path = FieldPath::new(path).expect("a good path");
            assert_eq!(path.of(&document), value.as_ref(), "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", ".", "a.", ".a", "a..b", "a\nb", "a.b.c.d.e.f.g.h.i"] {
            assert_eq!(FieldPath::new(path), None, "{path:?}");
        }
        assert_eq!(FieldPath::new(&"a".repeat(201)), None);
    }
}
