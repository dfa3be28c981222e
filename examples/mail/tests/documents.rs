//! The program as a process of its own: what it says of each mailbox is what its messages say, and
//! after `kill -9` it goes on with the same documents.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

/// No answer may take longer.
const PATIENCE: Duration = Duration::from_secs(40);

struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mail"))
            .args(["127.0.0.1:0", "mail.db"])
            .current_dir(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        body.to_owned()
    }

    /// Every document of a projection, once it has read the log through `position`.
    fn documents(&self, projection: &str, position: u64) -> BTreeMap<String, Value> {
        let mut documents = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page: Value = serde_json::from_str(&self.get(&format!(
                "/log/projections/{projection}/documents?limit=100&wait={position}\
                 &timeout_ms=30000{cursor}"
            )))
            .unwrap();
            for document in page["documents"].as_array().unwrap() {
                let key = document["key"].as_str().unwrap().to_owned();
                documents.insert(key, document["document"].clone());
            }
            let Some(next) = page["next"].as_str() else { return documents };
            cursor = format!("&cursor={next}");
        }
    }
}

/// `kill -9`.
impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mailboxes_count_their_messages_also_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let mut before = None;
    for _ in 0..2 {
        let program = Program::start(directory.path());
        assert!(program.get("/").contains("<title>"));
        let end: Value =
            serde_json::from_str(&program.get("/log/events?limit=1&direction=backwards")).unwrap();
        let head = end["head"].as_u64().unwrap();
        let mailboxes = program.documents("mailboxes", head);
        let messages = program.documents("messages", head);
        assert!(mailboxes.len() > 1 && messages.len() > 100, "{}", messages.len());
        for (key, mailbox) in &mailboxes {
            let inside: Vec<_> =
                messages.values().filter(|message| message["mailbox"] == key.as_str()).collect();
            let unread = inside.iter().filter(|message| message["read"] == false).count();
            assert_eq!(mailbox["total"], inside.len(), "{key}: {mailbox}");
            assert_eq!(mailbox["unread"], unread, "{key}: {mailbox}");
        }
        let found = (head, mailboxes, messages);
        assert_eq!(*before.get_or_insert_with(|| found.clone()), found);
    }
}
