//! What is shown of what is told, a scene each.

use tidewire_eventstore::Generation;

use super::*;

fn key(key: &str) -> DocumentKey {
    DocumentKey::new(key).expect("a good key")
}

fn document(name: &str, data: &'static str) -> Document {
    Document { key: key(name), data: Bytes::from_static(data.as_bytes()) }
}

fn put(name: &str, data: &'static str) -> Change {
    Change::Put(document(name, data))
}

fn patch(name: &str, patch: &'static str) -> Change {
    Change::Patch { key: key(name), patch: Bytes::from_static(patch.as_bytes()) }
}

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

fn reached(generation: u64, position: u64) -> Reached {
    Reached { generation: Generation::new(generation), position: at(position) }
}

/// What was told, as `position: key=data …`, a picture beginning with `all`.
fn say(told: Option<Told>) -> String {
    let Some(told) = told else { return String::new() };
    let (kind, reached, documents): (_, _, Vec<_>) = match told {
        Told::Picture { reached, documents } => {
            let all = documents.iter().map(|(key, data)| (key.clone(), Some(data.clone())));
            ("all ", reached, all.collect())
        }
        Told::Changes { reached, changes } => ("", reached, changes),
    };
    let documents = documents.iter().map(|(key, data)| match data {
        Some(data) => format!(" {key}={}", String::from_utf8_lossy(data)),
        None => format!(" -{key}"),
    });
    format!("{kind}{}:{}", reached.position, documents.collect::<String>())
}

/// Live at 5, with `a` and `b`.
fn live() -> Documents {
    let mut held = Documents::new();
    assert_eq!(held.opened(reached(1, 5), false), Ok(()));
    let first = held.state(reached(1, 5), vec![document("a", r#"{"n":1}"#)], true, None);
    let second = held.state(reached(1, 5), vec![document("b", "{}")], false, None);
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(held.live(at(5)).map(say), Ok("all 5: a={\"n\":1} b={}".to_owned()));
    held
}

#[test]
fn a_state_is_shown_when_it_is_one_picture() {
    let mut held = Documents::new();
    assert_eq!(held.reached(), None);
    held.opened(reached(1, 5), false).expect("it makes sense");
    held.state(reached(1, 5), vec![document("a", "{}")], true, None).expect("it makes sense");
    assert_eq!(held.reached(), None, "half a state is nothing to go on from");
    assert_eq!(held.live(at(5)), Err(Nonsense));
    held.state(reached(1, 5), vec![document("c", "{}")], false, None).expect("it makes sense");
    assert_eq!(held.reached(), Some(reached(1, 5)));
    let changes = vec![put("b", "{}"), Change::Delete { key: key("c") }];
    assert_eq!(held.changes(at(9), changes, false), Ok(None), "it is not live yet");
    assert_eq!(held.reached(), Some(reached(1, 9)));
    assert_eq!(held.live(at(10)).map(say), Ok("all 10: a={} b={}".to_owned()));
}

#[test]
fn each_step_is_shown_while_it_is_live() {
    let mut held = live();
    let told = held.changes(at(6), vec![patch("a", r#"{"m":2}"#)], false);
    assert_eq!(told.map(say), Ok("6: a={\"m\":2,\"n\":1}".to_owned()));
    assert_eq!(held.changes(at(8), vec![put("c", "{}")], true), Ok(None), "there is more of it");
    assert_eq!(held.reached(), Some(reached(1, 6)));
    assert!(!held.advance(at(8)), "not in the middle of a step");
    let told = held.changes(at(8), vec![patch("a", r#"{"n":null}"#)], false);
    assert_eq!(told.map(say), Ok("8: a={\"m\":2} c={}".to_owned()));
    let again = held.changes(at(8), vec![put("d", "{}")], false);
    assert_eq!(again, Ok(None), "told before");
    assert!(held.advance(at(20)) && !held.advance(at(19)));
    assert_eq!(held.reached(), Some(reached(1, 20)));
}

#[test]
fn who_is_behind_is_shown_nothing_until_live() {
    let mut held = live();
    held.behind();
    assert_eq!(held.changes(at(6), vec![put("a", "{}")], false), Ok(None));
    assert_eq!(held.changes(at(7), vec![Change::Delete { key: key("b") }], false), Ok(None));
    assert_eq!(held.reached(), Some(reached(1, 7)));
    held.lost();
    assert_eq!(held.reached(), Some(reached(1, 7)), "what is aside is not lost");
    held.opened(reached(1, 7), true).expect("it makes sense");
    assert_eq!(held.changes(at(9), vec![put("b", r#"{"n":3}"#)], false), Ok(None));
    assert_eq!(held.live(at(9)).map(say), Ok("9: a={} b={\"n\":3}".to_owned()));
}

#[test]
fn a_state_that_is_told_again_replaces_what_is_shown_at_once() {
    let mut held = live();
    let reset = Some(QueryReset::Generation);
    held.state(reached(2, 4), vec![document("z", "{}")], true, reset).expect("it makes sense");
    assert_eq!(held.reached(), None, "its generation is no longer the one");
    // Another one, in the middle of it.
    held.state(reached(3, 6), vec![document("y", "{}")], false, reset).expect("it makes sense");
    assert_eq!(held.live(at(6)).map(say), Ok("all 6: y={}".to_owned()));
}

#[test]
fn half_a_state_is_lost_with_its_connection() {
    let mut held = live();
    let reset = Some(QueryReset::Truncated);
    held.state(reached(1, 9), vec![document("z", "{}")], true, reset).expect("it makes sense");
    held.lost();
    assert_eq!(held.reached(), None);
    assert_eq!(held.opened(reached(1, 5), true), Err(Nonsense), "nothing was asked to go on");
}

#[test]
fn nonsense_is_told_from_sense() {
    let page = || vec![document("a", "{}")];
    let mut held = Documents::new();
    assert_eq!(held.changes(at(1), vec![], false), Err(Nonsense), "changes of nothing");
    assert_eq!(held.live(at(1)), Err(Nonsense), "nothing is live");
    assert_eq!(held.state(reached(1, 5), page(), false, None), Err(Nonsense), "no state is due");
    held.opened(reached(1, 5), false).expect("it makes sense");
    held.state(reached(1, 5), page(), true, None).expect("it makes sense");
    assert_eq!(held.state(reached(1, 6), page(), true, None), Err(Nonsense), "of another state");
    assert_eq!(held.changes(at(7), vec![], false), Err(Nonsense), "the state is not whole");
    assert_eq!(live().changes(at(6), vec![patch("z", "{}")], false), Err(Nonsense), "not held");
    let mut held = live();
    held.changes(at(6), vec![], true).expect("it makes sense");
    assert_eq!(held.live(at(6)), Err(Nonsense), "in the middle of a step");
    let mut held = live();
    held.lost();
    assert_eq!(held.opened(reached(1, 4), true), Err(Nonsense), "resumed where it was not");
}
