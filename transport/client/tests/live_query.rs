//! Over real sockets that break: whole pictures of live queries, pages of documents, and counts.

mod fake_server;

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use fake_server::FakeServer;
use futures_util::StreamExt;
use tidewire_client::{
    After, Backoff, Changed, Client, ClientConfig, Delivery, DocumentKey, ErrorCode, FetchError,
    LiveQuery, Notice, ProjectionName, Query, QueryRequest, SubscribeOptions, SubscriptionEnded,
    Summary, Target, View,
};
use tidewire_eventstore::EventId;
use tidewire_protocol::SessionConfig;

/// No test waits longer than this for anything.
const DEADLINE: Duration = Duration::from_secs(20);

fn config() -> ClientConfig {
    let backoff = Backoff {
        initial: Duration::from_millis(5),
        max: Duration::from_millis(50),
        ..Backoff::default()
    };
    ClientConfig { backoff, ..ClientConfig::default() }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens before the deadline")
}

fn all(projection: &str) -> Query {
    Query::all(ProjectionName::new(projection).expect("a good name"))
}

/// A view's documents, as `key=text …`.
fn shown(view: &View) -> String {
    let documents = view.documents.iter();
    let texts = documents.map(|(key, text)| format!("{key}={}", String::from_utf8_lossy(text)));
    texts.collect::<Vec<_>>().join(" ")
}

/// The next view for which `is` holds.
async fn view_with(query: &mut LiveQuery, is: impl Fn(&View) -> bool) -> View {
    let view = async {
        loop {
            let view = query.next_view().await.expect("it goes on").expect("no error");
            if is(&view) {
                return view;
            }
        }
    };
    in_time(view).await
}

#[tokio::test]
async fn a_live_query_shows_pictures_across_cuts_a_rebuild_and_swept_deletes() {
    let server = FakeServer::start(SessionConfig::default()).await;
    for key in ["a", "b", "c"] {
        server.documents().change(key, Some(r#"{"n":1}"#));
    }
    let client = Client::connect(&server.url, config()).expect("an address");
    let mut query = client.live_query(all("things")).await.expect("open");
    let first = view_with(&mut query, |view| view.live).await;
    assert_eq!(shown(&first), r#"a={"n":1} b={"n":1} c={"n":1}"#);
    assert_eq!(first.changed, Changed::All);

    let at = server.documents().change("b", None);
    let view = in_time(query.view_at(at)).await.expect("it goes on").expect("no error");
    assert_eq!(shown(&view), r#"a={"n":1} c={"n":1}"#);
    let b = DocumentKey::new("b").expect("a good key");
    assert_eq!(view.changed, Changed::Keys(BTreeSet::from([b])));
    assert_eq!(view.reached.position, at);

    // What happens while the connection is cut is told after it, and nothing twice.
    server.cut.notify_one();
    view_with(&mut query, |view| !view.live).await;
    let at = server.documents().change("d", Some("{}"));
    let view = in_time(query.view_at(at)).await.expect("it goes on").expect("no error");
    assert_eq!(shown(&view), r#"a={"n":1} c={"n":1} d={}"#);
    assert!(matches!(view.changed, Changed::Keys(_)), "it went on from what it had");

    // A delete that is forgotten before the client is back costs a new state.
    server.cut.notify_one();
    view_with(&mut query, |view| !view.live).await;
    let at = {
        let mut documents = server.documents();
        let at = documents.change("d", None);
        documents.sweep();
        at
    };
    let view = in_time(query.view_at(at)).await.expect("it goes on").expect("no error");
    assert_eq!(shown(&view), r#"a={"n":1} c={"n":1}"#);

    let before = view.reached.generation;
    server.documents().rebuild();
    let view = view_with(&mut query, |view| view.reached.generation != before).await;
    assert_eq!((shown(&view).as_str(), &view.changed), ("a={} c={}", &Changed::All));
    assert!(server.connections.load(Ordering::SeqCst) >= 3, "the connection was cut");
}

#[tokio::test]
async fn who_is_slow_is_shown_the_latest_picture_and_all_that_changed() {
    let server = FakeServer::start(SessionConfig::default()).await;
    server.documents().change("k0", Some("{}"));
    let client = Client::connect(&server.url, config()).expect("an address");
    let mut slow = client.live_query(all("things")).await.expect("open");
    let mut quick = client.live_query(all("things")).await.expect("open");
    view_with(&mut slow, |view| view.live).await;
    let mut at = server.documents().reached().position;
    for number in 1..=50 {
        at = server.documents().change(&format!("k{number}"), Some("{}"));
        in_time(quick.view_at(at)).await.expect("it goes on").expect("no error");
    }
    let view = in_time(slow.view_at(at)).await.expect("it goes on").expect("no error");
    assert_eq!(view.documents.len(), 51);
    let Changed::Keys(keys) = view.changed else { panic!("it knows what changed") };
    assert_eq!(keys.len(), 50);
    assert!(!slow.has_news(), "there was one view of it all");
}

#[tokio::test]
async fn a_query_that_cannot_be_ends_with_its_code_and_one_that_is_dropped_on_the_server() {
    let server = FakeServer::start(SessionConfig::default()).await;
    let client = Client::connect(&server.url, config()).expect("an address");
    let mut unknown = client.live_query(all("nothing")).await.expect("open");
    let Some(Err(SubscriptionEnded::Refused(error))) = in_time(unknown.next_view()).await else {
        panic!("it is refused")
    };
    assert_eq!(error.known(), Some(ErrorCode::UnknownProjection));
    assert!(in_time(unknown.next()).await.is_none(), "nothing follows");

    let mut query = client.live_query(all("things")).await.expect("open");
    view_with(&mut query, |view| view.live).await;
    assert_eq!(server.feeds.load(Ordering::SeqCst), 1);
    drop(query);
    let ended = async {
        while server.feeds.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time(ended).await;

    let mut query = client.live_query(all("things")).await.expect("open");
    view_with(&mut query, |view| view.live).await;
    client.close().await;
    let end = async { while query.next_view().await.is_some() {} };
    in_time(end).await;
}

#[tokio::test]
async fn documents_are_read_page_by_page_and_waited_for() {
    let server = FakeServer::start(SessionConfig::default()).await;
    let mut at = server.documents().reached().position;
    for key in ["a", "b", "c", "d", "e"] {
        at = server.documents().change(key, Some("{}"));
    }
    let client = Client::connect(&server.url, config()).expect("an address");
    let mut request = QueryRequest::new(all("things"), 2);
    request.wait = Some(at);
    let mut keys = Vec::new();
    loop {
        let page = in_time(client.fetch_documents(request.clone())).await.expect("a page");
        assert_eq!(page.reached.position, at);
        keys.extend(page.documents.iter().map(|document| document.key.to_string()));
        match page.next {
            Some(next) => request.cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(keys, ["a", "b", "c", "d", "e"]);
    request.wait = Some(at.next());
    let late = in_time(client.fetch_documents(request.clone())).await;
    let Err(FetchError::Refused(error)) = late else { panic!("{late:?}") };
    assert_eq!((error.known(), error.retryable), (Some(ErrorCode::WaitTimeout), true));
    request.limit = 0;
    let none = in_time(client.fetch_documents(request)).await;
    assert!(matches!(none, Err(FetchError::NotAsked(_))), "{none:?}");
}

#[tokio::test]
async fn counts_add_up_across_cuts() {
    let server = FakeServer::start(SessionConfig::default()).await;
    let client = Client::connect(&server.url, config()).expect("an address");
    let options = SubscribeOptions::new(Target::All, After::Start).summary(Summary::Events(7));
    let mut counts = client.subscribe(options).await.expect("open");
    let (mut counted, mut through) = (0, 0);
    for number in 1..=100u64 {
        let kind = if number.is_multiple_of(3) { "Third" } else { "Other" };
        server.record("order-1", kind, EventId::generate(), "{}".into());
        if number.is_multiple_of(40) {
            server.cut.notify_one();
        }
        while through + 7 <= number {
            match in_time(counts.next()).await.expect("it goes on").expect("no error") {
                Delivery::Notice(Notice::Summary(summary)) => {
                    assert_eq!(summary.after.get(), through, "nothing between two of them");
                    through = summary.position.get();
                    counted += summary.count();
                }
                Delivery::Notice(_) => {}
                Delivery::Event(event) => panic!("{} was not counted", event.position),
            }
        }
    }
    assert_eq!((counted, through), (98, 98));
}
