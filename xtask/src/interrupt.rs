//! What Ctrl-C and SIGTERM end: the running command's whole process group, and PostgreSQL.
//!
//! Every command runs in a process group of its own, so that whatever it started ends with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::postgres::Cluster;

#[derive(Debug, Default)]
struct Owned {
    group: Option<Pid>,
    postgres: Option<Cluster>,
}

static OWNED: Mutex<Owned> = Mutex::new(Owned { group: None, postgres: None });

fn owned() -> MutexGuard<'static, Owned> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on SIGINT, SIGTERM and SIGHUP clean up and exit with status 130.
pub(crate) fn install() {
    let handler = || {
        let (group, postgres) = {
            let mut owned = owned();
            (owned.group.take(), owned.postgres.take())
        };
        if let Some(group) = group {
            let _ = killpg(group, Signal::SIGTERM);
        }
        drop(postgres);
        eprintln!("\ninterrupted");
        std::process::exit(130);
    };
    ctrlc::set_handler(handler).expect("the handler is installed once, by main");
}

/// Notes the process group of the command that runs now.
pub(crate) fn group_began(group: Pid) {
    owned().group = Some(group);
}

/// The command has ended: whatever it left behind in its group is killed.
pub(crate) fn group_ended() {
    if let Some(group) = owned().group.take() {
        let _ = killpg(group, Signal::SIGKILL);
    }
}

/// Starts a cluster and keeps it until the guard is dropped or the run is interrupted. An
/// interruption meanwhile waits for the start to finish, so that it never leaves a server behind.
pub(crate) fn keep_postgres(start: impl FnOnce() -> Result<Cluster>) -> Result<PostgresGuard> {
    let mut owned = owned();
    let cluster = start()?;
    let url = cluster.url().to_owned();
    owned.postgres = Some(cluster);
    Ok(PostgresGuard { url })
}

/// Stops the kept cluster when dropped.
#[derive(Debug)]
pub(crate) struct PostgresGuard {
    url: String,
}

impl PostgresGuard {
    /// Where the cluster is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for PostgresGuard {
    fn drop(&mut self) {
        let cluster = owned().postgres.take();
        drop(cluster);
    }
}
