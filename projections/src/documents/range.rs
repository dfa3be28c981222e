//! Where the index entries that begin with a prefix end.

use tidewire_protocol::query::SortKey;

/// The least bytes that are greater than every entry that begins with `prefix`; `None` where there
/// are none, for then nothing is greater.
pub(super) fn after_prefix(prefix: &SortKey) -> Option<SortKey> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(SortKey::from_bytes(end.into()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &'static [u8]) -> SortKey {
        SortKey::from_bytes(bytes.into())
    }

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        for (prefix, end) in [
            (&b"\x15a"[..], Some(&b"\x15b"[..])),
            (b"\x15\xff", Some(b"\x16")),
            (b"\x15\xff\xff", Some(b"\x16")),
            (b"\xff\xff", None),
            (b"", None),
        ] {
            assert_eq!(after_prefix(&key(prefix)), end.map(key), "{prefix:?}");
        }
    }
}
