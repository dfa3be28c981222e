//! Collections over a real socket and over HTTP: documents that clients edit, each edit once, none
//! upon what its author did not see, and what is in the way told with the present document.

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::{Client, DEADLINE, Server, Setup};
use tidewire_eventstore::{
    Append, EventStore, EventType, ExpectedRevision, GlobalPosition, MemoryStore, NewEvent,
    StreamName,
};
use tidewire_projections::{
    OnPoison, Policy,
    collection::{Collection, FIELDS_BYTES_MAX},
};
use tidewire_protocol::query::Query;
use tidewire_transport::Tidewire;

struct Todos {
    server: Server,
}

impl Todos {
    fn start() -> Self {
        let setup = Setup {
            projections: Some(|projections| {
                let todos = Collection::new("todos").projection();
                let policy = Policy { on_poison: OnPoison::Park, ..Policy::default() };
                projections.projection(todos.expect("the collection makes sense"), policy)
            }),
            prepare: Some(|transport| transport.collections(["todos"])),
            ..Setup::default()
        };
        Self { server: Server::with(setup) }
    }

    /// The documents, once everything through `position` is in them.
    async fn documents(&self, position: u64) -> Value {
        let todos = self.server.projections().get("todos").expect("it runs");
        let reached = todos.wait(GlobalPosition::new(position), DEADLINE).await.expect("in time");
        let query = Query::all(todos.definition().name.clone());
        let (store, definition) = (todos.documents(), todos.definition());
        let page = tidewire_projections::query::page(
            &**store,
            definition,
            reached.generation,
            &query,
            None,
            100,
        );
        let documents = page.await.expect("they can be read").documents;
        let documents = documents.into_iter().map(|document| {
            let value = serde_json::from_slice(&document.data).expect("JSON");
            (document.key.as_str().to_owned(), value)
        });
        Value::Object(documents.collect())
    }

    async fn append(&self, stream: &str, event_type: &str, data: Value) -> u64 {
        let append = Append {
            stream: StreamName::new(stream).expect("a good name"),
            expected: ExpectedRevision::Any,
            events: vec![NewEvent::json(
                EventType::new(event_type).expect("a good name"),
                data.to_string(),
            )],
        };
        self.server
            .store
            .append(append)
            .expect("a good append")
            .await
            .expect("recorded")
            .position
            .get()
    }
}

/// Sends an edit and gives the answer: a result or an error.
async fn edit(client: &mut Client, edit: Value) -> Value {
    edit_once(client, edit, None).await
}

async fn edit_once(client: &mut Client, mut edit: Value, key: Option<&str>) -> Value {
    edit.as_object_mut().expect("an object").entry("collection").or_insert("todos".into());
    let mut message = json!({ "type": "command", "id": "e", "name": "$collection", "data": edit });
    if let Some(key) = key {
        message["key"] = key.into();
    }
    client.send(message).await;
    loop {
        let answer = client.message().await;
        if answer["id"] == "e" {
            return answer;
        }
    }
}

fn assert_refused(answer: &Value, code: &str, details: Value) {
    assert_eq!(answer["type"], "error", "{answer}");
    assert_eq!(answer["code"], code, "{answer}");
    assert_eq!(answer.get("details").unwrap_or(&Value::Null), &details, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_inserted_updated_and_deleted() {
    let todos = Todos::start();
    let mut client = todos.server.connect().await;
    let insert =
        json!({"op": "insert", "key": "a-1", "document": {"text": "milk", "tags": {"x": 1}}});
    let answer = edit(&mut client, insert).await;
    assert_eq!(answer["type"], "result", "{answer}");
    assert_eq!(answer["data"], json!({"revision": 0}));
    assert_eq!(answer["position"], 1);

    let update =
        json!({"op": "update", "key": "a-1", "patch": {"done": true, "tags": {"x": null}}});
    let answer = edit(&mut client, update).await;
    assert_eq!(answer["data"], json!({"revision": 1}), "{answer}");
    let documents = todos.documents(2).await;
    let expected = json!({"text": "milk", "tags": {}, "done": true, "$revision": 1});
    assert_eq!(documents, json!({ "a-1": expected }));

    let answer = edit(&mut client, json!({"op": "delete", "key": "a-1", "revision": 1})).await;
    assert_eq!(answer["data"], json!({"revision": 2}), "{answer}");
    assert_eq!(todos.documents(3).await, json!({}));

    // It can be made anew, and its revisions go on.
    let insert = json!({"op": "insert", "key": "a-1", "document": {}});
    assert_eq!(edit(&mut client, insert).await["data"], json!({"revision": 3}));
    assert_eq!(todos.documents(4).await, json!({"a-1": {"$revision": 3}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_too_slow_is_told_the_present_document() {
    let todos = Todos::start();
    let mut ann = todos.server.connect().await;
    let mut bob = todos.server.connect().await;
    edit(&mut ann, json!({"op": "insert", "key": "a", "document": {"n": 1}})).await;
    edit(&mut bob, json!({"op": "update", "key": "a", "patch": {"n": 2}, "revision": 0})).await;

    let present = || json!({"document": {"n": 2, "$revision": 1}, "revision": 1});
    for late in [
        json!({"op": "update", "key": "a", "patch": {"n": 3}, "revision": 0}),
        json!({"op": "delete", "key": "a", "revision": 0}),
        json!({"op": "insert", "key": "a", "document": {}}),
    ] {
        assert_refused(&edit(&mut ann, late).await, "conflict", present());
    }
    assert_eq!(todos.server.head().await, GlobalPosition::new(2), "nothing was recorded");

    edit(&mut bob, json!({"op": "delete", "key": "a"})).await;
    let gone = json!({"document": null, "revision": null});
    let late = json!({"op": "update", "key": "a", "patch": {}, "revision": 1});
    assert_refused(&edit(&mut ann, late).await, "conflict", gone);
    for late in
        [json!({"op": "update", "key": "a", "patch": {}}), json!({"op": "delete", "key": "b"})]
    {
        assert_refused(&edit(&mut ann, late).await, "no_such_document", Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_sent_again_takes_effect_once() {
    let todos = Todos::start();
    let mut client = todos.server.connect().await;
    let insert = || json!({"op": "insert", "key": "a", "document": {"n": 1}});
    let first = edit_once(&mut client, insert(), Some("k")).await;
    let again = edit_once(&mut todos.server.connect().await, insert(), Some("k")).await;
    assert_eq!(first["data"], json!({"revision": 0}), "{first}");
    assert_eq!(first, again);
    assert_eq!(todos.server.head().await, GlobalPosition::new(1));
    assert_eq!(edit_once(&mut client, insert(), Some("l")).await["code"], "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_without_a_revision_from_many_sessions_are_all_made() {
    const SESSIONS: u64 = 8;
    let todos = Todos::start();
    let mut client = todos.server.connect().await;
    edit(&mut client, json!({"op": "insert", "key": "a", "document": {}})).await;
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(todos.server.connect().await);
    }
    let edits = clients.iter_mut().enumerate().map(async |(number, client)| {
        // One that met others four times in a row may be sent again.
        loop {
            let patch = json!({ format!("m{number}"): number });
            let answer = edit(client, json!({"op": "update", "key": "a", "patch": patch})).await;
            if answer["type"] == "result" {
                return;
            }
            assert_eq!(answer["code"], "wrong_expected_revision", "{answer}");
        }
    });
    futures_util::future::join_all(edits).await;
    let document = &todos.documents(1 + SESSIONS).await["a"];
    assert_eq!(document["$revision"], SESSIONS);
    for number in 0..SESSIONS {
        assert_eq!(document[format!("m{number}")], number, "{document}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_nothing_recorded() {
    let todos = Todos::start();
    let mut client = todos.server.connect().await;
    let field = |field: &str| json!({ "field": field });
    for (wrong, code, details) in [
        (
            json!({"collection": "none", "op": "delete", "key": "a"}),
            "unknown_collection",
            json!({"collection": "none"}),
        ),
        (json!({"op": "insert", "key": "", "document": {}}), "invalid_field", field("key")),
        (json!({"op": "insert", "key": "a"}), "invalid_field", field("document")),
        (
            json!({"op": "insert", "key": "a", "document": {"$revision": 7}}),
            "invalid_field",
            field("document"),
        ),
        (
            json!({"op": "insert", "key": "a", "document": {"a": "x".repeat(FIELDS_BYTES_MAX)}}),
            "too_large",
            Value::Null,
        ),
    ] {
        assert_refused(&edit(&mut client, wrong).await, code, details);
    }
    let answer = edit(&mut client, json!({"op": "insert", "key": "a", "document": [1]})).await;
    assert_eq!(answer["code"], "invalid_field", "{answer}");
    assert_eq!(answer["details"]["field"], "data", "{answer}");

    // What two good edits would come to is looked at as well.
    let half = "x".repeat(FIELDS_BYTES_MAX / 2);
    edit(&mut client, json!({"op": "insert", "key": "a", "document": {"a": half}})).await;
    let update = json!({"op": "update", "key": "a", "patch": {"b": half}});
    assert_eq!(edit(&mut client, update).await["code"], "too_large");
    assert_eq!(todos.server.head().await, GlobalPosition::new(1));

    // Other names of Tidewire's own are still nobody's.
    let other = json!({"type": "command", "id": "x", "name": "$other", "data": {}});
    client.send(other).await;
    assert_eq!(client.expect("error").await["code"], "name_reserved");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_others_in_the_stream_do_not_confuse() {
    let todos = Todos::start();
    let mut client = todos.server.connect().await;
    edit(&mut client, json!({"op": "insert", "key": "a", "document": {}})).await;
    for n in 0..25 {
        todos.append("todos-a", "Noted", json!(n)).await;
    }
    let update = json!({"op": "update", "key": "a", "patch": {"n": 1}, "revision": 0});
    let answer = edit(&mut client, update).await;
    assert_eq!(answer["data"], json!({"revision": 26}), "{answer}");
    assert_eq!(todos.documents(27).await, json!({"a": {"n": 1, "$revision": 26}}));

    // An event that makes no sense is put aside; the collection goes on.
    todos.append("todos-b", "Inserted", json!({"document": 7})).await;
    let answer = edit(&mut client, json!({"op": "update", "key": "a", "patch": {"n": 2}})).await;
    assert_eq!(answer["type"], "result", "{answer}");
    let update = json!({"op": "update", "key": "b", "patch": {}});
    assert_refused(&edit(&mut client, update).await, "no_such_document", Value::Null);
}

#[actix_web::test]
async fn a_collection_without_its_projection_is_told_at_the_start() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let started = Tidewire::builder(store).collections(["todos"]).start().await;
    let error = started.err().expect("there is no such projection");
    assert_eq!(error.to_string(), "the collection \"todos\" has no projection");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_over_http() {
    let todos = Todos::start();
    let post = async |data: Value| {
        let body = json!({ "data": data }).to_string();
        let (status, body) = todos.server.http("POST", "/commands/$collection", Some(&body)).await;
        (status, serde_json::from_str::<Value>(&body).expect("JSON"))
    };
    let insert =
        || json!({"collection": "todos", "op": "insert", "key": "a", "document": {"n": 1}});
    let (status, body) = post(insert()).await;
    assert_eq!((status, &body), (200, &json!({"data": {"revision": 0}, "position": 1})));
    let (status, body) = post(insert()).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("conflict")));
    assert_eq!(body["error"]["details"]["document"], json!({"n": 1, "$revision": 0}));
    let (status, _) = post(json!({"collection": "todos", "op": "delete", "key": "b"})).await;
    assert_eq!(status, 404);
    let (status, _) = post(json!({"collection": "x", "op": "delete", "key": "b"})).await;
    assert_eq!(status, 404);
}
