//! The examples of `docs/sql.md` do what they say: the statements and the Python program are run
//! as they stand there.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use support::{Database, doors, whole_log};
use tidewire_eventstore::{EventStore, postgres::PostgresStore};

/// The blocks of one language, in their order.
fn blocks(language: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sql.md");
    let docs = std::fs::read_to_string(path).unwrap();
    docs.split(&format!("```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

/// A Python that has psycopg 3: the one that `cargo xtask test` made, or any in the path.
fn python() -> String {
    let python = std::env::var("TIDEWIRE_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import psycopg"]).output();
    assert!(
        has.is_ok_and(|output| output.status.success()),
        "{python} cannot import psycopg. `cargo xtask test` makes one that can and sets \
         TIDEWIRE_TEST_PYTHON; or: pip install 'psycopg[binary]'"
    );
    python
}

#[tokio::test]
async fn the_examples_run_and_their_events_are_in_the_log() {
    let database = Database::create().await;
    PostgresStore::migrate(&database.url).await.unwrap();
    let mut connection = database.connection().await;
    let examples = blocks("sql");
    assert_eq!(examples.len(), 4, "the examples, the bound, a user and the grants");
    // Roles belong to the whole server, so the example's is made under another name, and goes.
    let role = format!("shop_{}", database.name);
    for example in &examples {
        let example = example.replace("shop", &role);
        doors::run(&mut connection, &example).await.unwrap();
    }
    let python = Command::new(python())
        .args(["-c", &blocks("python").concat(), &database.url])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&python.stderr);
    assert!(python.status.success(), "{errors}");
    assert_eq!(
        String::from_utf8_lossy(&python.stdout).trim(),
        "appended at position 3, revision 2"
    );

    let store = database.store().await;
    support::eventually("the outbox is moved", || async {
        store.head().await.unwrap().position.get() == 7
    })
    .await;
    let log = whole_log(&*store).await;
    let types: Vec<_> = log.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(
        types,
        [
            "AccountOpened",
            "Deposited",
            "Withdrawn",
            "OrderPlaced",
            "PaymentReceived",
            "OrderPaid",
            "OrderShipped"
        ]
    );
    doors::run(&mut connection, &format!("DROP ROLE {role}")).await.unwrap();
    store.close().await;
}
