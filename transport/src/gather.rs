//! Gathers several frames for one write; a single one is passed on without a copy.

use bytes::{Bytes, BytesMut};

/// What is to be written at once.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    first: Option<Bytes>,
    more: BytesMut,
}

impl Gather {
    /// The bytes gathered so far.
    pub(crate) fn len(&self) -> usize {
        if self.more.is_empty() {
            self.first.as_ref().map_or(0, Bytes::len)
        } else {
            self.more.len()
        }
    }

    /// Adds a frame. `expected` is how many bytes are likely to come together.
    pub(crate) fn push(&mut self, frame: Bytes, expected: usize) {
        match self.first.take() {
            None if self.more.is_empty() => self.first = Some(frame),
            first => {
                if self.more.is_empty() {
                    self.more.reserve(expected.max(frame.len()));
                }
                self.more.extend_from_slice(&first.unwrap_or_default());
                self.more.extend_from_slice(&frame);
            }
        }
    }

    /// Everything, or `None` if that is nothing.
    pub(crate) fn finish(self) -> Option<Bytes> {
        if self.more.is_empty() { self.first } else { Some(self.more.freeze()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_is_passed_on_and_several_are_joined_in_order() {
        assert_eq!(Gather::default().finish(), None);

        let frame = Bytes::from_static(b"one");
        let mut gather = Gather::default();
        gather.push(frame.clone(), 100);
        assert_eq!(gather.len(), 3);
        assert_eq!(gather.finish().expect("a frame").as_ptr(), frame.as_ptr());

        let mut gather = Gather::default();
        for frame in ["one", "two", "three"] {
            gather.push(Bytes::from_static(frame.as_bytes()), 4);
        }
        assert_eq!(gather.len(), 11);
        assert_eq!(gather.finish().expect("frames"), "onetwothree");
    }
}
