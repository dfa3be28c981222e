//! A private PostgreSQL cluster.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;

use crate::command::output;

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Test binaries run one after the other, but each runs many tests with pools of their own.
const MAX_CONNECTIONS: u32 = 200;

/// A running private cluster; stopped and removed when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    server: Child,
    url: String,
    /// Holds the data and the server's log; removed after the server has stopped.
    directory: TempDir,
}

impl Cluster {
    /// Makes a cluster with the programs in `binaries` and waits until it takes connections.
    pub(crate) fn start(binaries: &Path) -> Result<Self> {
        let owner = unprivileged_user()?;
        let directory = tempfile::Builder::new()
            .prefix("tidewire-postgres-")
            .tempdir()
            .context("cannot create a temporary directory")?;
        let password = random_password()?;
        let password_file = directory.path().join("password");
        fs::write(&password_file, &password).context("cannot write the password file")?;
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
        if let Some(user) = &owner {
            let (uid, gid) = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
            chown(directory.path(), uid, gid).context("cannot give the directory away")?;
            chown(&password_file, uid, gid).context("cannot give the password file away")?;
        }

        let data = directory.path().join("data");
        let mut initdb = as_user(&binaries.join("initdb"), owner.as_ref(), directory.path());
        initdb
            .args(["--username=tidewire", "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C", "--no-instructions"])
            .arg(format!("--pwfile={}", password_file.display()))
            .arg(format!("--pgdata={}", data.display()));
        output(&mut initdb).context("cannot make a PostgreSQL cluster")?;
        fs::remove_file(&password_file).context("cannot remove the password file")?;

        let port = free_port()?;
        let log = directory.path().join("log");
        let log_file = fs::File::create(&log).context("cannot create the server's log")?;
        let server = as_user(&binaries.join("postgres"), owner.as_ref(), directory.path())
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", &format!("max_connections={MAX_CONNECTIONS}")])
            .stdout(log_file.try_clone().context("cannot share the server's log")?)
            .stderr(log_file)
            .process_group(0)
            .spawn()
            .context("cannot start PostgreSQL")?;
        let url = format!("postgres://tidewire:{password}@127.0.0.1:{port}/postgres");
        let mut cluster = Self { server, url, directory };
        cluster.wait_until_ready(&data, &log)?;
        println!("started {} on port {port}", binaries.join("postgres").display());
        Ok(cluster)
    }

    /// The URL of the cluster's database, with its password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The last line of `postmaster.pid` says `ready` once connections are taken.
    fn wait_until_ready(&mut self, data: &Path, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let state = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            if state.lines().last().is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            let ended = self.server.try_wait().context("cannot look after PostgreSQL")?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("PostgreSQL did not start: {}", said.trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&mut self) {
        if let Ok(id) = i32::try_from(self.server.id()) {
            // SIGINT asks for a fast shutdown: clients are disconnected, the data is flushed.
            let _ = kill(Pid::from_raw(id), Signal::SIGINT);
        }
        let deadline = Instant::now() + STOP_WITHIN;
        while matches!(self.server.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.server.kill();
                let _ = self.server.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
        // A test may have killed the server's processes: then this file outlives them.
        let _ = fs::remove_file(self.directory.path().join("data/postmaster.pid"));
    }
}

/// PostgreSQL refuses to run as root: then it runs as the first of these users that exists.
fn unprivileged_user() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).context("cannot look up users")? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL must not run as root, and there is no user postgres or nobody to run it as")
}

fn as_user(program: &PathBuf, user: Option<&User>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null()).env_remove("PGDATA").env("LC_ALL", "C");
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on loopback")?;
    Ok(listener.local_addr().context("a listener without an address")?.port())
}

fn random_password() -> Result<String> {
    let mut bytes = [0; 16];
    let mut source = fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
