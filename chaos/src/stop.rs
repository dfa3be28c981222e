//! Ends what was started when this program is told to end: SIGINT and SIGTERM.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::process;

type Pids = Box<dyn Fn() -> Vec<u32> + Send>;

/// Knows what runs.
#[derive(Clone, Default)]
pub(crate) struct Stopping(Arc<Mutex<Option<Pids>>>);

impl Stopping {
    /// From now on SIGINT and SIGTERM end what runs, then this program with status 130.
    ///
    /// # Errors
    ///
    /// Signals cannot be listened for.
    pub(crate) fn install() -> Result<Self> {
        let stopping = Self::default();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let watched = stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            watched.kill();
            eprintln!("\ninterrupted");
            std::process::exit(130);
        });
        Ok(stopping)
    }

    /// Notes what runs from now on.
    pub(crate) fn watch(&self, pids: impl Fn() -> Vec<u32> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(pids));
    }

    /// Nothing runs any more, or whoever runs it ends it.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn kill(&self) {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        for pid in watched.map(|pids| pids()).unwrap_or_default() {
            // A frozen process, and PostgreSQL's children, end by it as well: these when they find
            // their parent gone.
            process::signal(pid, Signal::SIGKILL);
        }
    }
}
