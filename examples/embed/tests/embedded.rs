//! The application answers for itself, and its log answers below `/log`.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

struct Application(Child);

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(address: &str, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_application_has_a_log_below_a_path_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_embed"))
        .args(["127.0.0.1:0", "embed.db"])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut application = Application(child);
    let mut line = String::new();
    let output = application.0.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap();

    assert!(ask(address, "GET /", "").ends_with("the application's own page\n"));
    let body = r#"{"events": [{"type": "OrderPlaced", "data": {"total": 12}}]}"#;
    let answer = ask(address, "POST /log/streams/order-1", body);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let answer = ask(address, "GET /log/events", "");
    assert!(answer.contains(r#""data":{"total": 12}"#), "{answer}");
    assert!(ask(address, "GET /events", "").starts_with("HTTP/1.1 404"));
}
