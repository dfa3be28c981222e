//! Ends what was started when this program is told to end: SIGINT, SIGTERM and SIGHUP.
//!
//! Whoever starts a process notes it here, and takes the note back once the process was waited for:
//! so a signal meets exactly what runs, also while a world is only half there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::process;

#[derive(Debug)]
struct Started {
    pids: BTreeSet<u32>,
    folder: Option<PathBuf>,
}

static STARTED: Mutex<Started> = Mutex::new(Started { pids: BTreeSet::new(), folder: None });

fn started() -> MutexGuard<'static, Started> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a process that was started.
pub(crate) fn began(pid: u32) {
    started().pids.insert(pid);
}

/// Takes the note of a process back, which has ended.
pub(crate) fn ended(pid: u32) {
    started().pids.remove(&pid);
}

/// Notes the folder that everything lies in; none any more.
pub(crate) fn lies_in(folder: Option<&Path>) {
    started().folder = folder.map(Path::to_owned);
}

/// From now on the signals end what runs, then this program with status 130.
///
/// # Errors
///
/// Signals cannot be listened for.
pub(crate) fn install() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        // Held until the end, so that nothing further is started.
        let started = started();
        for pid in &started.pids {
            // Also what is frozen ends by it, and PostgreSQL's children, when they find their
            // parent gone.
            process::signal(*pid, Signal::SIGKILL);
        }
        if let Some(folder) = &started.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
        eprintln!("\ninterrupted");
        std::process::exit(130);
    });
    Ok(())
}
