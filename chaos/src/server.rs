//! A server: the real program, started, killed, drained, frozen, and looked after.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::TcpListener,
    process::Command,
    sync::{Mutex, MutexGuard},
    time::{sleep, timeout},
};

use crate::{
    http,
    ledger::Ledger,
    process::{self, Running},
};

/// How long a server may take to serve, while its database may be away at first.
const SERVE: Duration = Duration::from_secs(60);
/// How long a server may take to end when it is asked to: it drains for up to 3 s, and then may
/// wait for a database that never answers.
const DRAIN: Duration = Duration::from_secs(30);

/// Settings that make servers meet their limits sooner than by default.
const SETTINGS: [&str; 9] = [
    "transport.ping_interval=8000",
    "transport.pong_timeout=3000",
    "transport.progress_timeout=10000",
    "transport.drain_spread=500",
    "transport.drain_timeout=3000",
    "transport.shared_log_bytes_max=262144",
    "transport.encoded_page_bytes_max=1048576",
    "transport.page_cache_bytes_max=1048576",
    "transport.hello_timeout=5000",
];

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// What follows `serve`: the database.
    pub(crate) database: Vec<String>,
    /// The deliberate bug that it is to have.
    pub(crate) plant: Option<String>,
    /// The file with its projections.
    pub(crate) settings: PathBuf,
    /// Where its log goes.
    pub(crate) folder: PathBuf,
}

/// One server, whether it runs just now or not.
#[derive(Debug)]
pub(crate) struct Server {
    launch: Launch,
    pub(crate) address: SocketAddr,
    ledger: Arc<Ledger>,
    /// Held while a fault has it.
    process: Mutex<Option<Running>>,
    resident_bytes_max: AtomicU64,
    log: Arc<StdMutex<File>>,
}

impl Server {
    /// Starts a server and waits until it serves.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) async fn start(launch: Launch, ledger: Arc<Ledger>) -> Result<Self> {
        let address = free_address().await?;
        let log = File::create(launch.folder.join(format!("{}.log", launch.name)))?;
        let server = Self {
            launch,
            address,
            ledger,
            process: Mutex::new(None),
            resident_bytes_max: AtomicU64::new(0),
            log: Arc::new(StdMutex::new(log)),
        };
        server.begin(&mut *server.process.lock().await).await?;
        Ok(server)
    }

    /// For people.
    pub(crate) fn name(&self) -> &str {
        &self.launch.name
    }

    /// The most memory that it was seen to have, in bytes.
    pub(crate) fn resident_bytes_max(&self) -> u64 {
        self.resident_bytes_max.load(Relaxed)
    }

    /// The server to do something to; `None` while something is being done to it.
    pub(crate) fn victim(&self) -> Option<Victim<'_>> {
        let process = self.process.try_lock().ok()?;
        Some(Victim { server: self, process })
    }

    /// Looks after it: measures its memory, and finds it gone though nobody has ended it.
    pub(crate) async fn look(&self) {
        let Ok(mut process) = self.process.try_lock() else { return };
        let Some(child) = process.as_mut() else { return };
        if let Some(bytes) = child.id().and_then(process::resident_bytes) {
            self.resident_bytes_max.fetch_max(bytes, Relaxed);
        }
        if let Ok(Some(status)) = child.try_wait() {
            self.ledger.violation(format!("{} ended by itself: {status}", self.launch.name));
            if let Err(error) = self.begin(&mut process).await {
                self.ledger.violation(format!("{error:#}"));
            }
        }
    }

    /// Ends it at once.
    pub(crate) async fn stop(&self) {
        let mut process = self.process.lock().await;
        if let Some(child) = process.as_mut() {
            let _ = child.kill().await;
        }
        *process = None;
    }

    /// Starts the process until it serves. One that cannot reach its database ends at once, and is
    /// started again.
    async fn begin(&self, process: &mut Option<Running>) -> Result<()> {
        let name = &self.launch.name;
        let deadline = Instant::now() + SERVE;
        loop {
            let child = process.insert(self.spawn()?);
            let ended = loop {
                if let Some(status) = child.try_wait().context("cannot look after a server")? {
                    break status;
                }
                let ready =
                    http::request(self.address, Duration::from_secs(2), "GET", "/readyz", None);
                if ready.await.is_ok_and(|answer| answer.status == 200) {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    bail!("{name} did not serve within {SERVE:?}");
                }
                sleep(Duration::from_millis(25)).await;
            };
            if Instant::now() > deadline {
                bail!("{name} did not start within {SERVE:?}: {ended}");
            }
            sleep(Duration::from_millis(150)).await;
        }
    }

    fn spawn(&self) -> Result<Running> {
        let Launch { program, database, plant, settings, .. } = &self.launch;
        // A file that has no room has to be an error to the server, not its end: the signal's
        // being ignored is handed down.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program);
        command.args(["serve", "--address", &self.address.to_string()]).args(database);
        command.arg("--config").arg(settings);
        for setting in SETTINGS {
            command.args(["--set", setting]);
        }
        command.args(["--set", &format!("transport.node={}", self.launch.name)]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEWIRE_") {
                command.env_remove(name);
            }
        }
        if let Some(plant) = plant {
            command.env("TIDEWIRE_PLANT", plant);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(&self.launch.folder);
        let mut child = Running::start(&mut command).context("cannot start a server")?;
        let (output, errors) = child.outputs();
        if let Some(output) = output {
            self.keep(output);
        }
        if let Some(errors) = errors {
            self.keep(errors);
        }
        Ok(child)
    }

    /// Keeps what it says, and finds panics in it.
    fn keep(&self, output: impl AsyncRead + Unpin + Send + 'static) {
        let (log, ledger) = (Arc::clone(&self.log), Arc::clone(&self.ledger));
        let name = self.launch.name.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("panicked at") {
                    ledger.violation(format!("{name} panicked: {line}"));
                }
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                // The log is for people; nothing depends on it.
                let _ = writeln!(log, "{line}");
            }
        });
    }
}

/// A server that something is being done to.
pub(crate) struct Victim<'a> {
    server: &'a Server,
    process: MutexGuard<'a, Option<Running>>,
}

impl Victim<'_> {
    /// Kills it, and starts it again after a pause.
    pub(crate) async fn kill(mut self, down: Duration) -> Result<()> {
        if let Some(child) = self.process.as_mut() {
            child.kill().await.context("cannot kill a server")?;
        }
        sleep(down).await;
        self.server.begin(&mut self.process).await
    }

    /// Asks it to end, which it has to do in time and with success; then starts it again.
    pub(crate) async fn drain(mut self, down: Duration) -> Result<()> {
        let name = &self.server.launch.name;
        if let Some(child) = self.process.as_mut() {
            if let Some(pid) = child.id() {
                process::signal(pid, Signal::SIGTERM);
            }
            match timeout(DRAIN, child.wait()).await {
                Ok(status) => {
                    let status = status.context("cannot wait for a server")?;
                    if !status.success() {
                        self.server.ledger.violation(format!("{name} drained: {status}"));
                    }
                }
                Err(_) => {
                    self.server.ledger.violation(format!("{name} did not end within {DRAIN:?}"));
                    child.kill().await.context("cannot kill a server")?;
                }
            }
        }
        sleep(down).await;
        self.server.begin(&mut self.process).await
    }

    /// Stops its time: to the server, its clocks jump forwards.
    pub(crate) async fn freeze(self, pause: Duration) {
        let Some(pid) = self.process.as_ref().and_then(Running::id) else { return };
        process::signal(pid, Signal::SIGSTOP);
        sleep(pause).await;
        process::signal(pid, Signal::SIGCONT);
    }

    /// Lets it write no file beyond so many bytes for a while.
    pub(crate) async fn fill_disk(self, bytes: u64, pause: Duration) -> bool {
        let Some(pid) = self.process.as_ref().and_then(Running::id) else { return false };
        let limited = process::limit_file_bytes(pid, Some(bytes), None);
        if limited {
            sleep(pause).await;
            process::limit_file_bytes(pid, None, None);
        }
        limited
    }
}

async fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for a server")?;
    Ok(listener.local_addr()?)
}

/// Whether the program has the plants compiled in.
pub(crate) async fn knows_plants(program: &Path) -> Result<bool> {
    let mut command = Command::new(program);
    let output = command.args(["serve", "--address", "nowhere"]).env("TIDEWIRE_PLANT", "?");
    let output = output.output().await.with_context(|| format!("{}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stderr).contains("TIDEWIRE_PLANT"))
}
