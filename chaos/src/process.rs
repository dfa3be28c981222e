//! Processes of ours: signals, memory, children, limits. Linux, by `/proc`.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    process::{Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};
use tokio::process::{Child, ChildStderr, ChildStdout, Command as Start};

use crate::stop;

/// A process that was started here. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    started_as: u32,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Start) -> io::Result<Self> {
        let child = command.kill_on_drop(true).spawn()?;
        let started_as = child.id().unwrap_or_default();
        stop::began(started_as);
        Ok(Self { child, started_as })
    }

    /// Its id, until it was waited for.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait();
        if matches!(ended, Ok(Some(_))) {
            stop::ended(self.started_as);
        }
        ended
    }

    /// Waits until it ends.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        stop::ended(self.started_as);
        status
    }

    /// Kills it, and waits until it has ended.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        if let Some(pid) = self.id() {
            signal(pid, Signal::SIGKILL);
        }
        self.wait().await.map(drop)
    }

    /// What it writes, each once.
    pub(crate) fn outputs(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        stop::ended(self.started_as);
    }
}

/// Sends a signal; a process that has gone does not mind.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The resident memory in bytes, while the process lives.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The living processes whose parent is `pid`.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| state_and_parent(*child).is_some_and(|(_, parent)| parent == pid))
        .collect()
}

/// Whether the process is there and not a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Limits how large a file the process of `user`, or of ours, may write, or lifts the limit. False
/// where that is not possible.
///
/// A process may set the limits of those of its own user: so it is a process of that user, the
/// `prlimit` of util-linux, that does it.
pub(crate) fn limit_file_bytes(pid: u32, bytes: Option<u64>, user: Option<&User>) -> bool {
    let soft = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--fsize={soft}:")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_has_memory() {
        let pid = std::process::id();
        assert!(is_alive(pid));
        assert!(resident_bytes(pid).unwrap() > 1 << 20);
        assert!(!children(pid).contains(&pid));
    }
}
