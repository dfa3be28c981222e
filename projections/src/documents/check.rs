//! What a store refuses without asking its database, and how it shortens what is for people.

use std::collections::HashSet;

use super::{COMMIT_WRITES_MAX, Commit, DOCUMENT_BYTES_MAX, StoreError};

/// Between the two transactions of a commit that a plant makes two.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) const PLANTED_PAUSE: std::time::Duration = std::time::Duration::from_millis(15);

/// Whether a commit is what [`Commit`] says that it is.
///
/// # Errors
///
/// [`StoreError::Refused`] where it is not.
pub(super) fn check(commit: &Commit) -> Result<(), StoreError> {
    let refused = |reason: String| Err(StoreError::Refused { reason });
    if commit.position < commit.expected {
        return refused("a commit does not move a checkpoint back".into());
    }
    if commit.writes.len() > COMMIT_WRITES_MAX {
        let writes = commit.writes.len();
        return refused(format!("{writes} writes; a commit has at most {COMMIT_WRITES_MAX}"));
    }
    let mut keys = HashSet::with_capacity(commit.writes.len());
    for write in &commit.writes {
        let bytes = write.data.as_ref().map_or(0, bytes::Bytes::len);
        if bytes > DOCUMENT_BYTES_MAX {
            return refused(format!(
                "a document of {bytes} bytes; at most {DOCUMENT_BYTES_MAX} are kept"
            ));
        }
        if write.position <= commit.expected || write.position > commit.position {
            return refused("a write stands outside its commit's positions".into());
        }
        if !keys.insert(&write.key) {
            return refused("a commit writes a document once".into());
        }
    }
    Ok(())
}

/// The first `bytes_max` bytes of a text for people, cut at a character. Control characters that a
/// database may not keep become spaces.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    let text = &text[..text.floor_char_boundary(bytes_max)];
    text.replace('\0', " ")
}
