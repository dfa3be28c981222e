//! The Rust client against the real program: pages, filters and refusals, each with its type.

#![allow(clippy::unwrap_used)]

mod support;

use std::future::Future;

use support::Server;
use tidewire_client::{
    After, AppendError, Client, ClientConfig, Cursor, Direction, ErrorCode, FetchError,
    FetchRefused, FetchRequest, Field, Filter, SubscribeOptions, SubscriptionEnded, Target,
};
use tidewire_eventstore::{
    Category, EventType, ExpectedRevision, GlobalPosition, NewEvent, RecordedEvent, Revision,
    StreamName,
};

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(support::PATIENCE, future).await.unwrap()
}

/// A client, and a log of ten events: `order-0`, `cart-1`, `order-0`, `cart-1`, …, the type of
/// every third `Third`.
async fn client(server: &Server) -> Client {
    let url = server.api.url().replace("http", "ws") + "/ws";
    let client = Client::connect(&url, ClientConfig::default()).unwrap();
    for number in 0..10 {
        let stream = ["order-0", "cart-1"][number % 2];
        let event_type = if number % 3 == 0 { "Third" } else { "Other" };
        let event = NewEvent::json(EventType::new(event_type).unwrap(), format!("{number}"));
        let stream = StreamName::new(stream).unwrap();
        in_time(client.append(stream, ExpectedRevision::Any, vec![event])).await.unwrap();
    }
    client
}

fn forwards(from: Target, after: Option<Cursor>, limit: usize) -> FetchRequest {
    FetchRequest { from, after, before: None, limit, direction: Direction::Forwards }
}

fn positions(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position.get()).collect()
}

fn order() -> Target {
    Target::Stream(StreamName::new("order-0").unwrap())
}

#[tokio::test]
async fn pages_are_read_both_ways_from_streams_categories_and_everything() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let client = client(&server).await;
    let position = |number| Some(Cursor::Position(GlobalPosition::new(number)));
    let revision = |number| Some(Cursor::Revision(Revision::new(number)));
    let carts = Target::Category(Category::new("cart").unwrap());
    let backwards = |from, before, limit| FetchRequest {
        from,
        after: None,
        before,
        limit,
        direction: Direction::Backwards,
    };
    for (fetch, expected, next) in [
        (forwards(Target::All, None, 4), &[1, 2, 3, 4][..], position(4)),
        (forwards(Target::All, position(8), 4), &[9, 10], None),
        (forwards(carts, position(2), 2), &[4, 6], position(6)),
        (forwards(order(), None, 2), &[1, 3], revision(1)),
        (forwards(order(), revision(2), 9), &[7, 9], None),
        (backwards(Target::All, None, 2), &[10, 9], position(9)),
        (backwards(order(), revision(1), 2), &[1], None),
        (forwards(Target::Stream(StreamName::new("none").unwrap()), None, 2), &[], None),
    ] {
        let page = in_time(client.fetch(fetch.clone())).await.unwrap();
        assert_eq!(positions(&page.events), expected, "{fetch:?}");
        assert_eq!((page.next, page.head.get()), (next, 10), "{fetch:?}");
    }
    let mixed_up = in_time(client.fetch(forwards(order(), position(1), 2))).await;
    assert_eq!(mixed_up, Err(FetchError::NotAsked(FetchRefused::Invalid)));
    in_time(client.close()).await;
}

#[tokio::test]
async fn whatever_filter_the_protocol_has_can_be_said_and_is_obeyed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let client = client(&server).await;
    let third = || Filter::In(Field::Type, ["Third".into()].into());
    let carts = || Filter::Prefix(Field::Stream, "cart-".into());
    for (filter, expected) in [
        (third(), &[1, 4, 7, 10][..]),
        (Filter::types(&[EventType::new("Third").unwrap()]), &[1, 4, 7, 10]),
        (Filter::Prefix(Field::Type, "Th".into()), &[1, 4, 7, 10]),
        (carts(), &[2, 4, 6, 8, 10]),
        (Filter::In(Field::Stream, ["order-0".into()].into()), &[1, 3, 5, 7, 9]),
        (Filter::And(vec![third(), carts()]), &[4, 10]),
        (Filter::Or(vec![third(), carts()]), &[1, 2, 4, 6, 7, 8, 10]),
        (Filter::Not(Box::new(Filter::Or(vec![third(), carts()]))), &[3, 5, 9]),
    ] {
        let options = SubscribeOptions {
            filter: Some(filter.clone()),
            ..SubscribeOptions::new(Target::All, After::Start)
        };
        let mut events = client.subscribe(options).await.unwrap();
        let mut received = Vec::new();
        while received.len() < expected.len() {
            received.push(in_time(events.next_event()).await.unwrap().unwrap());
        }
        assert_eq!(positions(&received), expected, "{filter:?}");
    }
    in_time(client.close()).await;
}

#[tokio::test]
async fn what_the_server_refuses_comes_with_its_code() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let client = client(&server).await;

    let mut deep = Filter::Prefix(Field::Type, "T".into());
    for _ in 0..10 {
        deep = Filter::Not(Box::new(deep));
    }
    let options =
        SubscribeOptions { filter: Some(deep), ..SubscribeOptions::new(Target::All, After::Start) };
    let mut events = client.subscribe(options).await.unwrap();
    match in_time(events.next_event()).await {
        Some(Err(SubscriptionEnded::Refused(error))) => {
            assert_eq!(error.known(), Some(ErrorCode::InvalidFilter));
        }
        other => panic!("it should be refused, not {other:?}"),
    }

    let event = NewEvent::json(EventType::new("T").unwrap(), "{}");
    let stream = StreamName::new("order-0").unwrap();
    let append = client.append(stream, ExpectedRevision::NoStream, vec![event]);
    match in_time(append).await {
        Err(AppendError::Refused(error)) => {
            assert_eq!(error.known(), Some(ErrorCode::WrongExpectedRevision));
        }
        other => panic!("it should be refused, not {other:?}"),
    }
    in_time(client.close()).await;
}

#[tokio::test]
async fn a_page_is_asked_for_again_when_the_server_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &[]);
    let address = server.api.url().replace("http://", "");
    let client = client(&server).await;
    server.running.signal(nix::sys::signal::Signal::SIGKILL);
    server.running.wait();
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.fetch(forwards(Target::All, None, 100)).await }
    });
    let mut command = support::tidewire(directory.path());
    command.args(["serve", "--address", &address]);
    let _server = Server::run(command);
    let page = in_time(asked).await.unwrap().unwrap();
    assert_eq!(page.events.len(), 10);
    in_time(client.close()).await;
}
