//! The frames of a live query: documents and changes, so many to a frame.

use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use tidewire_eventstore::GlobalPosition;
use tidewire_protocol::{
    QueryReset, Sub,
    codec::json,
    query::{Change, Document, Reached},
};

/// Most documents or changes in one frame.
const FRAME_ITEMS_MAX: usize = 256;

/// A frame takes nothing more once it has this many bytes.
const FRAME_BYTES: usize = 48 << 10;

/// Frames that several readers share.
pub(crate) type Frames = Rc<[Bytes]>;

/// The frames of a part of a state; `more` where others follow these.
pub(crate) fn state(
    sub: Sub,
    reached: Reached,
    reset: Option<QueryReset>,
    documents: &[Document],
    more: bool,
) -> Frames {
    let parts = parts(documents, json::document_bytes);
    let last = parts.len() - 1;
    let frame = |(index, part)| {
        let reset = reset.filter(|_| index == 0);
        json::encode_state_frame(sub, reached, reset, part, more || index < last)
    };
    parts.into_iter().enumerate().map(frame).collect()
}

/// The frames of one step to `position`.
pub(crate) fn changes(sub: Sub, position: GlobalPosition, changes: &[Change]) -> Frames {
    let parts = parts(changes, json::change_bytes);
    let last = parts.len() - 1;
    let frame = |(index, part)| json::encode_changes_frame(sub, position, part, index < last);
    parts.into_iter().enumerate().map(frame).collect()
}

/// Frames one after another, as one piece.
pub(crate) fn joined(frames: &Frames) -> Bytes {
    match &frames[..] {
        [one] => one.clone(),
        frames => {
            let mut all = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
            frames.iter().for_each(|frame| all.extend_from_slice(frame));
            all.freeze()
        }
    }
}

/// Cuts items into parts, one of which may be empty where there are none.
fn parts<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut parts, mut rest) = (Vec::new(), items);
    while !rest.is_empty() {
        let mut sum = 0;
        let full = rest.iter().take(FRAME_ITEMS_MAX).position(|item| {
            sum += bytes(item);
            sum >= FRAME_BYTES
        });
        let (part, later) =
            rest.split_at(full.map_or(rest.len().min(FRAME_ITEMS_MAX), |at| at + 1));
        parts.push(part);
        rest = later;
    }
    if parts.is_empty() {
        parts.push(items);
    }
    parts
}

/// What was encoded of things that were read, for as long as somebody uses it.
#[derive(Debug)]
pub(crate) struct Encoded<T, K>(Vec<(std::sync::Weak<T>, K, Weak<[Bytes]>)>);

impl<T, K> Default for Encoded<T, K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, K: PartialEq> Encoded<T, K> {
    /// The frames of `read`, encoded in the way that `key` names: those that there are, or new
    /// ones.
    pub(crate) fn get(
        &mut self,
        read: &std::sync::Arc<T>,
        key: K,
        encode: impl FnOnce() -> Frames,
    ) -> Frames {
        self.0.retain(|(_, _, frames)| frames.strong_count() > 0);
        let found = self.0.iter().find(|(of, with, _)| {
            std::ptr::eq(of.as_ptr(), std::sync::Arc::as_ptr(read)) && *with == key
        });
        if let Some(frames) = found.and_then(|(_, _, frames)| frames.upgrade()) {
            return frames;
        }
        let frames = encode();
        self.0.push((std::sync::Arc::downgrade(read), key, Rc::downgrade(&frames)));
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_by_count_and_by_bytes_and_nothing_is_left_out() {
        let count = |items: &[usize]| -> Vec<usize> {
            parts(items, |bytes| *bytes).iter().map(|part| part.len()).collect()
        };
        assert_eq!(count(&[]), [0]);
        assert_eq!(count(&[1; 600]), [256, 256, 88]);
        assert_eq!(count(&[FRAME_BYTES; 3]), [1, 1, 1]);
        assert_eq!(count(&[1, FRAME_BYTES, 1]), [2, 1]);
    }
}
