//! The cursor of a page: where the next one goes on, of which query, in which generation. Opaque
//! to clients, and of no use for anything but the same query.

use std::hash::{Hash, Hasher};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Buf, BufMut, Bytes};
use tidewire_eventstore::{DocumentKey, Generation};
use tidewire_protocol::query::{Query, SortKey};

use super::QueryError;
use crate::documents::Place;

/// The shape of a cursor.
const VERSION: u8 = 1;

/// The longest text that is looked at; far beyond the longest that is given.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// Writes the cursor of `query` that goes on after `place`.
pub(super) fn write(query: &Query, generation: Generation, place: &Place) -> String {
    let mut bytes = vec![VERSION];
    bytes.put_u64(generation.get());
    bytes.put_u64(print(query));
    let key = place.key.as_str().as_bytes();
    bytes.put_u8(u8::try_from(key.len()).expect("a key has at most 200 bytes"));
    bytes.put_slice(key);
    bytes.put_slice(place.entry.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor of `query`.
///
/// # Errors
///
/// [`QueryError::InvalidCursor`] where it is none, or another query's; [`QueryError::StaleCursor`]
/// where it is of another generation.
pub(super) fn read(text: &str, query: &Query, generation: Generation) -> Result<Place, QueryError> {
    let parsed = (text.len() <= TEXT_BYTES_MAX).then(|| parse(text)).flatten();
    let (of, print_of, place) = parsed.ok_or(QueryError::InvalidCursor)?;
    if print_of != print(query) {
        Err(QueryError::InvalidCursor)
    } else if of != generation {
        Err(QueryError::StaleCursor)
    } else {
        Ok(place)
    }
}

fn parse(text: &str) -> Option<(Generation, u64, Place)> {
    let mut bytes = Bytes::from(URL_SAFE_NO_PAD.decode(text).ok()?);
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let generation = Generation::new(bytes.try_get_u64().ok()?);
    let print = bytes.try_get_u64().ok()?;
    let key_len = usize::from(bytes.try_get_u8().ok()?);
    let key = (key_len <= bytes.len()).then(|| bytes.split_to(key_len))?;
    let key = DocumentKey::new(std::str::from_utf8(&key).ok()?).ok()?;
    Some((generation, print, Place { entry: SortKey::from_bytes(bytes), key }))
}

/// Tells queries apart, but for how many documents they want: that may differ from page to page.
fn print(query: &Query) -> u64 {
    let Query { projection, key, condition, window } = query;
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    (projection, key, condition, window.as_ref().map(|window| &window.order)).hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a, 64 bits: the same in every process, as a client may take a cursor to another node.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidewire_eventstore::ProjectionName;

    use super::*;

    fn query(projection: &str) -> Query {
        Query::all(ProjectionName::new(projection).expect("a good name"))
    }

    fn place() -> Place {
        let key = DocumentKey::new("a/1").expect("a good key");
        Place { entry: SortKey::of([Some(&json!("x")), Some(&json!(3))]), key }
    }

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let text = write(&query("p"), Generation::new(7), &place());
        assert_eq!(read(&text, &query("p"), Generation::new(7)), Ok(place()));
        let without_entry = Place { entry: SortKey::default(), ..place() };
        let text = write(&query("p"), Generation::new(7), &without_entry);
        assert_eq!(read(&text, &query("p"), Generation::new(7)), Ok(without_entry));
    }

    #[test]
    fn a_cursor_of_something_else_is_told_apart() {
        let (mine, good) = (query("p"), Generation::new(7));
        let text = write(&mine, good, &place());
        let stale = Err(QueryError::StaleCursor);
        assert_eq!(read(&text, &mine, Generation::new(8)), stale);
        let invalid = Err(QueryError::InvalidCursor);
        assert_eq!(read(&text, &query("q"), good), invalid);
        assert_eq!(read(&text, &query("q"), Generation::new(8)), invalid);
        for text in ["", "AA", "!", "ä", &text[..text.len() / 2], &"A".repeat(10_000)] {
            assert_eq!(read(text, &mine, good), invalid, "{text:?}");
        }
    }

    #[test]
    fn no_text_makes_reading_a_cursor_panic() {
        for length in 0..40 {
            for byte in [0u8, 1, 7, 255] {
                let mut bytes = vec![byte; length];
                if let Some(first) = bytes.first_mut() {
                    *first = VERSION;
                }
                let text = URL_SAFE_NO_PAD.encode(bytes);
                assert!(read(&text, &query("p"), Generation::new(1)).is_err());
            }
        }
    }
}
