//! The connection is lost while a group is on its way to be committed: whoever appended learns
//! the truth, and the events stand in the log once, or not at all.
//!
//! A link between store and server loses the request, loses the answer, or delivers the request
//! only after the store has looked for it.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use support::{
    Database, append, event, event_with_id,
    link::{Fault, Link},
    soon, submit, whole_log,
};
use tidewire_eventstore::{
    EventStore,
    postgres::{ListenMode, PostgresStore},
};

async fn store_through(link: &Link, database: &Database) -> Arc<PostgresStore> {
    let mut options = database.options();
    options.url = link.through(&database.url);
    options.listen = ListenMode::PollOnly;
    support::connect(options).await
}

async fn append_through(fault: Fault) -> (Database, Arc<PostgresStore>, Link) {
    let database = Database::create().await;
    let link = Link::to(&database.url).await;
    let store = store_through(&link, &database).await;
    submit(&*store, append("a-1", vec![event("0")])).await.unwrap();
    link.strike("cut here", fault);
    let events = vec![event("\"cut here\""), event("2")];
    let appended = soon("an answer", submit(&*store, append("a-1", events))).await.unwrap();
    assert_eq!((appended.position.get(), appended.revision.get()), (3, 2));
    assert_eq!(link.struck(), 1, "the fault struck");
    (database, store, link)
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_is_found() {
    let (_database, store, _link) = append_through(Fault::LoseAnswer).await;
    assert_eq!(whole_log(&*store).await.len(), 3);
    let next = submit(&*store, append("a-1", vec![event("3")])).await.unwrap();
    assert_eq!((next.position.get(), next.revision.get()), (4, 3));
    store.close().await;
}

#[tokio::test]
async fn an_append_that_never_arrived_is_made_again() {
    let (_database, store, _link) = append_through(Fault::LoseRequest).await;
    assert_eq!(whole_log(&*store).await.len(), 3);
    store.close().await;
}

#[tokio::test]
async fn a_request_that_arrives_after_it_was_given_up_is_void() {
    let (_database, store, link) = append_through(Fault::DelayRequest).await;
    soon("the delayed request", link.deliver()).await;
    assert_eq!(whole_log(&*store).await.len(), 3);
    let next = submit(&*store, append("a-1", vec![event("3")])).await.unwrap();
    assert_eq!((next.position.get(), next.revision.get()), (4, 3));
    store.close().await;
}

#[tokio::test]
async fn what_was_not_found_is_void_even_if_the_log_stands_still() {
    let (database, store, _link) = append_through(Fault::LoseRequest).await;
    store.close().await;
    // The lost request, arriving now, as if nothing had been appended since: by the fence that
    // its writer knew it is void, by the present one it would be recorded.
    let mut connection = database.connection().await;
    for (fence, verdict) in [(0_i64, "moved"), (1, "appended")] {
        let said: String = sqlx::query_scalar(
            "SELECT tidewire.append_group(3, $1, now(), '{}', '{0}',
                array['00000000-0000-0000-0000-000000000001'::uuid], '{b-1}', '{Counted}',
                array['1'::json], array[NULL::text], array[NULL::bytea], array[NULL::json],
                '{}', '{}', '{}', '{}', '{}', '{}')",
        )
        .bind(fence)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!(said, verdict, "by fence {fence}");
    }
}

#[tokio::test]
async fn client_made_ids_survive_a_lost_answer() {
    let database = Database::create().await;
    let link = Link::to(&database.url).await;
    let store = store_through(&link, &database).await;
    submit(&*store, append("a-1", vec![event("0")])).await.unwrap();
    let request = append("a-1", vec![event_with_id("\"cut here\"")]);
    link.strike("cut here", Fault::LoseAnswer);
    let first = soon("an answer", submit(&*store, request.clone())).await.unwrap();
    let again = submit(&*store, request).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(whole_log(&*store).await.len(), 2);
    store.close().await;
}
