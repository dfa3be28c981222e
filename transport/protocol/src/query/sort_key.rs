//! [`SortKey`]: JSON values as bytes whose order is the values' order, so that every store, window
//! and cursor orders documents alike.
//!
//! Values of different kinds stand in the order absent, null, false, true, numbers, texts. Arrays
//! and objects stand with the absent: they have no place in an order. Numbers are compared as
//! IEEE 754 doubles, texts by their UTF-8 bytes. A text is cut after [`SortKey::TEXT_BYTES_MAX`]
//! bytes, at a character; longer ones that begin alike are equal here.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

/// One or more values, ordered by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SortKey(Bytes);

/// What stands before each value. The gap below is for what ends a text.
mod kind {
    pub(super) const ABSENT: u8 = 0x10;
    pub(super) const NULL: u8 = 0x11;
    pub(super) const FALSE: u8 = 0x12;
    pub(super) const TRUE: u8 = 0x13;
    pub(super) const NUMBER: u8 = 0x14;
    pub(super) const TEXT: u8 = 0x15;
}

impl SortKey {
    /// What is kept of a text, in bytes.
    pub const TEXT_BYTES_MAX: usize = 256;

    /// The key of some values, the first being the most significant. A key of the first few of
    /// them is a prefix of it.
    pub fn of<'a>(values: impl IntoIterator<Item = Option<&'a Value>>) -> Self {
        let mut bytes = BytesMut::new();
        for value in values {
            put(&mut bytes, value);
        }
        Self(bytes.freeze())
    }

    /// Takes bytes that [`Self::as_bytes`] gave.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whether this begins with all of `prefix`.
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// Whether the first value of this is of the same kind as that of `other`: a number and a
    /// number, a text and a text.
    pub fn is_like(&self, other: &Self) -> bool {
        self.0.first() == other.0.first()
    }

    /// The values, as far as the key keeps them: nothing for absent ones, numbers as doubles,
    /// texts as they were cut. Bytes that are no key give what can be read of them.
    pub fn values(&self) -> Vec<Option<Value>> {
        let mut rest = &self.0[..];
        let mut values = Vec::new();
        while let Some(value) = take(&mut rest) {
            values.push(value);
        }
        values
    }
}

/// Takes the first value; none where the bytes end or are no key.
fn take(bytes: &mut &[u8]) -> Option<Option<Value>> {
    let (kind, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(Some(match *kind {
        kind::ABSENT => return Some(None),
        kind::NULL => Value::Null,
        kind::FALSE => Value::Bool(false),
        kind::TRUE => Value::Bool(true),
        kind::NUMBER => {
            let (bits, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            let bits = u64::from_be_bytes(*bits);
            number(f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits }))
        }
        kind::TEXT => {
            let mut text = Vec::new();
            loop {
                let (byte, rest) = bytes.split_first()?;
                *bytes = rest;
                if *byte == 0 {
                    let (end, rest) = bytes.split_first()?;
                    *bytes = rest;
                    if *end == 0 {
                        break;
                    }
                }
                text.push(*byte);
            }
            Value::String(String::from_utf8(text).ok()?)
        }
        _ => return None,
    }))
}

/// A double as JSON, written as a whole number where it is one.
fn number(double: f64) -> Value {
    const WHOLE_MAX: f64 = (1_u64 << 53) as f64;
    if double.fract() == 0.0 && double.abs() < WHOLE_MAX {
        return Value::from(double as i64);
    }
    Value::from(double)
}

fn put(bytes: &mut BytesMut, value: Option<&Value>) {
    match value {
        None | Some(Value::Array(_) | Value::Object(_)) => bytes.put_u8(kind::ABSENT),
        Some(Value::Null) => bytes.put_u8(kind::NULL),
        Some(Value::Bool(false)) => bytes.put_u8(kind::FALSE),
        Some(Value::Bool(true)) => bytes.put_u8(kind::TRUE),
        Some(Value::Number(number)) => {
            bytes.put_u8(kind::NUMBER);
            // A number that is no double is none of JSON's; adding zero makes −0 and 0 alike.
            let bits = (number.as_f64().unwrap_or(0.0) + 0.0).to_bits();
            let negative = bits >> 63 == 1;
            bytes.put_u64(if negative { !bits } else { bits | 1 << 63 });
        }
        Some(Value::String(text)) => {
            bytes.put_u8(kind::TEXT);
            let text = &text[..text.floor_char_boundary(SortKey::TEXT_BYTES_MAX)];
            for byte in text.bytes() {
                bytes.put_u8(byte);
                if byte == 0 {
                    // So that a text's end is less than every text that goes on.
                    bytes.put_u8(0xff);
                }
            }
            bytes.put_slice(&[0, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_ordered_as_their_values() {
        let rising = [
            None,
            Some(json!(null)),
            Some(json!(false)),
            Some(json!(true)),
            Some(json!(-1e300)),
            Some(json!(-2)),
            Some(json!(-0.5)),
            Some(json!(0)),
            Some(json!(1e-9)),
            Some(json!(3)),
            Some(json!(20)),
            Some(json!("")),
            Some(json!("\u{0}")),
            Some(json!("\u{0}a")),
            Some(json!("a")),
            Some(json!("a\u{0}")),
            Some(json!("ab")),
            Some(json!("b")),
            Some(json!("ü")),
        ];
        let keys: Vec<_> = rising.iter().map(|value| SortKey::of([value.as_ref()])).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        assert_eq!(SortKey::of([Some(&json!(-0.0))]), SortKey::of([Some(&json!(0))]));
    }

    #[test]
    fn a_key_gives_back_its_values() {
        let values = [
            None,
            Some(json!(null)),
            Some(json!(true)),
            Some(json!(-2)),
            Some(json!("a\u{0}ü")),
            Some(json!(0.25)),
            Some(json!(1e300)),
            Some(json!("")),
        ];
        let key = SortKey::of(values.iter().map(Option::as_ref));
        assert_eq!(key.values(), values);
        assert_eq!(SortKey::of([Some(&json!({}))]).values(), [None]);
        let cut = SortKey::from_bytes(key.as_bytes().slice(..key.as_bytes().len() - 1));
        assert_eq!(cut.values().len(), values.len() - 1);
        assert_eq!(SortKey::from_bytes(Bytes::from_static(b"no")).values(), []);
    }

    #[test]
    fn the_first_value_decides_and_is_a_prefix() {
        let (a, b, one, two) = (json!("a"), json!("b"), json!(1), json!(2));
        let key = |x, y| SortKey::of([Some(x), Some(y)]);
        assert!(key(&a, &two) < key(&b, &one));
        assert!(key(&a, &one) < key(&a, &two));
        assert!(key(&a, &two).starts_with(&SortKey::of([Some(&a)])));
        assert!(!key(&json!("ab"), &two).starts_with(&SortKey::of([Some(&a)])));
    }
}
