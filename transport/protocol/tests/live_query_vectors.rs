//! The golden vectors of live queries: what this client shows of what it is told, what it goes on
//! from, and the order of documents.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tidewire_eventstore::{DocumentKey, ProjectionName};
use tidewire_protocol::{
    CloseCode,
    client::{ClientConfig, ClientCore, ClientInput, ClientOutput, Told},
    query::{Query, WrittenQuery},
};

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the vectors are part of the package");
    let mut file: Value = serde_json::from_str(&text).expect("vectors are JSON");
    let Value::Array(cases) = file["cases"].take() else { panic!("cases are a list") };
    assert!(cases.len() > 5);
    cases
}

struct Client {
    core: ClientCore,
    now: Instant,
    shown: Option<BTreeMap<String, Value>>,
    connected: bool,
}

impl Client {
    fn new() -> Self {
        let now = Instant::now();
        let mut core = ClientCore::new(ClientConfig::default(), now);
        core.watch(Query::all(ProjectionName::new("p").expect("a good name")));
        core.connect(now);
        Self { core, now, shown: None, connected: false }
    }

    fn hand_in(&mut self, input: ClientInput) {
        self.core.handle(input, self.now, 0.0);
    }

    fn text(&mut self, message: &Value) {
        self.hand_in(ClientInput::Text(Bytes::from(message.to_string())));
    }

    /// Takes what the core says; what it sends, as JSON.
    fn take(&mut self) -> Vec<Value> {
        let parse = |text: &Bytes| serde_json::from_slice::<Value>(text).expect("JSON");
        let mut sent = Vec::new();
        while let Some(output) = self.core.poll() {
            match output {
                ClientOutput::Send(text) => sent.push(parse(&text)),
                ClientOutput::Documents { told: Told::Picture { documents, .. }, .. } => {
                    let all = documents.iter();
                    self.shown =
                        Some(all.map(|(key, data)| (key.to_string(), parse(data))).collect());
                }
                ClientOutput::Documents { told: Told::Changes { changes, .. }, .. } => {
                    let shown = self.shown.as_mut().expect("changes of what is shown");
                    for (key, data) in changes {
                        match data {
                            Some(data) => drop(shown.insert(key.to_string(), parse(&data))),
                            None => drop(shown.remove(key.as_str())),
                        }
                    }
                }
                ClientOutput::Disconnect(_) => panic!("it takes what is said for nonsense"),
                _ => {}
            }
        }
        sent
    }

    /// Connects anew; what the subscription says that it holds.
    fn connect(&mut self, epoch: &Value) -> Value {
        if std::mem::replace(&mut self.connected, true) {
            self.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
            self.now = self.core.next_timeout().expect("it tries again");
            self.hand_in(ClientInput::Timeout);
        }
        self.take();
        self.hand_in(ClientInput::Opened);
        let sent = self.take();
        let subscription = &sent[0]["subscriptions"][0];
        assert_eq!(subscription["to"], json!({"projection": "p"}));
        self.text(&json!({
            "type": "welcome", "session": "3f2a6c1e-8d1b-4f6a-9f43-0c2d6c4f7a10", "node": "a",
            "epoch": epoch, "head": 0, "heartbeat_ms": 15000,
            "limits": {"message_bytes": 1000, "array_messages": 64, "subscriptions": 9,
                "requests": 9, "append_events": 9, "page_events": 9, "window": 9},
            "reconnect": {"min_ms": 1, "max_ms": 1, "spread_ms": 0},
        }));
        match subscription.get("after") {
            None => Value::Null,
            Some(after) => json!({
                "generation": subscription["generation"], "after": after,
                "epoch": subscription["epoch"],
            }),
        }
    }
}

#[test]
fn live_queries_show_what_the_vectors_say() {
    for case in cases("live_queries") {
        let name = &case["name"];
        let mut client = Client::new();
        for (at, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
            match step.get("connect") {
                Some(epoch) => {
                    assert_eq!(client.connect(epoch), step["resumes"], "{name}, step {at}");
                }
                None => {
                    client.text(&step["say"]);
                    client.take();
                    assert_eq!(json!(client.shown), step["shown"], "{name}, step {at}");
                }
            }
        }
    }
}

#[test]
fn documents_stand_in_the_order_that_the_vectors_say() {
    for case in cases("order") {
        let name = &case["name"];
        let query = json!({"projection": "p", "order": case["order"]});
        let order = WrittenQuery::parse(&query).expect("a good query").order.expect("an order");
        let documents = case["documents"].as_object().expect("documents");
        let documents: Vec<_> = documents
            .iter()
            .map(|(key, document)| {
                (DocumentKey::new(key).expect("a good key"), document.to_string())
            })
            .collect();
        // However they come.
        for rotation in 0..documents.len().max(1) {
            let mut documents: Vec<_> = documents.iter().map(|(key, text)| (key, text)).collect();
            documents.rotate_left(rotation);
            let keys = order.arrange(documents).into_iter().map(|(key, _)| key.as_str());
            assert_eq!(json!(keys.collect::<Vec<_>>()), case["keys"], "{name}");
        }
    }
}
