//! A projection that sums, a log to put amounts into, and what the documents have to be: a fold of
//! the log.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tidewire_eventstore::{
    Append, Category, DocumentKey, EventStore, EventType, ExpectedRevision, Generation,
    GlobalPosition, NewEvent, Payload, ProjectionName, Read, RecordedEvent, StreamName, Target,
};
use tidewire_projections::{
    Definition, DocumentStore, Documents, ProjectError, Projection,
    documents::{PAGE_MAX, PageRead, Scan, Status},
};
use tidewire_protocol::query::OrderDirection;
use tokio::time::{sleep, timeout};

/// How long a test waits for what has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Sums amounts by account. An event `Bad` is poison, and one `Panics` panics. An amount of 0
/// closes the account: its document is deleted.
pub(crate) struct Sums(Definition);

impl Sums {
    pub(crate) fn new(name: &str, version: u32) -> Self {
        Self(Definition {
            name: ProjectionName::new(name).expect("a name"),
            version,
            target: Target::Category(Category::new("account").expect("a category")),
            types: Vec::new(),
            fields: Vec::new(),
            indexes: Vec::new(),
        })
    }

    pub(crate) fn of(name: &str) -> Arc<dyn Projection> {
        Arc::new(Self::new(name, 1))
    }

    pub(crate) fn of_version(name: &str, version: u32) -> Arc<dyn Projection> {
        Arc::new(Self::new(name, version))
    }
}

fn key_of(event: &RecordedEvent) -> Result<DocumentKey, ProjectError> {
    Ok(DocumentKey::new(event.stream.as_str())?)
}

impl Projection for Sums {
    fn definition(&self) -> &Definition {
        &self.0
    }

    fn keys(&self, event: &RecordedEvent, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError> {
        keys.push(key_of(event)?);
        Ok(())
    }

    fn project(
        &self,
        event: &RecordedEvent,
        documents: &mut Documents<'_>,
    ) -> Result<(), ProjectError> {
        match event.event_type.as_str() {
            "Bad" => return Err(ProjectError::refused("a bad event")),
            "Panics" => panic!("an event that panics"),
            _ => {}
        }
        let key = key_of(event)?;
        let amount = amount_of(event);
        if amount == 0 {
            return documents.delete(&key);
        }
        let before = documents.get(&key)?;
        let number = |field: &str| before.and_then(|d| d[field].as_i64()).unwrap_or(0);
        let document = json!({
            "version": self.0.version,
            "sum": number("sum") + amount,
            "count": number("count") + 1,
        });
        documents.put(&key, document)
    }
}

fn amount_of(event: &RecordedEvent) -> i64 {
    let Payload::Json(data) = &event.payload else { return 0 };
    let data: Value = serde_json::from_slice(data).expect("JSON");
    data["amount"].as_i64().unwrap_or(0)
}

/// What the documents of [`Sums`] are after everything through `position`.
pub(crate) async fn folded(
    log: &dyn EventStore,
    version: u32,
    position: GlobalPosition,
) -> BTreeMap<String, Value> {
    let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut from = GlobalPosition::START;
    loop {
        let target = Target::Category(Category::new("account").expect("a category"));
        let read = Read { until: Some(position), ..Read::after(target, from, 5000) };
        let page = log.read(read).await.expect("reads");
        for event in &page.events {
            from = event.position;
            if ["Bad", "Panics"].contains(&event.event_type.as_str()) {
                continue;
            }
            let amount = amount_of(event);
            if amount == 0 {
                sums.remove(event.stream.as_str());
                continue;
            }
            let (sum, count) = sums.entry(event.stream.as_str().into()).or_default();
            *sum += amount;
            *count += 1;
        }
        if !page.more {
            break;
        }
    }
    let document =
        |(sum, count): (i64, i64)| json!({"version": version, "sum": sum, "count": count});
    sums.into_iter().map(|(key, values)| (key, document(values))).collect()
}

/// All documents of a generation, and where it stood when they were read.
pub(crate) async fn stored(
    documents: &dyn DocumentStore,
    generation: Generation,
) -> (GlobalPosition, BTreeMap<String, Value>) {
    loop {
        let mut all = BTreeMap::new();
        let mut after = None;
        let mut position = None;
        let settled = loop {
            let scan = Scan::Keys(OrderDirection::Ascending);
            let read = PageRead { generation, scan, after, limit: PAGE_MAX };
            let page = documents.page(read).await.expect("reads");
            if *position.get_or_insert(page.position) != page.position {
                break false;
            }
            after = page.documents.last().map(|(place, _)| place.clone());
            for (_, document) in page.documents {
                let value = serde_json::from_slice(&document.data).expect("JSON");
                all.insert(document.key.as_str().to_owned(), value);
            }
            if !page.more {
                break true;
            }
        };
        if settled {
            return (position.unwrap_or_default(), all);
        }
    }
}

/// Fails unless the documents are what a fold of the log through the checkpoint gives.
pub(crate) async fn assert_folded(
    log: &dyn EventStore,
    documents: &dyn DocumentStore,
    status: &Status,
) {
    let active = &status.active;
    let (position, documents) = stored(documents, active.generation).await;
    let folded = folded(log, active.version, position).await;
    assert_eq!(documents, folded, "at {position}, generation {}", active.generation);
}

/// Appends one amount to an account.
pub(crate) async fn add(log: &dyn EventStore, account: u64, amount: i64) -> GlobalPosition {
    append(log, account, "Added", amount).await
}

/// Appends one event of a type to an account.
pub(crate) async fn append(
    log: &dyn EventStore,
    account: u64,
    event_type: &str,
    amount: i64,
) -> GlobalPosition {
    append_all(log, account, event_type, &[amount]).await
}

/// Appends events of a type to an account.
pub(crate) async fn append_all(
    log: &dyn EventStore,
    account: u64,
    event_type: &str,
    amounts: &[i64],
) -> GlobalPosition {
    let event = |amount| {
        let data = json!({"amount": amount}).to_string();
        NewEvent::json(EventType::new(event_type).expect("a type"), data)
    };
    let append = Append {
        stream: StreamName::new(&format!("account-{account}")).expect("a name"),
        expected: ExpectedRevision::Any,
        events: amounts.iter().map(event).collect(),
    };
    log.append(append).expect("is taken").await.expect("is recorded").position
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// Appends an event that is for no projection here.
pub(crate) async fn elsewhere(log: &dyn EventStore) -> GlobalPosition {
    let append = Append {
        stream: StreamName::new("other-1").expect("a name"),
        expected: ExpectedRevision::Any,
        events: vec![NewEvent::json(EventType::new("Other").expect("a type"), "{}")],
    };
    log.append(append).expect("is taken").await.expect("is recorded").position
}
