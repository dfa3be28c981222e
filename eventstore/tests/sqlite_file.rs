//! What holds of the log's file itself: who may serve it, and that what was appended is there
//! after the store was closed and opened again.

#![cfg(feature = "sqlite")]

use std::{sync::Arc, time::Duration};

use tidewire_eventstore::{
    Append, EventRef, EventStore, EventType, ExpectedRevision, GlobalPosition, LogTail, NewEvent,
    OpenError, Read, Removal, Revision, SqliteOptions, SqliteStore, StreamName, TailConfig, Target,
};

fn append(stream: &str, data: &'static str) -> Append {
    Append {
        stream: StreamName::new(stream).expect("a good name"),
        expected: ExpectedRevision::Any,
        events: vec![NewEvent::json(EventType::new("Counted").expect("a good name"), data)],
    }
}

fn page_of_all() -> Read {
    Read::after(Target::All, GlobalPosition::START, 100)
}

#[tokio::test]
async fn what_was_appended_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteStore::open(&path, SqliteOptions::serve()).await.unwrap();
    store.append(append("a-1", "{\"n\": 1 }")).unwrap().await.unwrap();
    store.append(append("a-1", "{\"n\": 2 }")).unwrap().await.unwrap();
    let before = (store.read(page_of_all()).await.unwrap(), store.head().await.unwrap());
    store.close().await;
    let store = SqliteStore::open(&path, SqliteOptions::serve()).await.unwrap();
    assert_eq!((store.read(page_of_all()).await.unwrap(), store.head().await.unwrap()), before);
    assert_eq!(before.0.events.len(), 2);
    store.close().await;
}

#[tokio::test]
async fn a_second_server_of_a_file_is_refused_and_a_tool_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let serving = SqliteStore::open(&path, SqliteOptions::serve()).await.unwrap();
    let second = SqliteStore::open(&path, SqliteOptions::serve()).await;
    assert_eq!(second.map(drop).unwrap_err(), OpenError::Served { path: path.clone() });
    let tool = SqliteStore::open(&path, SqliteOptions::tool()).await.unwrap();
    tool.append(append("a-1", "1")).unwrap().await.unwrap();
    tool.close().await;
    serving.close().await;
    let next = SqliteStore::open(&path, SqliteOptions::serve()).await.unwrap();
    assert_eq!(next.read(page_of_all()).await.unwrap().events.len(), 1);
    next.close().await;
}

#[tokio::test]
async fn a_server_follows_what_a_tool_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let serving: Arc<dyn EventStore> =
        Arc::new(SqliteStore::open(&path, SqliteOptions::serve()).await.unwrap());
    let tool = SqliteStore::open(&path, SqliteOptions::tool()).await.unwrap();
    let config = TailConfig::with_head_poll(Duration::from_millis(10));
    let mut tail = LogTail::new(Arc::clone(&serving), GlobalPosition::START, config);
    for round in 0..5_u64 {
        let writer: &dyn EventStore = if round % 2 == 0 { &*serving } else { &tool };
        let appended = writer.append(append("a-1", "1")).unwrap().await.unwrap();
        assert_eq!((appended.position.get(), appended.revision.get()), (round + 1, round));
        let batch = tokio::time::timeout(Duration::from_secs(10), tail.next()).await.unwrap();
        assert_eq!(batch.events.len(), 1);
        assert_eq!(batch.events[0].position, appended.position);
    }
    tool.close().await;
    serving.close().await;
}

/// Not only let go of: overwritten. The log beside the file is empty once the store is closed.
#[tokio::test]
async fn what_was_removed_is_nowhere_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteStore::open(&path, SqliteOptions::serve()).await.unwrap();
    // Some fit into a page of the file, some do not.
    let long: &'static str = format!("\"{}\"", "to be forgotten ".repeat(2000)).leak();
    for data in ["\"to be forgotten\"", long, "\"to be kept\""] {
        for stream in ["a-1", "a-2"] {
            store.append(append(stream, data)).unwrap().await.unwrap();
        }
    }
    store.close().await;
    let holds = |text: &str| {
        let file = std::fs::read(&path).unwrap();
        file.windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(holds("to be forgotten"));

    let store = SqliteStore::open(&path, SqliteOptions::serve()).await.unwrap();
    let stream = StreamName::new("a-1").unwrap();
    let truncate = Removal::Truncate { stream, before: Revision::new(2) };
    assert_eq!(store.remove(truncate).await.unwrap().events, 2);
    for position in [2, 4] {
        let event = EventRef::Position(GlobalPosition::new(position));
        assert_eq!(store.remove(Removal::Erase(event)).await.unwrap().events, 1);
    }
    store.close().await;
    assert!(holds("to be kept"));
    assert!(!holds("to be forgotten"));
}
