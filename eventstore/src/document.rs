//! What names a document of a projection: its key, and the generation it belongs to.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::NUMBER_MAX;

/// The key of a document, unique within its projection: 1–200 bytes of UTF-8 without control
/// characters. Keys are ordered by their bytes, everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentKey(Arc<str>);

/// Why a text is not the key of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has no bytes.
    Empty,
    /// The key is longer than [`DocumentKey::BYTES_MAX`].
    TooLong {
        /// The length that was offered, in bytes.
        bytes: usize,
    },
    /// The key has a control character (Unicode category Cc).
    ControlCharacter,
}

impl KeyError {
    /// The stable code of this error.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "key_empty",
            Self::TooLong { .. } => "key_too_long",
            Self::ControlCharacter => "key_control_character",
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the key is empty"),
            Self::TooLong { bytes } => write!(
                f,
                "the key has {bytes} bytes; at most {} are allowed",
                DocumentKey::BYTES_MAX
            ),
            Self::ControlCharacter => f.write_str("the key contains a control character"),
        }
    }
}

impl std::error::Error for KeyError {}

impl DocumentKey {
    /// The longest key, in bytes of UTF-8.
    pub const BYTES_MAX: usize = 200;

    /// Checks `key` and keeps it.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when the key is empty, too long, or contains a control character.
    pub fn new(key: &str) -> Result<Self, KeyError> {
        if key.is_empty() {
            Err(KeyError::Empty)
        } else if key.len() > Self::BYTES_MAX {
            Err(KeyError::TooLong { bytes: key.len() })
        } else if key.chars().any(char::is_control) {
            Err(KeyError::ControlCharacter)
        } else {
            Ok(Self(key.into()))
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for DocumentKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// One filling of a projection's documents from the log. A rebuild fills a new one beside the old
/// one; the number is never used again, by no projection of the same log.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(u64);

impl Generation {
    /// A generation, 1 to [`NUMBER_MAX`]; larger numbers are cut to that.
    pub const fn new(generation: u64) -> Self {
        Self(if generation > NUMBER_MAX { NUMBER_MAX } else { generation })
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_refused_for_what_is_wrong_with_it() {
        let long = "k".repeat(DocumentKey::BYTES_MAX + 1);
        for (text, wrong) in [
            ("", KeyError::Empty),
            (long.as_str(), KeyError::TooLong { bytes: 201 }),
            ("a\nb", KeyError::ControlCharacter),
        ] {
            assert_eq!(DocumentKey::new(text), Err(wrong), "{text:?}");
        }
        assert!(DocumentKey::new(&long[1..]).is_ok());
    }
}
