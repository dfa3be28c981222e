//! A PostgreSQL cluster of one test, that can be killed and started again.

use std::{
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A cluster in a temporary folder; it ends with its owner.
pub(crate) struct Cluster {
    folder: TempDir,
    bin: PathBuf,
    /// Whom the server runs as: it refuses to run as root.
    user: Option<(u32, u32)>,
    port: u16,
}

impl Cluster {
    /// Makes a cluster and starts its server.
    ///
    /// # Panics
    ///
    /// Where no PostgreSQL is installed.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = (number("id", &["-u"]) == 0)
            .then(|| (number("id", &["-u", "postgres"]), number("id", &["-g", "postgres"])));
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, bin: bin(), user, port };
        let data = cluster.data();
        cluster.run(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
        );
        cluster.resume();
        cluster
    }

    /// The URL of the superuser.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends the server as a power cut would.
    pub(crate) fn kill(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    /// Starts the server, and waits until it serves.
    pub(crate) fn resume(&self) {
        let options =
            format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''", self.port);
        let log = self.folder.path().join("log").display().to_string();
        self.run("pg_ctl", &["-D", &self.data(), "-l", &log, "-o", &options, "-w", "start"]);
    }

    /// Starts the server as a standby of nobody, and promotes it: a new timeline begins.
    pub(crate) fn resume_promoted(&self) {
        let signal = self.folder.path().join("data/standby.signal");
        std::fs::write(&signal, "").unwrap();
        if let Some((uid, gid)) = self.user {
            chown(&signal, Some(uid), Some(gid)).unwrap();
        }
        self.resume();
        self.run("pg_ctl", &["-D", &self.data(), "-w", "promote"]);
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.bin.join(program));
        command.args(arguments).current_dir(self.folder.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        // The server would hold a captured output open.
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let status = command.status().unwrap();
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut command = Command::new(self.bin.join("pg_ctl"));
        command.args(["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let _ = command.output();
    }
}

/// Where the server's programs are: in the path, or where Debian puts them, the newest first.
fn bin() -> PathBuf {
    let has_server =
        |folder: &Path| folder.join("initdb").exists() && folder.join("pg_ctl").exists();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    std::env::split_paths(&path)
        .chain(debian.into_iter().rev())
        .find(|folder| has_server(folder))
        .expect("this test starts a PostgreSQL server of its own: install one (initdb, pg_ctl)")
}

fn number(program: &str, arguments: &[&str]) -> u32 {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
