//! How large the text of a document is: as a bound that is cheap, and exactly where that is not
//! enough to tell whether it is too large.

use std::io;

use serde_json::Value;
use tidewire_eventstore::DocumentKey;

use crate::{
    documents::DOCUMENT_BYTES_MAX,
    projection::{DOCUMENT_DEPTH_MAX, ProjectError},
};

/// The longest text of a number: a sign, 17 digits, a point and an exponent, rounded up.
const NUMBER_BYTES: usize = 25;

/// A byte of a text may take six: `\u0000`.
const ESCAPE_FACTOR: usize = 6;

/// A size that the text of `value` does not exceed, and that is at most
/// [`DOCUMENT_BYTES_MAX`].
pub(super) fn check(key: &DocumentKey, value: &Value) -> Result<usize, ProjectError> {
    let Some(bound) = bound(value, DOCUMENT_DEPTH_MAX) else {
        return Err(ProjectError::DocumentTooDeep { key: key.clone() });
    };
    recheck(key, value, bound)
}

/// The same where a bound is known, and the depth is good.
pub(super) fn recheck(
    key: &DocumentKey,
    value: &Value,
    bound: usize,
) -> Result<usize, ProjectError> {
    if bound <= DOCUMENT_BYTES_MAX {
        return Ok(bound);
    }
    let bytes = exact(value);
    if bytes <= DOCUMENT_BYTES_MAX {
        Ok(bytes)
    } else {
        Err(ProjectError::DocumentTooLarge { key: key.clone(), bytes })
    }
}

/// A size that the text does not exceed; none where it is deeper than `depth`.
fn bound(value: &Value, depth: usize) -> Option<usize> {
    Some(match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => NUMBER_BYTES,
        Value::String(text) => text.len() * ESCAPE_FACTOR + 2,
        Value::Array(items) => {
            let depth = depth.checked_sub(1)?;
            items.iter().try_fold(2, |sum, item| Some(sum + 1 + bound(item, depth)?))?
        }
        Value::Object(members) => {
            let depth = depth.checked_sub(1)?;
            members.iter().try_fold(2, |sum, (name, item)| {
                Some(sum + 4 + name.len() * ESCAPE_FACTOR + bound(item, depth)?)
            })?
        }
    })
}

/// The size of the text of `value`, in bytes.
pub(crate) fn exact(value: &Value) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).expect("a JSON value has a text");
    counter.0
}

/// Counts what is written.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> DocumentKey {
        DocumentKey::new("k").expect("a good key")
    }

    #[test]
    fn the_bound_is_never_less_than_the_text() {
        for value in [
            json!({}),
            json!({"\u{1}": "\u{1f}\u{1f}\"", "a": [1, -1.7976931348623157e308, u64::MAX, i64::MIN]}),
            json!([[], [false, null, true], {"a": {}}]),
            json!({"x": -2.2250738585072014e-308}),
        ] {
            let text = value.to_string();
            assert!(bound(&value, 100).expect("not deep") >= text.len(), "{text}");
            assert_eq!(exact(&value), text.len());
        }
    }

    #[test]
    fn the_largest_and_the_deepest_are_allowed() {
        // {"a":"…"} has eight bytes besides the text.
        let fits = json!({"a": "x".repeat(DOCUMENT_BYTES_MAX - 8)});
        assert_eq!(check(&key(), &fits), Ok(DOCUMENT_BYTES_MAX));
        let large = json!({"a": "x".repeat(DOCUMENT_BYTES_MAX - 7)});
        let error = check(&key(), &large).expect_err("too large");
        assert_eq!(
            error,
            ProjectError::DocumentTooLarge { key: key(), bytes: DOCUMENT_BYTES_MAX + 1 }
        );

        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(check(&key(), &nested(DOCUMENT_DEPTH_MAX)).is_ok());
        assert_eq!(
            check(&key(), &nested(DOCUMENT_DEPTH_MAX + 1)),
            Err(ProjectError::DocumentTooDeep { key: key() })
        );
    }
}
