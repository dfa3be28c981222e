//! A private PostgreSQL that is killed and started again. Linux.
//!
//! It lives in the world's folder, listens on a free port of the loopback interface alone, keeps
//! `fsync` on, and never runs as root: then it runs as the user `postgres` or `nobody`.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use sqlx::{Connection, Executor, PgConnection};
use tokio::{
    process::Command,
    sync::{Mutex, MutexGuard},
    time::{sleep, timeout},
};

use crate::process::{self, Running};

/// How long it may take to serve after a crash.
const SERVE: Duration = Duration::from_secs(60);

/// One PostgreSQL, whether it runs just now or not.
#[derive(Debug)]
pub(crate) struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
    user: Option<User>,
    pub(crate) address: SocketAddr,
    /// Held while a fault has it.
    process: Mutex<Option<Running>>,
}

impl Postgres {
    /// Makes a cluster in `folder`, and waits until it serves.
    ///
    /// # Errors
    ///
    /// There is no PostgreSQL here, or it does not start.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let binaries = binaries()?;
        let user = unprivileged_user()?;
        let folder = folder.join("postgres");
        fs::create_dir(&folder).context("cannot create a folder")?;
        if let Some(user) = &user {
            chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .context("cannot give a folder away")?;
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port for PostgreSQL")?;
        let address = listener.local_addr()?;
        drop(listener);
        let postgres = Self { binaries, folder, user, address, process: Mutex::new(None) };
        let made = postgres
            .command("initdb")
            .args(["--username=tidewire", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--no-instructions", "--pgdata", "data"])
            .output()
            .await
            .context("cannot run initdb")?;
        if !made.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        postgres.begin(&mut *postgres.process.lock().await).await?;
        Ok(postgres)
    }

    /// The URL of the database, by way of `address`.
    pub(crate) fn url(address: SocketAddr) -> String {
        format!("postgres://tidewire@{address}/postgres")
    }

    /// PostgreSQL, to do something to; `None` while something is being done to it.
    pub(crate) fn victim(&self) -> Option<Victim<'_>> {
        let process = self.process.try_lock().ok()?;
        Some(Victim { postgres: self, process })
    }

    /// Terminates the backends that listen for notices, or all of the servers'. Returns how many.
    pub(crate) async fn terminate_backends(&self, only_listening: bool) -> Result<i64> {
        let condition = if only_listening { "AND query ILIKE 'listen%'" } else { "" };
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' {condition}"
        );
        let work = async {
            let mut connection = PgConnection::connect(&Self::url(self.address)).await?;
            let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection);
            let count = count.await?;
            connection.close().await?;
            Ok(count)
        };
        timeout(Duration::from_secs(3), work).await.context("PostgreSQL does not answer")?
    }

    /// Holds the lock of all appends for a while, as a caller's long transaction does.
    pub(crate) async fn hold_head(&self, pause: Duration) -> Result<()> {
        let mut connection = PgConnection::connect(&Self::url(self.address)).await?;
        let mut transaction = connection.begin().await?;
        transaction.execute("SELECT * FROM tidewire.head FOR UPDATE").await?;
        sleep(pause).await;
        transaction.rollback().await?;
        Ok(connection.close().await?)
    }

    /// Ends it at once.
    pub(crate) async fn stop(&self) {
        let mut process = self.process.lock().await;
        self.kill(&mut process).await;
    }

    /// Kills the postmaster and all of its children, so that none is left to tidy up.
    async fn kill(&self, process: &mut Option<Running>) {
        let Some(mut child) = process.take() else { return };
        let Some(pid) = child.id() else { return };
        // So that it starts no further ones meanwhile.
        process::signal(pid, Signal::SIGSTOP);
        let children = process::children(pid);
        for one in children.iter().chain([&pid]) {
            process::signal(*one, Signal::SIGKILL);
        }
        let _ = child.wait().await;
        let deadline = Instant::now() + Duration::from_secs(10);
        while children.iter().any(|child| process::is_alive(*child)) && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        // A zombie that nobody reaps would be taken for a living server.
        let _ = fs::remove_file(self.folder.join("data/postmaster.pid"));
    }

    /// Starts it until it serves; a recovery may have to be begun several times.
    async fn begin(&self, process: &mut Option<Running>) -> Result<()> {
        let deadline = Instant::now() + SERVE;
        loop {
            let log = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.folder.join("log"))
                .context("cannot open PostgreSQL's log")?;
            let mut command = self.command("postgres");
            command
                .args(["-D", "data", "-k", "", "-h", "127.0.0.1"])
                .args(["-p", &self.address.port().to_string()])
                .args(["-c", "max_connections=200"])
                .stdout(log.try_clone()?)
                .stderr(log);
            let child = Running::start(&mut command).context("cannot start PostgreSQL")?;
            let child = process.insert(child);
            loop {
                // The last line says `ready` once connections are taken.
                let state = fs::read_to_string(self.folder.join("data/postmaster.pid"));
                if state.is_ok_and(|state| state.trim_end().ends_with("ready")) {
                    return Ok(());
                }
                if child.try_wait().context("cannot look after PostgreSQL")?.is_some() {
                    break;
                }
                if Instant::now() > deadline {
                    bail!("PostgreSQL did not serve within {SERVE:?}");
                }
                sleep(Duration::from_millis(20)).await;
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                bail!("PostgreSQL did not start: {last:?}");
            }
            sleep(Duration::from_millis(100)).await;
            let _ = fs::remove_file(self.folder.join("data/postmaster.pid"));
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(&self.folder).stdin(Stdio::null());
        command.env_remove("PGDATA").env("LC_ALL", "C");
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

/// A PostgreSQL that something is being done to.
pub(crate) struct Victim<'a> {
    postgres: &'a Postgres,
    process: MutexGuard<'a, Option<Running>>,
}

impl Victim<'_> {
    /// Kills it, and starts it again after a pause.
    pub(crate) async fn kill(mut self, down: Duration) -> Result<()> {
        self.postgres.kill(&mut self.process).await;
        sleep(down).await;
        self.postgres.begin(&mut self.process).await
    }

    /// Lets none of its processes write a file beyond so many bytes for a while. It may end by
    /// that, as it does when the disk of its write-ahead log is full; then it is started again.
    pub(crate) async fn fill_disk(mut self, bytes: u64, pause: Duration) -> Result<bool> {
        let Some(pid) = self.process.as_ref().and_then(Running::id) else { return Ok(false) };
        let limit_each = |bytes| {
            // First the postmaster, from whom new ones inherit.
            let mut each = [pid].into_iter().chain(process::children(pid));
            each.all(|pid| {
                let limited = process::limit_file_bytes(pid, bytes, self.postgres.user.as_ref());
                limited || !process::is_alive(pid)
            })
        };
        let limited = limit_each(Some(bytes));
        if limited {
            sleep(pause).await;
        }
        limit_each(None);
        if !limited {
            return Ok(false);
        }
        let ended = match self.process.as_mut() {
            Some(child) => child.try_wait().context("cannot look after PostgreSQL")?.is_some(),
            None => true,
        };
        if ended {
            let _ = fs::remove_file(self.postgres.folder.join("data/postmaster.pid"));
            self.postgres.begin(&mut self.process).await?;
        }
        Ok(true)
    }
}

/// The newest server programs of this machine.
fn binaries() -> Result<PathBuf> {
    let given = std::env::var_os("TIDEWIRE_POSTGRES_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    given
        .into_iter()
        .chain(debian.into_iter().rev())
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .context(
            "no PostgreSQL server programs: install them, or name their folder in \
             TIDEWIRE_POSTGRES_BIN",
        )
}

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
