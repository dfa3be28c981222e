//! [`Reader`]: the events of a projection from the log, page by page, the next one being read while
//! this one is projected.

use std::sync::Arc;

use tidewire_eventstore::{EventStore, GlobalPosition, Page, Read, ReadError};

use super::task::Task;
use crate::definition::Definition;

/// Reads the events of one projection.
pub(super) struct Reader {
    log: Arc<dyn EventStore>,
    /// What to read; only where to begin changes.
    read: Read,
    /// The page after this position, under way.
    ahead: Option<(GlobalPosition, Task<Result<Page, ReadError>>)>,
}

impl Reader {
    /// Reads what `definition` wants, `limit` events a page.
    pub(super) fn new(log: Arc<dyn EventStore>, definition: &Definition, limit: usize) -> Self {
        let read = Read {
            types: definition.types.clone(),
            ..Read::after(definition.target.clone(), GlobalPosition::START, limit)
        };
        Self { log, read, ahead: None }
    }

    /// The page after `from`, up to `until` if there is one.
    pub(super) async fn page(
        &mut self,
        from: GlobalPosition,
        until: Option<GlobalPosition>,
    ) -> Result<Page, ReadError> {
        let page = match self.ahead.take() {
            Some((at, mut task)) if at == from && until.is_none() => {
                task.join().await.unwrap_or(Err(ReadError::Unavailable))?
            }
            _ => self.log.read(self.after(from, until)).await?,
        };
        if page.more
            && until.is_none()
            && let Some(last) = page.events.last()
        {
            let log = Arc::clone(&self.log);
            let read = self.after(last.position, None);
            let task = Task::spawn(async move { log.read(read).await });
            self.ahead = Some((last.position, task));
        }
        Ok(page)
    }

    /// Forgets what was read ahead.
    pub(super) fn reset(&mut self) {
        self.ahead = None;
    }

    fn after(&self, from: GlobalPosition, until: Option<GlobalPosition>) -> Read {
        Read { from: tidewire_eventstore::ReadStart::Position(from), until, ..self.read.clone() }
    }
}
