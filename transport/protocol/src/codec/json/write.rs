//! Writing JSON: numbers, escaped text, and objects field by field.

use std::fmt;

use bytes::{BufMut, BytesMut};

/// The most digits of a `u64`.
const DIGITS_MAX: usize = 20;

/// Writes a number in decimal.
pub(super) fn number(mut number: u64, out: &mut BytesMut) {
    let mut text = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&text[at..]);
}

/// Writes a text in quotes, escaping what RFC 8259 asks for (section 7) and nothing else.
pub(super) fn string(text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.put_slice(&bytes[done..at]);
        done = at + 1;
        match byte {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.put_slice(b"\\u00");
                out.put_u8(HEX[usize::from(control >> 4)]);
                out.put_u8(HEX[usize::from(control & 0xF)]);
            }
        }
    }
    out.put_slice(&bytes[done..]);
    out.put_u8(b'"');
}

/// An object under way. The keys are our own and need no escaping.
pub(super) struct Object<'a> {
    out: &'a mut BytesMut,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object.
    pub(super) fn begin(out: &'a mut BytesMut) -> Self {
        out.put_u8(b'{');
        Self { out, empty: true }
    }

    /// Begins a message: an object with a `type`.
    pub(super) fn message(kind: &str, out: &'a mut BytesMut) -> Self {
        let mut object = Self::begin(out);
        object.string("type", kind);
        object
    }

    /// Writes a key; the value has to follow.
    pub(super) fn key(&mut self, key: &str) -> &mut BytesMut {
        if !self.empty {
            self.out.put_u8(b',');
        }
        self.empty = false;
        self.out.put_u8(b'"');
        self.out.put_slice(key.as_bytes());
        self.out.put_slice(b"\":");
        self.out
    }

    pub(super) fn string(&mut self, key: &str, text: &str) {
        string(text, self.key(key));
    }

    /// A value without anything to escape, such as a UUID.
    pub(super) fn plain(&mut self, key: &str, value: impl fmt::Display) {
        use fmt::Write;
        // Writing into a `BytesMut` only fails past `usize::MAX` bytes.
        let _ = write!(self.key(key), "\"{value}\"");
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        number(value, self.key(key));
    }

    pub(super) fn boolean(&mut self, key: &str, value: bool) {
        self.raw(key, if value { b"true" } else { b"false" });
    }

    /// A value that is JSON already.
    pub(super) fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key).put_slice(json);
    }

    /// A list, written item by item.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(T, &mut BytesMut),
    ) {
        let out = self.key(key);
        out.put_u8(b'[');
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            write(item, out);
        }
        out.put_u8(b']');
    }

    /// Ends the object.
    pub(super) fn end(self) {
        self.out.put_u8(b'}');
    }
}
