//! The doors in SQL as a caller meets them: what they check, what they answer and refuse, who may
//! use them, and what an append through them means for everybody else.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, PgConnection};
use support::{
    Database,
    cluster::Cluster,
    doors::{self, counted, enqueue, run, text},
    soon, whole_log,
};
use tidewire_eventstore::{
    EventStore, ExpectedRevision, GlobalPosition, LogTail, Payload, Removal, StreamName,
    TailConfig, postgres::PostgresStore,
};

async fn prepared() -> (Database, PgConnection) {
    let database = Database::create().await;
    PostgresStore::migrate(&database.url).await.unwrap();
    let connection = database.connection().await;
    (database, connection)
}

#[tokio::test]
async fn an_append_answers_with_position_and_revision_of_its_last_event() {
    let (database, mut caller) = prepared().await;
    let two = format!("[{},{}]", counted(1), counted(2));
    assert_eq!(doors::append(&mut caller, "a-1", &counted(0), "any").await, Ok((1, 0)));
    assert_eq!(doors::append(&mut caller, "a-1", &two, "0").await, Ok((3, 2)));
    assert_eq!(doors::append(&mut caller, "b-1", &two, "no_stream").await, Ok((5, 1)));
    let number = "SELECT position FROM tidewire.append('b-1', tidewire.event('T', '1'), 1)";
    assert_eq!(text(&mut caller, number).await, "6");
    let store = database.store().await;
    let log = whole_log(&*store).await;
    assert_eq!(log.len(), 6);
    store.close().await;
}

#[tokio::test]
async fn a_payload_stays_as_it_is_byte_for_byte() {
    let (database, mut caller) = prepared().await;
    let payload = "{\"b\" : 1,\t\"a\":[1.0,  1e3, \"\\u00fc\"], \"a\": null }";
    let event = format!(r#"{{"type":"T","meta": {payload} , "data": {payload} }}"#);
    doors::append(&mut caller, "a-1", &event, "any").await.unwrap();
    let call = "SELECT position FROM tidewire.append('a-1', tidewire.event('T', $1::text::json))";
    sqlx::query(call).bind(payload).execute(&mut caller).await.unwrap();
    let store = database.store().await;
    let log = whole_log(&*store).await;
    assert_eq!(log[0].meta.as_deref(), Some(payload.as_bytes()));
    assert_eq!(log[0].payload, Payload::Json(payload.into()));
    assert_eq!(log[1].payload, Payload::Json(payload.into()));
    assert_eq!(log[1].meta, None);
    store.close().await;
}

#[tokio::test]
async fn an_append_takes_effect_at_the_expected_revision_only() {
    let (_database, mut caller) = prepared().await;
    for (stream, expected, met) in [
        ("a-1", "exists", false),
        ("a-1", "0", false),
        ("a-1", "no_stream", true),
        ("a-1", "no_stream", false),
        ("a-1", "exists", true),
        ("a-1", "0", false),
        ("a-1", "2", false),
        ("a-1", "1", true),
        ("a-1", "any", true),
        ("b-1", "any", true),
    ] {
        let answer = doors::append(&mut caller, stream, &counted(1), expected).await;
        match answer {
            Ok(_) => assert!(met, "{stream} {expected}"),
            Err(refusal) => {
                assert!(!met, "{stream} {expected}: {refusal:?}");
                let (sqlstate, code) = (refusal.sqlstate.as_str(), refusal.code.as_str());
                assert_eq!((sqlstate, code), ("TW001", "wrong_expected_revision"));
            }
        }
    }
    let refusal = doors::append(&mut caller, "a-1", &counted(1), "7").await.unwrap_err();
    assert_eq!(refusal.message, "stream a-1 is at revision 3, not 7");
}

#[tokio::test]
async fn an_append_sent_again_has_its_first_answer_by_whichever_way() {
    let (database, mut caller) = prepared().await;
    let event = |n: u8| {
        format!(r#"{{"id":"00000000-0000-0000-0000-00000000000{n}","type":"T","data":{n}}}"#)
    };
    let both = format!("[{},{}]", event(1), event(2));
    let first = doors::append(&mut caller, "a-1", &both, "no_stream").await;
    assert_eq!(first, Ok((2, 1)));
    assert_eq!(doors::append(&mut caller, "a-1", &both, "no_stream").await, first);
    assert_eq!(doors::append(&mut caller, "a-1", &both, "17").await, first);
    for (stream, events) in [
        ("a-2", both.clone()),
        ("a-1", event(1)),
        ("a-1", format!("[{},{}]", event(2), event(1))),
        ("a-1", format!("[{},{}]", event(1), event(3))),
        ("a-1", format!("[{},{}]", event(4), event(4))),
    ] {
        let refusal = doors::append(&mut caller, stream, &events, "any").await.unwrap_err();
        assert_eq!((refusal.sqlstate.as_str(), refusal.code.as_str()), ("TW002", "id_reused"));
    }
    // A server has the same memory.
    let store = database.store().await;
    let id = |n: u8| {
        let mut event = support::event(n.to_string());
        let id: uuid::Uuid = format!("00000000-0000-0000-0000-00000000000{n}").parse().unwrap();
        event.id = Some(id.into());
        event
    };
    let mut again = support::append("a-1", vec![id(1), id(2)]);
    again.expected = ExpectedRevision::NoStream;
    let appended = support::submit(&*store, again).await.unwrap();
    assert_eq!((appended.position.get(), appended.revision.get()), (2, 1));
    let appended = support::submit(&*store, support::append("b-1", vec![id(5)])).await.unwrap();
    let answer = doors::append(&mut caller, "b-1", &event(5), "no_stream").await.unwrap();
    assert_eq!(answer.0 as u64, appended.position.get());
    assert_eq!(whole_log(&*store).await.len(), 3);
    store.close().await;
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_in_the_caller_by_both_doors() {
    let (database, mut caller) = prepared().await;
    let good = counted(1);
    let nested = |depth: usize| counted(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    let mixed = |depth: usize| {
        counted(format!("{}1{}", r##"{"[":["##.repeat(depth / 2), "]}".repeat(depth / 2)))
    };
    let sized = |bytes: usize| counted(format!("\"{}\"", "x".repeat(bytes - 2)));
    let meta =
        |bytes: usize| format!(r#"{{"type":"T","data":1,"meta":"{}"}}"#, "x".repeat(bytes - 2));
    let typed = |name: &str| format!(r#"{{"type":"{name}","data":1}}"#);
    let list = |event: &str, count: usize| format!("[{}]", vec![event; count].join(","));
    let id = r#"{"id":"00000000-0000-0000-0000-000000000001","type":"T","data":1}"#;
    let mib = 1024 * 1024;
    let (long, longest) = ("x".repeat(201), "x".repeat(200));
    let brackets = counted(format!("[\"{}\"]", r##"[{\\\"["##.repeat(100)));
    let wide = counted(format!("[{}1]", "[[],{}],".repeat(5000)));

    let cases: Vec<(&str, String, &str, &str)> = vec![
        ("", good.clone(), "TW020", "name_empty"),
        ("-1", good.clone(), "TW020", "name_empty"),
        (&long, good.clone(), "TW021", "name_too_long"),
        (&longest, good.clone(), "", ""),
        ("a\n1", good.clone(), "TW022", "name_control_character"),
        ("a\u{7f}1", good.clone(), "TW022", "name_control_character"),
        ("a\u{85}1", good.clone(), "TW022", "name_control_character"),
        ("ä\u{a0}ß-1", good.clone(), "", ""),
        ("$erased", good.clone(), "TW023", "name_reserved"),
        ("a$-1", good.clone(), "", ""),
        ("a-1", typed(""), "TW020", "name_empty"),
        ("a-1", typed("-"), "", ""),
        ("a-1", typed(&long), "TW021", "name_too_long"),
        ("a-1", typed("a\\tb"), "TW022", "name_control_character"),
        ("a-1", typed("$erased"), "TW023", "name_reserved"),
        ("a-1", "[]".into(), "TW010", "no_events"),
        ("a-1", list(&good, 1000), "", ""),
        ("a-1", list(&good, 1001), "TW011", "too_many_events"),
        ("a-1", sized(mib), "", ""),
        ("a-1", sized(mib + 1), "TW012", "too_large"),
        ("a-1", meta(64 * 1024), "", ""),
        ("a-1", meta(64 * 1024 + 1), "TW012", "too_large"),
        ("a-1", list(&sized(mib), 4), "", ""),
        ("a-1", list(&sized(mib - 1), 5), "TW012", "too_large"),
        ("a-1", nested(64), "", ""),
        ("a-1", nested(65), "TW013", "invalid_json"),
        ("a-1", mixed(64), "", ""),
        ("a-1", mixed(66), "TW013", "invalid_json"),
        ("a-1", brackets, "", ""),
        ("a-1", wide, "", ""),
        ("a-1", "3".into(), "TW014", "invalid_event"),
        ("a-1", "[3]".into(), "TW014", "invalid_event"),
        ("a-1", "{}".into(), "TW014", "invalid_event"),
        ("a-1", r#"{"type":"T"}"#.into(), "TW014", "invalid_event"),
        ("a-1", r#"{"data":1}"#.into(), "TW014", "invalid_event"),
        ("a-1", r#"{"type":1,"data":1}"#.into(), "TW014", "invalid_event"),
        ("a-1", r#"{"type":null,"data":1}"#.into(), "TW014", "invalid_event"),
        ("a-1", r#"{"type":"T","data":1,"more":1}"#.into(), "TW014", "invalid_event"),
        ("a-1", r#"{"type":"T","data":1,"id":1}"#.into(), "TW014", "invalid_event"),
        ("a-1", r#"{"type":"T","data":1,"id":"1"}"#.into(), "TW014", "invalid_event"),
        ("a-1", r#"{"type":"T","data":null,"id":null,"meta":null}"#.into(), "", ""),
        ("a-1", list(id, 2), "TW002", "id_reused"),
        // What PostgreSQL itself refuses.
        ("a-1", "{".into(), "22P02", ""),
        ("a-1", counted("01"), "22P02", ""),
        ("a-1", counted("\"\\u0000\""), "22P05", ""),
    ];
    let mut accepted = 0;
    for (stream, events, sqlstate, code) in cases {
        let shown = &events[..events.len().min(60)];
        run(&mut caller, "BEGIN").await.unwrap();
        let appended = doors::append(&mut caller, stream, &events, "any").await.map(drop);
        run(&mut caller, "ROLLBACK").await.unwrap();
        let enqueued = enqueue(&mut caller, stream, &events).await;
        for answer in [appended, enqueued.clone()] {
            let found = answer.map_or_else(|r| (r.sqlstate, r.code), |()| Default::default());
            // PostgreSQL's own details are not ours to promise.
            let found = (found.0.as_str(), if code.is_empty() { "" } else { found.1.as_str() });
            assert_eq!(found, (sqlstate, code), "{stream:?} {shown}");
        }
        if enqueued.is_ok() {
            accepted += 1;
        }
    }
    for call in ["append(NULL, '{}')", "enqueue(NULL, '{}')"] {
        let refusal = run(&mut caller, &format!("SELECT tidewire.{call}")).await.unwrap_err();
        assert_eq!(refusal.code, "name_empty");
    }
    for call in ["append('a-1', NULL)", "enqueue('a-1', NULL)"] {
        let refusal = run(&mut caller, &format!("SELECT tidewire.{call}")).await.unwrap_err();
        assert_eq!(refusal.code, "invalid_event");
    }
    for expected in ["", "-1", "1.5", "stream_exists", "99999999999999999"] {
        let refusal = doors::append(&mut caller, "a-1", &good, expected).await.unwrap_err();
        assert_eq!((&*refusal.sqlstate, &*refusal.code), ("TW015", "invalid_expected"));
    }
    let waiting = text(&mut caller, "SELECT count(*) FROM tidewire.outbox").await;
    assert_eq!(waiting, accepted.to_string(), "what was refused left nothing");
    // And what was accepted can be recorded, and read.
    let store = database.store().await;
    support::eventually("all of it is moved", || async {
        store.head().await.unwrap().position.get() >= 1000 + accepted - 1
    })
    .await;
    whole_log(&*store).await;
    store.close().await;
}

#[tokio::test]
async fn an_append_needs_snapshots_newer_than_its_lock() {
    let (_database, mut caller) = prepared().await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        run(&mut caller, &format!("BEGIN ISOLATION LEVEL {level}")).await.unwrap();
        let refusal = doors::append(&mut caller, "a-1", &counted(1), "any").await.unwrap_err();
        assert_eq!((&*refusal.sqlstate, &*refusal.code), ("TW016", "wrong_isolation"));
        run(&mut caller, "ROLLBACK").await.unwrap();
    }
    // Which PostgreSQL treats as READ COMMITTED.
    run(&mut caller, "BEGIN ISOLATION LEVEL READ UNCOMMITTED").await.unwrap();
    doors::append(&mut caller, "a-1", &counted(1), "any").await.unwrap();
    run(&mut caller, "COMMIT").await.unwrap();
}

#[tokio::test]
async fn an_append_sees_to_it_that_its_transaction_is_durable_and_not_left_idle() {
    let (_database, mut caller) = prepared().await;
    const IDLE: &str = "SELECT current_setting('idle_in_transaction_session_timeout')";
    const COMMIT: &str = "SELECT current_setting('synchronous_commit')";
    for (idle, idle_after, commit, commit_after) in [
        ("0", "5s", "off", "on"),
        ("1min", "5s", "local", "on"),
        ("2s", "2s", "remote_apply", "remote_apply"),
    ] {
        let set = format!(
            "SET idle_in_transaction_session_timeout = '{idle}'; SET synchronous_commit = {commit}"
        );
        run(&mut caller, &set).await.unwrap();
        run(&mut caller, "BEGIN").await.unwrap();
        doors::append(&mut caller, "a-1", &counted(1), "any").await.unwrap();
        assert_eq!(text(&mut caller, IDLE).await, idle_after);
        assert_eq!(text(&mut caller, COMMIT).await, commit_after);
        run(&mut caller, "ROLLBACK").await.unwrap();
        assert_eq!(text(&mut caller, IDLE).await, idle);
        assert_eq!(text(&mut caller, COMMIT).await, commit);
        // The outbox leaves the caller's settings alone.
        run(&mut caller, "BEGIN").await.unwrap();
        enqueue(&mut caller, "a-1", &counted(1)).await.unwrap();
        assert_eq!(text(&mut caller, IDLE).await, idle);
        assert_eq!(text(&mut caller, COMMIT).await, commit);
        run(&mut caller, "ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_that_appends_and_forgets_to_commit_holds_others_up_for_five_seconds() {
    let (database, mut caller) = prepared().await;
    let mut options = database.options();
    options.limits.away_wait = support::DEADLINE;
    let store = support::connect(options).await;
    support::submit(&*store, support::append("own-1", vec![support::event("1")])).await.unwrap();
    run(&mut caller, "BEGIN").await.unwrap();
    let answer = doors::append(&mut caller, "a-1", &counted(1), "any").await;
    assert_eq!(answer, Ok((2, 0)));
    let since = Instant::now();
    // The outbox's door stays open meanwhile.
    let mut other = database.connection().await;
    enqueue(&mut other, "b-1", &counted(1)).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    let append = support::append("own-1", vec![support::event("2")]);
    let appended = soon("others go on", support::submit(&*store, append)).await.unwrap();
    let waited = since.elapsed();
    assert!(Duration::from_secs(4) < waited && waited < Duration::from_secs(12), "{waited:?}");
    assert_eq!(appended.revision.get(), 1);
    assert!(caller.ping().await.is_err(), "its session was ended");
    support::eventually("all is moved", || async { whole_log(&*store).await.len() == 3 }).await;
    assert!(whole_log(&*store).await.iter().all(|event| event.stream.as_str() != "a-1"));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_and_servers_append_at_once_and_followers_see_one_order() {
    const EACH: usize = 60;
    let (database, _caller) = prepared().await;
    let stores = [database.store().await, database.store().await];
    let following: Arc<dyn EventStore> = Arc::clone(&stores[1]) as _;
    let config = TailConfig::with_head_poll(support::DEADLINE * 10);
    let mut tail = LogTail::new(following, GlobalPosition::START, config);
    let programs = (0..3).map(|program| {
        let url = database.url.clone();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            for n in 0..EACH {
                let stream = if n % 2 == 0 { "shared-1" } else { "own" };
                run(&mut connection, "BEGIN").await.unwrap();
                let stream = format!("{stream}-{program}");
                doors::append(&mut connection, &stream, &counted(n), "any").await.unwrap();
                let end = if n % 3 == 0 { "ROLLBACK" } else { "COMMIT" };
                run(&mut connection, end).await.unwrap();
            }
        })
    });
    let servers = stores.iter().map(|store| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for n in 0..EACH {
                let append = support::append("shared-1-0", vec![support::event(n.to_string())]);
                support::submit(&*store, append).await.unwrap();
            }
        })
    });
    for task in programs.chain(servers).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let count = 3 * EACH * 2 / 3 + 2 * EACH;
    let log = whole_log(&*stores[0]).await;
    assert_eq!(log.len(), count);
    let mut followed = Vec::new();
    while followed.len() < count {
        followed.extend(soon("news", tail.next()).await.events.iter().cloned());
    }
    assert_eq!(followed, log);
    for store in stores {
        store.close().await;
    }
}

#[tokio::test]
async fn a_stream_that_was_removed_is_new_again_and_its_revisions_go_on() {
    let (database, mut caller) = prepared().await;
    let store = database.store().await;
    let three = format!("[{},{},{}]", counted(0), counted(1), counted(2));
    doors::append(&mut caller, "a-1", &three, "no_stream").await.unwrap();
    doors::append(&mut caller, "b-1", &three, "no_stream").await.unwrap();
    for stream in ["a-1", "b-1"] {
        let stream = StreamName::new(stream).unwrap();
        store.remove(Removal::Delete { stream }).await.unwrap();
    }
    let refusal = doors::append(&mut caller, "a-1", &counted(3), "2").await.unwrap_err();
    assert_eq!(refusal.message, "stream a-1 is at no_stream, not 2");
    let answer = doors::append(&mut caller, "a-1", &counted(3), "no_stream").await;
    assert_eq!(answer, Ok((7, 3)));
    enqueue(&mut caller, "b-1", &counted(3)).await.unwrap();
    enqueue(&mut caller, "b-1", &counted(4)).await.unwrap();
    let at = "SELECT max(revision) FROM tidewire.events WHERE stream = 'b-1'";
    support::eventually("both are moved", || async {
        let mut connection = database.connection().await;
        text(&mut connection, &format!("SELECT coalesce(({at}), 0)")).await == "4"
    })
    .await;
    store.close().await;
}

/// The same statements as somebody else, and what PostgreSQL says to them.
async fn tries(connection: &mut PgConnection, sql: &str) -> String {
    run(connection, sql).await.map_or_else(|refusal| refusal.sqlstate, |()| "may".into())
}

#[tokio::test]
async fn only_members_of_the_role_may_use_the_doors_and_nothing_but_the_doors() {
    const DENIED: &str = "42501";
    let (database, mut caller) = prepared().await;
    let suffix = &database.name;
    run(
        &mut caller,
        &format!(
            "CREATE ROLE {suffix}_member IN ROLE tidewire_writer;
             CREATE ROLE {suffix}_stranger;
             GRANT USAGE ON SCHEMA tidewire TO {suffix}_stranger"
        ),
    )
    .await
    .unwrap();
    for (role, doors) in [("member", "may"), ("stranger", DENIED)] {
        run(&mut caller, &format!("SET ROLE {suffix}_{role}")).await.unwrap();
        for (sql, expected) in [
            ("SELECT tidewire.append('a-1', '{\"type\":\"T\",\"data\":1}')", doors),
            ("SELECT tidewire.append('a-1', tidewire.event('T', '1'), 0)", doors),
            ("SELECT tidewire.append('a-1', tidewire.event('T', '1'), 'exists')", doors),
            ("SELECT tidewire.enqueue('a-1', tidewire.event('T', '1'))", doors),
            ("SELECT tidewire.move_outbox(NULL, NULL, NULL, 1, 1)", DENIED),
            ("SELECT tidewire.read_events('[]')", DENIED),
            ("SELECT tidewire.next_revision('a-1')", DENIED),
            ("SELECT nextval('tidewire.outbox_seq')", DENIED),
            ("SELECT FROM tidewire.events", DENIED),
            ("SELECT FROM tidewire.outbox", DENIED),
            ("SELECT FROM tidewire.head FOR UPDATE", DENIED),
            ("INSERT INTO tidewire.outbox_bounds DEFAULT VALUES", DENIED),
            ("DELETE FROM tidewire.requests", DENIED),
            ("CREATE TABLE tidewire.mine ()", DENIED),
        ] {
            assert_eq!(tries(&mut caller, sql).await, expected, "{role}: {sql}");
        }
        run(&mut caller, "RESET ROLE").await.unwrap();
    }
    run(
        &mut caller,
        &format!(
            "REVOKE ALL ON SCHEMA tidewire FROM {suffix}_stranger;
             DROP ROLE {suffix}_member, {suffix}_stranger"
        ),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_callers_search_path_changes_nothing() {
    let (_database, mut caller) = prepared().await;
    run(
        &mut caller,
        "CREATE SCHEMA evil;
         CREATE FUNCTION evil.cardinality(anyarray) RETURNS integer LANGUAGE sql AS 'SELECT 1/0';
         CREATE FUNCTION evil.octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT 1/0';
         CREATE FUNCTION evil.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1/0 = 1';
         CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.never);
         SET search_path = evil, pg_temp, pg_catalog",
    )
    .await
    .unwrap();
    doors::append(&mut caller, "a-1", &counted(1), "any").await.unwrap();
    enqueue(&mut caller, "a-1", &counted(1)).await.unwrap();
    let moved = "SELECT events FROM tidewire.move_outbox(NULL, NULL, NULL, 1, 1)";
    assert_eq!(text(&mut caller, moved).await, "1");
}

#[tokio::test]
async fn a_schema_owner_who_may_not_make_roles_can_migrate_and_have_the_rights_granted_later() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let server = cluster.url();
    let mut admin = PgConnection::connect(&server).await.unwrap();
    admin.execute("CREATE ROLE owner LOGIN").await.unwrap();
    admin.execute("CREATE DATABASE log OWNER owner").await.unwrap();
    let owner = support::on_database(&server, "log").replacen("postgres@", "owner@", 1);
    PostgresStore::migrate(&owner).await.unwrap();
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname = 'tidewire_writer'";
    assert_eq!(text(&mut admin, roles).await, "0");
    // As docs/sql.md says.
    admin
        .execute("CREATE ROLE tidewire_writer; CREATE ROLE app LOGIN IN ROLE tidewire_writer")
        .await
        .unwrap();
    let mut owning = PgConnection::connect(&owner).await.unwrap();
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sql.md"));
    let docs = docs.unwrap();
    let grants = docs.split("```sql\n").find(|block| block.starts_with("GRANT USAGE")).unwrap();
    run(&mut owning, grants.split("```").next().unwrap()).await.unwrap();
    let app = owner.replacen("owner@", "app@", 1);
    let mut app = PgConnection::connect(&app).await.unwrap();
    doors::append(&mut app, "a-1", &counted(1), "any").await.unwrap();
    enqueue(&mut app, "a-1", &counted(2)).await.unwrap();
    let store = support::connect(tidewire_eventstore::postgres::PostgresOptions::new(&owner)).await;
    support::eventually("it is moved", || async { whole_log(&*store).await.len() == 2 }).await;
    store.close().await;
}
