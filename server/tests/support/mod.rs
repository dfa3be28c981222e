//! Runs the real program: servers on free ports, verbs to their end, lines as they come.
//!
//! Everything waits for a condition with a deadline, and whatever was started ends with its test.

#![allow(dead_code, clippy::unwrap_used)] // Each test file uses its own part of this.

pub(crate) mod ledger;
pub(crate) mod live;
pub(crate) mod postgres;
pub(crate) mod socket;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program in `directory`, without settings from the environment of the test.
pub(crate) fn tidewire(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEWIRE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a verb to its end.
pub(crate) fn run(directory: &Path, args: &[&str]) -> Output {
    tidewire(directory).args(args).output().unwrap()
}

/// Runs a verb that has to succeed, and returns what it printed.
pub(crate) fn run_ok(directory: &Path, args: &[&str]) -> String {
    let output = run(directory, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a verb that has to fail with an exit status and an explanation.
pub(crate) fn run_failing(directory: &Path, args: &[&str], code: i32, explanation: &str) {
    let output = run(directory, args);
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(explanation), "{args:?}: {stderr}");
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A program that runs, with its output line by line.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    log: Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = collect_lines(child.stdout.take().unwrap());
        let log = collect_lines(child.stderr.take().unwrap());
        Self { child, lines, log }
    }

    /// The next line of standard output.
    pub(crate) fn line(&self) -> String {
        self.line_within(PATIENCE)
    }

    /// The next line of standard output, which has to come in time.
    pub(crate) fn line_within(&self, within: Duration) -> String {
        self.lines
            .recv_timeout(within)
            .unwrap_or_else(|_| panic!("no line within {within:?}; it logged: {}", self.logged()))
    }

    /// What it wrote to standard error until now.
    pub(crate) fn logged(&self) -> String {
        self.log.try_iter().collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Waits for its end, and returns the exit status.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.wait_within(PATIENCE)
    }

    /// The same, of something that has much to do before it ends.
    pub(crate) fn wait_within(&mut self, within: Duration) -> Option<i32> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end; it logged: {}", self.logged());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect_lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A server on a free port.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) api: Api,
}

/// A server's HTTP interface.
#[derive(Clone)]
pub(crate) struct Api {
    address: String,
}

impl Server {
    /// `tidewire serve` in `directory` with further arguments.
    pub(crate) fn start(directory: &Path, args: &[&str]) -> Self {
        let mut command = tidewire(directory);
        command.args(["serve", "--address", "127.0.0.1:0"]).args(args);
        Self::run(command)
    }

    /// A command that prints where it listens.
    pub(crate) fn run(command: Command) -> Self {
        let running = Running::start(command);
        let line = running.line();
        let address = line.strip_prefix("listening on http://").unwrap_or_else(|| {
            panic!("expected an address, not {line:?}; it logged: {}", running.logged())
        });
        let api = Api::at(address);
        wait_until("the server is ready", || api.get("/readyz").0 == 200);
        Self { running, api }
    }
}

impl Api {
    /// The interface at an address, such as `127.0.0.1:7377`.
    pub(crate) fn at(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The status and the body of a GET.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        http(&self.address, &format!("GET {path} HTTP/1.1\r\n"), "").expect("the server answers")
    }

    /// Appends one event over HTTP; the status and the body, or nothing if the server is gone.
    pub(crate) fn append(&self, stream: &str, events: &str) -> Option<(u16, Value)> {
        let head = format!("POST /streams/{stream} HTTP/1.1\r\ncontent-type: application/json\r\n");
        let body = format!("{{\"events\":{events}}}");
        let (status, body) = http(&self.address, &head, &body)?;
        Some((status, serde_json::from_str(&body).ok()?))
    }

    /// The JSON of a GET that has to succeed.
    pub(crate) fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// POSTs JSON; the status and the JSON of the answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let head = format!("POST {path} HTTP/1.1\r\ncontent-type: application/json\r\n");
        let (status, body) =
            http(&self.address, &head, &body.to_string()).expect("the server answers");
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Every position in the log, in order.
    pub(crate) fn positions(&self) -> Vec<u64> {
        let mut positions = Vec::new();
        loop {
            let after = positions.last().copied().unwrap_or(0);
            let (status, body) = self.get(&format!("/events?after={after}&limit=1000"));
            assert_eq!(status, 200, "{body}");
            let page: Value = serde_json::from_str(&body).unwrap();
            let events = page["events"].as_array().unwrap();
            positions.extend(events.iter().map(|event| event["position"].as_u64().unwrap()));
            if page["more"] != Value::Bool(true) {
                return positions;
            }
        }
    }
}

fn http(address: &str, head: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    let rest = format!("host: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{rest}{body}").as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunk(body)?
    } else {
        body.to_owned()
    };
    Some((status, body))
}

fn unchunk(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..size)?);
        chunks = rest.get(size + 2..)?;
    }
}

/// Waits for a condition.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
