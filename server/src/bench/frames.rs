//! What the load generator understands of the server's frames: as little as it can, since it has
//! to be cheaper than what it measures.
//!
//! A frame is not parsed as JSON. The first position of an `events` message stands at a fixed
//! place, the others behind a name that nothing else in these messages contains (the benchmarks
//! make their own payloads).

use anyhow::{Result, bail};
use memchr::memmem::Finder;

/// How a message with events begins where the handle is 0.
const EVENTS: &[u8] = b"{\"type\":\"events\",\"sub\":0,\"events\":[{\"position\":";

/// What stands before each position.
const POSITION: &[u8] = b"{\"position\":";

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// RFC 6455, section 5.2: 1 text, 8 close, 9 ping.
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
}

/// The first frame of `bytes` and the bytes it takes; `None` where it is not whole yet.
///
/// # Errors
///
/// It is fragmented, masked, or has reserved bits: this server sends none such.
pub(super) fn first_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let [head, len, rest @ ..] = bytes else { return Ok(None) };
    if head & 0xF0 != 0x80 || len & 0x80 != 0 {
        bail!("not a frame of this server: it begins with {head:#04x} {len:#04x}");
    }
    let (len, start) = match (len, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
        }
        (126 | 127, _) => return Ok(None),
        (len, _) => (u64::from(*len), 2),
    };
    let end = start + usize::try_from(len)?;
    let frame = |payload| (Frame { opcode: head & 0x0F, payload }, end);
    Ok(bytes.get(start..end).map(frame))
}

/// Finds positions in messages.
#[derive(Debug)]
pub(super) struct Positions {
    finder: Finder<'static>,
    /// The last position is looked for in so many bytes at the end of a message.
    event_bytes_max: usize,
}

impl Positions {
    /// For events that take at most `event_bytes_max` bytes as JSON.
    pub(super) fn new(event_bytes_max: usize) -> Self {
        Self { finder: Finder::new(POSITION), event_bytes_max }
    }

    /// The positions of the first and the last event; `None` if it is not a message with events.
    pub(super) fn ends(&self, message: &[u8]) -> Option<(u64, u64)> {
        let first = number(message.strip_prefix(EVENTS)?);
        let tail = &message[message.len().saturating_sub(self.event_bytes_max)..];
        let last = self.finder.find_iter(tail).last();
        Some((first, last.map_or(first, |at| number(&tail[at + POSITION.len()..]))))
    }

    /// Every position of a message with events.
    pub(super) fn all<'a>(&'a self, message: &'a [u8]) -> impl Iterator<Item = u64> + 'a {
        self.finder.find_iter(message).map(|at| number(&message[at + POSITION.len()..]))
    }
}

/// The number after the first `name` in `message`, such as `"position":`.
pub(super) fn number_after(name: &str, message: &[u8]) -> Option<u64> {
    let at = memchr::memmem::find(message, name.as_bytes())?;
    Some(number(&message[at + name.len()..]))
}

/// The digits at the beginning of `text`, as a number.
fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u64, digit| number.wrapping_mul(10) + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tidewire_protocol::frame::{Opcode, encode_header};

    use super::*;

    #[test]
    fn a_frame_is_whole_or_not_there_at_every_cut() {
        for len in [0, 5, 125, 126, 65_535, 65_536] {
            let payload = vec![b'a'; len];
            let mut bytes = BytesMut::new();
            encode_header(Opcode::Text, len, &mut bytes);
            bytes.extend_from_slice(&payload);
            for cut in (0..bytes.len()).step_by(1 + len / 100) {
                assert_eq!(first_frame(&bytes[..cut]).expect("a good frame"), None);
            }
            let whole = Frame { opcode: 1, payload: &payload };
            assert_eq!(first_frame(&bytes).expect("a good frame"), Some((whole, bytes.len())));
        }
        assert!(first_frame(b"\x01\x00").is_err(), "fragmented");
        assert!(first_frame(b"\x81\x80").is_err(), "masked");
    }

    #[test]
    fn positions_are_found_without_parsing() {
        let event = |position| format!("{{\"position\":{position},\"data\":{{\"n\":7}}}}");
        let message = format!(
            "{{\"type\":\"events\",\"sub\":0,\"events\":[{},{},{}]}}",
            event(9),
            event(10),
            event(11)
        );
        let positions = Positions::new(60);
        assert_eq!(positions.ends(message.as_bytes()), Some((9, 11)));
        assert_eq!(positions.all(message.as_bytes()).collect::<Vec<_>>(), [9, 10, 11]);
        let one = format!("{{\"type\":\"events\",\"sub\":0,\"events\":[{}]}}", event(3));
        assert_eq!(positions.ends(one.as_bytes()), Some((3, 3)));
        assert_eq!(positions.ends(b"{\"type\":\"live\",\"sub\":0,\"position\":4}"), None);
        assert_eq!(number_after("\"position\":", b"{\"position\":4}"), Some(4));
    }
}
