//! The machine's part: cores, open files, and what a process has used of CPU and memory.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result, bail};

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux that Rust runs on
/// (proc(5), sysconf(3)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Files that a process has open beside its sockets, generously.
const FILES_BESIDE: u64 = 64;

/// Which cores the two sides have; `None` where they share what there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pins {
    /// The server's core, or that of whatever stands in its place.
    pub(super) server: Option<usize>,
    /// The load generator's core.
    pub(super) load: Option<usize>,
}

impl Pins {
    /// What a reader of the figures has to know.
    pub(super) fn note(&self) -> String {
        match (self.server, self.load) {
            (Some(server), Some(load)) => {
                format!("server on core {server}, load generator on core {load}")
            }
            _ => {
                "NOT pinned (no taskset, or one core): server and load generator compete".to_owned()
            }
        }
    }
}

/// Keeps this process on one core and leaves another to the server, where there are two and
/// `taskset` (util-linux) is there to do it.
pub(super) fn pin() -> Pins {
    let cores = allowed_cores();
    if let [server, load, ..] = cores[..] {
        let pid = std::process::id().to_string();
        let pinned = Command::new("taskset").args(["-apc", &load.to_string(), &pid]).output();
        if pinned.is_ok_and(|output| output.status.success()) {
            return Pins { server: Some(server), load: Some(load) };
        }
    }
    Pins { server: None, load: None }
}

/// The cores that this process may use, such as `0-3,8`.
fn allowed_cores() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_cores(list.unwrap_or_default())
}

fn parse_cores(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Raises the limit on open files as far as the system lets us; children inherit it.
pub(super) fn raise_open_files() {
    // Where it cannot be raised, `check_open_files` says what that means.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}

/// Makes sure that `ours` sockets here and `theirs` files in a child fit.
///
/// # Errors
///
/// They do not.
pub(super) fn check_open_files(ours: u64, theirs: u64) -> Result<()> {
    let (limit, _) = rlimit::Resource::NOFILE.get().context("the limit on open files")?;
    let needed = ours.max(theirs) + FILES_BESIDE;
    if needed > limit {
        bail!(
            "so many sessions take {needed} open files in one process, and the system allows \
             {limit}: use fewer sessions, or raise the limit (ulimit -Hn, as root) and try again"
        );
    }
    Ok(())
}

/// CPU time that a process has used, in seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct CpuTime {
    /// All of it.
    pub(super) total: f64,
    /// The same by kind of thread.
    by_kind: BTreeMap<&'static str, f64>,
}

impl CpuTime {
    /// What `pid` has used since it started.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} has gone"))?;
        let (_, total) = parse_stat(&stat).context("an unknown form of /proc/PID/stat")?;
        let mut by_kind = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            // A thread may end while it is looked at.
            let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
            if let Some((name, seconds)) = parse_stat(&stat) {
                *by_kind.entry(kind(name)).or_default() += seconds;
            }
        }
        Ok(Self { total, by_kind })
    }

    /// What was used since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |kind| earlier.by_kind.get(kind).copied().unwrap_or(0.0);
        let by_kind = self.by_kind.iter().map(|(kind, all)| (*kind, all - before(kind))).collect();
        Self { total: self.total - earlier.total, by_kind }
    }

    /// What the threads of a kind have used; see [`SOCKETS`] and [`DATABASE`].
    pub(super) fn kind(&self, kind: &str) -> f64 {
        self.by_kind.get(kind).copied().unwrap_or(0.0)
    }
}

/// The kind of thread that serves sockets, and the one that hands them the log's events.
pub(super) const SOCKETS: &str = "sockets";
/// The kind of thread that talks to the database.
pub(super) const DATABASE: &str = "database";
const OTHERS: &str = "others";

fn kind(thread: &str) -> &'static str {
    // Linux keeps 15 bytes of a name; arbiters are called `actix-rt|system:…`.
    if thread.starts_with("actix-rt") {
        SOCKETS
    } else if thread.starts_with("tidewire-") {
        DATABASE
    } else {
        OTHERS
    }
}

/// The name in a line of `stat`, and user and system time together, in seconds (proc(5)).
fn parse_stat(stat: &str) -> Option<(&str, f64)> {
    // The name may hold anything, parentheses too: what counts begins after the last one.
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some((name, ticks as f64 / TICKS_PER_SECOND))
}

/// Resident memory of `pid`, in bytes.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    // Exact, where `status` may lag by some pages for each core.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let (text, name) = match rollup {
        Ok(text) => (text, "Rss:"),
        Err(_) => (
            fs::read_to_string(format!("/proc/{pid}/status"))
                .with_context(|| format!("process {pid} has gone"))?,
            "VmRSS:",
        ),
    };
    let kib = text.lines().find_map(|line| {
        line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    Ok(kib.context("an unknown form of /proc/PID/smaps_rollup")? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read_from_a_list_of_ranges() {
        assert_eq!(parse_cores("\t0-2,8"), [0, 1, 2, 8]);
        assert_eq!(parse_cores("5"), [5]);
        assert!(parse_cores("").is_empty());
    }

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 7 0 99 1 2";
        assert_eq!(parse_stat(stat), Some(("a) b (c)", 2.0)));
        assert_eq!(parse_stat("42 (x) S 1"), None);
    }

    #[test]
    fn this_process_has_used_memory() {
        assert!(resident_bytes(std::process::id()).expect("a living process") > 100_000);
    }
}
