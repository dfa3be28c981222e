//! Whose turn it is to write a file, of all in this process.
//!
//! Who finds SQLite's write lock taken sleeps and tries again, and nobody stands in line: one
//! busy connection can keep another waiting for long. So whatever writes a file in this process
//! takes turns first, in the order of coming; SQLite's lock is then held by other processes alone.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The turns of each file that is open.
static TURNS: Mutex<Option<HashMap<PathBuf, Weak<Semaphore>>>> = Mutex::new(None);

/// The turns at writing one file: the same for all in this process that write it.
#[derive(Debug, Clone)]
pub struct WriteTurns(Arc<Semaphore>);

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct WriteTurn<'a> {
    _permit: SemaphorePermit<'a>,
}

impl WriteTurns {
    /// The turns at the file at `path`, which has to be there to be known by its other names.
    pub fn of(path: &Path) -> Self {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = turns.get_or_insert_default();
        if let Some(turns) = turns.get(&path).and_then(Weak::upgrade) {
            return Self(turns);
        }
        turns.retain(|_, turns| turns.strong_count() > 0);
        let new = Arc::new(Semaphore::new(1));
        turns.insert(path, Arc::downgrade(&new));
        Self(new)
    }

    /// Waits for one's turn: first come, first served.
    pub async fn take(&self) -> WriteTurn<'_> {
        WriteTurn { _permit: self.0.acquire().await.expect("the turns are never closed") }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_file_has_the_same_turns_by_each_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let beside = folder.path().join("other.db");
        for path in [&path, &beside] {
            std::fs::write(path, "").unwrap();
        }
        let turns = WriteTurns::of(&path);
        let turn = turns.take().now_or_never().expect("nobody else");
        let again = WriteTurns::of(
            &folder.path().join("../").join(folder.path().file_name().unwrap()).join("log.db"),
        );
        assert!(again.take().now_or_never().is_none(), "it is taken");
        assert!(WriteTurns::of(&beside).take().now_or_never().is_some());
        drop(turn);
        assert!(again.take().now_or_never().is_some());
        drop((turns, again));
        assert!(WriteTurns::of(&path).take().now_or_never().is_some(), "what is over is over");
    }
}
