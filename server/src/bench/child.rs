//! A child process that is measured: this program again, with a hidden verb.
//!
//! It says on its standard output where it listens. It ends when it is dropped here, and by
//! itself when its standard input ends: so it does not outlive this process even if that is killed.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child as Process, Command},
    time::timeout,
};

use super::machine::{self, CpuTime};

/// How long a child may take to listen.
const START: Duration = Duration::from_secs(30);

/// A running child.
#[derive(Debug)]
pub(super) struct Child {
    _process: Process,
    pid: u32,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Child {
    /// Starts `tidewire bench VERB…` on `core`.
    pub(super) async fn start(verb: &[&str], core: Option<usize>) -> Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        let mut command = match core {
            None => Command::new(&program),
            Some(core) => {
                // It replaces itself by the program, whose process id is the same.
                let mut taskset = Command::new("taskset");
                taskset.args(["-c", &core.to_string()]).arg(&program);
                taskset
            }
        };
        command.arg("bench").args(verb);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("the measured process did not start")?;
        let pid = process.id().context("the measured process has ended at once")?;
        let output = process.stdout.take().context("the output was piped")?;
        let mut line = String::new();
        timeout(START, BufReader::new(output).read_line(&mut line))
            .await
            .with_context(|| format!("`bench {}` does not listen", verb.join(" ")))??;
        let address = line.trim().parse();
        let address = address.with_context(|| format!("`bench {}` failed", verb.join(" ")))?;
        Ok(Self { _process: process, pid, address })
    }

    /// What CPU time it has used so far.
    pub(super) fn cpu(&self) -> Result<CpuTime> {
        CpuTime::of(self.pid)
    }

    /// Its resident memory, in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        machine::resident_bytes(self.pid)
    }
}

/// For the child: tells the parent where it listens, and ends when the parent has gone.
///
/// # Errors
///
/// The parent has gone already.
pub(super) fn announce(address: SocketAddr) -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{address}")?;
    output.flush()?;
    std::thread::Builder::new().name("parent".to_owned()).spawn(|| {
        // Nothing is ever written: this returns when the other end is closed.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    })?;
    Ok(())
}
