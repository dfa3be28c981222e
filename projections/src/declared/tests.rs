//! Each kind by example, against a naive fold of any events, and what is wrong with settings.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use tidewire_eventstore::Timestamp;

use super::*;
use crate::kit::{Given, TestEvent, event};

fn config(settings: Value) -> DeclaredConfig {
    serde_json::from_value(settings).expect("the keys are known")
}

fn build(settings: Value) -> Arc<dyn Projection> {
    config(settings).build().expect("the settings make sense")
}

#[test]
fn the_latest_is_merged_or_replaces() {
    let events = || {
        [
            event(
                "flight-1",
                "Scheduled",
                json!({"flight": "AB1", "gate": {"area": "A", "no": 7}}),
            ),
            event("flight-1", "Moved", json!({"flight": "AB1", "gate": {"no": 9}, "late": true})),
            event("flight-2", "Moved", json!({"flight": "CD2", "gate": null})),
            event("flight-1", "Moved", json!({"flight": "AB1", "late": null})),
        ]
    };
    let settings =
        json!({"name": "flights", "kind": "latest_by", "category": "flight", "key": "data.flight"});
    let with = |more: Value| {
        let mut settings = settings.clone();
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        build(settings)
    };
    Given::events(with(json!({})).as_ref(), events()).then([
        ("AB1", json!({"flight": "AB1", "gate": {"area": "A", "no": 9}})),
        ("CD2", json!({"flight": "CD2"})),
    ]);
    Given::events(with(json!({"mode": "replace"})).as_ref(), events()).then([
        ("AB1", json!({"flight": "AB1", "late": null})),
        ("CD2", json!({"flight": "CD2", "gate": null})),
    ]);
    let include = json!({"include": {"no": "data.gate.no", "late": "data.late", "what": "type"}});
    Given::events(with(include).as_ref(), events()).then([
        ("AB1", json!({"no": 9, "late": true, "what": "Moved"})),
        ("CD2", json!({"what": "Moved"})),
    ]);
    let deleting = with(json!({"types": ["Scheduled"], "delete_on": ["Gone"]}));
    Given::events(deleting.as_ref(), events())
        .when(event("flight-3", "Scheduled", json!({"flight": "EF3"})))
        .when(event("flight-9", "Gone", json!({"flight": "AB1"})))
        .then([("EF3", json!({"flight": "EF3"}))]);
}

#[test]
fn a_number_counts_or_sums_by_key() {
    let settings = json!({
        "name": "mailboxes", "kind": "count_by", "category": "message", "key": "data.mailbox",
        "add": {"Received": 1, "Read": -1}, "delete_on": ["Emptied"],
        "into": "unread", "include": {"last": "data.subject"}
    });
    let mailboxes = build(settings);
    let of = |event_type, data| event("message-1", event_type, data);
    let given = || {
        Given::events(
            mailboxes.as_ref(),
            [
                of("Received", json!({"mailbox": "in", "subject": "Hi"})),
                of("Received", json!({"mailbox": "in"})),
                of("Starred", json!({"mailbox": "in"})),
                of("Read", json!({"mailbox": "out"})),
            ],
        )
    };
    given().then([("in", json!({"unread": 2, "last": "Hi"})), ("out", json!({"unread": -1}))]);
    given().when(of("Emptied", json!({"mailbox": "in"}))).then([("out", json!({"unread": -1}))]);

    let settings = json!({
        "name": "balance", "kind": "sum_by", "all": true, "key": "stream_id", "of": "data.cents",
        "add": {"Paid": 1, "Refunded": -1}
    });
    let balance = build(settings);
    let given = || {
        Given::events(
            balance.as_ref(),
            [
                event("account-a", "Paid", json!({"cents": 250})),
                event("account-a", "Refunded", json!({"cents": 50})),
                event("account-b", "Paid", json!({"cents": 0.5})),
                event("account-b", "Paid", json!({})),
            ],
        )
    };
    given().then([("a", json!({"sum": 200})), ("b", json!({"sum": 0.5}))]);
    given()
        .when(event("account-a", "Paid", json!({"cents": "7"})))
        .then_refused("event_unreadable");
    Given::events(balance.as_ref(), [event("account-a", "Paid", json!({"cents": 1e308}))])
        .when(event("account-a", "Paid", json!({"cents": 1e308})))
        .then_refused("refused");
}

#[test]
fn a_list_has_the_last_events_newest_first() {
    let settings = json!({
        "name": "recent", "kind": "list_by", "category": "order", "key": "category", "limit": 2,
        "include": {"order": "stream_id", "who": "meta.user", "at": "at", "n": "position"}
    });
    let recent = build(settings);
    let at = Timestamp::from_micros(1_500_000);
    let events = [
        event("order-1", "Placed", json!({})),
        event("order-2", "Placed", json!(null)).meta(json!({"user": "ada"})).at(at),
        event("order-3", "Placed", json!([])).at(at),
    ];
    Given::events(recent.as_ref(), events).then([(
        "order",
        json!({"items": [
            {"order": "3", "at": "1970-01-01T00:00:01.500000Z", "n": 3},
            {"order": "2", "who": "ada", "at": "1970-01-01T00:00:01.500000Z", "n": 2},
        ]}),
    )]);
}

#[test]
fn what_is_missing_is_skipped_or_refused_and_what_is_no_key_refused() {
    let settings = |missing| {
        json!({
            "name": "things", "kind": "sum_by", "all": true, "key": "data.a.key", "of": "meta.n",
            "missing": missing
        })
    };
    let (skip, refuse) = (build(settings("skip")), build(settings("refuse")));
    let of = |data| event("thing-1", "Done", data).meta(json!({"n": 2}));
    let binary = Payload::Binary { content_type: "image/png".into(), data: "x".into() };
    for missing in [
        of(json!({})),
        of(json!({"a": {"key": null}})),
        of(json!({"a": [{"key": "x"}]})),
        of(json!({})).payload(binary),
        event("thing-1", "Done", json!({"a": {"key": "x"}})),
        event("thing-1", "Done", json!({"a": {"key": "x"}})).meta(json!({"n": null})),
    ] {
        Given::nothing(skip.as_ref()).when(missing.clone()).then::<&str, Value>([]);
        Given::nothing(refuse.as_ref()).when(missing).then_refused("event_unreadable");
    }
    let erased = of(json!({})).payload(Payload::Erased);
    Given::nothing(refuse.as_ref()).when(erased).then::<&str, Value>([]);
    for (value, key) in
        [(json!("x"), "x"), (json!(7), "7"), (json!(true), "true"), (json!(1.5), "1.5")]
    {
        Given::nothing(refuse.as_ref())
            .when(of(json!({"a": {"key": value}})))
            .then([(key, json!({"sum": 2}))]);
    }
    for (value, code) in [
        (json!({}), "event_unreadable"),
        (json!([]), "event_unreadable"),
        (json!(""), "key_empty"),
        (json!("x".repeat(201)), "key_too_long"),
        (json!("a\nb"), "key_control_character"),
    ] {
        Given::nothing(skip.as_ref()).when(of(json!({"a": {"key": value}}))).then_refused(code);
    }
}

#[test]
fn a_document_that_would_be_no_object_is_refused() {
    let settings = json!({"name": "x", "kind": "latest_by", "all": true, "key": "stream"});
    for data in [json!([1]), json!("text"), json!(null)] {
        Given::nothing(build(settings.clone()).as_ref())
            .when(event("x", "Done", data))
            .then_refused("document_not_object");
    }
}

#[test]
fn the_definition_is_what_was_said() {
    let settings = json!({
        "name": "x", "version": 7, "kind": "count_by", "stream": "order-1", "key": "type",
        "add": {"B": 1, "A": 2}, "delete_on": ["C"],
        "fields": ["a.b"], "indexes": [["count"], ["a.b", "count"]]
    });
    let declared = build(settings);
    let definition = declared.definition();
    assert_eq!((definition.name.as_str(), definition.version), ("x", 7));
    assert_eq!(format!("{:?}", definition.target), r#"Stream("order-1")"#);
    let types: Vec<_> = definition.types.iter().map(EventType::as_str).collect();
    assert_eq!(types, ["A", "B", "C"]);
    assert_eq!(definition.fields[0].as_str(), "a.b");
    let index: Vec<_> = definition.indexes[1].fields.iter().map(|path| path.as_str()).collect();
    assert_eq!(index, ["a.b", "count"]);
}

#[test]
fn what_is_wrong_is_told_by_its_key() {
    let good = json!({"name": "p", "kind": "count_by", "category": "c", "key": "stream_id"});
    assert!(config(good.clone()).build().is_ok());
    let long: Vec<_> = (0..65).map(|number| format!("f{number}")).collect();
    for (more, key, reason) in [
        (json!({"name": "$p"}), "name", "is \"$p\": names that begin with `$` are reserved"),
        (
            json!({"category": ""}),
            "category",
            "is \"\": the name, or the category before its first `-`, is empty",
        ),
        (json!({"category": null}), "category", "is needed, or `stream`, or `all = true`"),
        (json!({"stream": "s"}), "stream", "stands beside another target"),
        (json!({"all": true}), "all", "stands beside another target"),
        (json!({"types": ["a\n"]}), "types", "is \"a\\n\": the name contains a control character"),
        (
            json!({"delete_on": [""]}),
            "delete_on",
            "is \"\": the name, or the category before its first `-`, is empty",
        ),
        (
            json!({"mode": "merge"}),
            "mode",
            "has no meaning for kind \"count_by\", only for latest_by",
        ),
        (json!({"of": "data.x"}), "of", "has no meaning for kind \"count_by\", only for sum_by"),
        (json!({"limit": 5}), "limit", "has no meaning for kind \"count_by\", only for list_by"),
        (
            json!({"kind": "latest_by", "into": "x"}),
            "into",
            "has no meaning for kind \"latest_by\", only for count_by, sum_by, list_by",
        ),
        (
            json!({"kind": "list_by", "add": {"A": 1}}),
            "add",
            "has no meaning for kind \"list_by\", only for count_by, sum_by",
        ),
        (json!({"kind": "sum_by"}), "of", "is needed: the path to what is summed"),
        (json!({"kind": "list_by", "limit": 0}), "limit", "must be 1 to 1000, is 0"),
        (json!({"kind": "list_by", "limit": 1001}), "limit", "must be 1 to 1000, is 1001"),
        (json!({"into": "a.b"}), "into", "names a member \"a.b\", which cannot be"),
        (json!({"include": {"": "type"}}), "include.", "names a member \"\", which cannot be"),
        (json!({"include": {"count": "type"}}), "include.count", "is the name of the number"),
        (json!({"add": {}}), "add", "must name at least one type"),
        (
            json!({"add": {"A": 1}, "types": ["A", "B"]}),
            "add",
            "must name \"B\", which is one of `types`",
        ),
        (json!({"add": {"A": 1, "B": 1}, "types": ["A"]}), "add.B", "is none of `types`"),
        (json!({"add": {"A": 1}, "delete_on": ["A"]}), "add.A", "is one of `delete_on` as well"),
        (json!({"fields": ["a..b"]}), "fields", "has \"a..b\", which is no path to a field"),
        (json!({"fields": long}), "fields", "has 65 fields; at most 64 are allowed"),
        (json!({"indexes": [["a"], []]}), "indexes[1]", "must have at least one field"),
        (
            json!({"indexes": [["a", "b", "c", "d", "e"]]}),
            "indexes[0]",
            "has 5 fields; at most 4 are allowed",
        ),
        (json!({"indexes": [["a."]]}), "indexes[0]", "has \"a.\", which is no path to a field"),
    ] {
        let mut settings = good.clone();
        for (name, value) in more.as_object().expect("an object") {
            settings[name] = value.clone();
        }
        let error = config(settings).build().err().expect("it is wrong");
        assert_eq!((error.key.as_str(), error.reason.as_str()), (key, reason), "{more}");
    }
    for path in ["", "data.", "dat", "data..x", "stream.x", "$type"] {
        let mut settings = good.clone();
        settings["key"] = json!(path);
        let error = config(settings).build().err().expect("it is wrong");
        assert!(error.to_string().starts_with("projection \"p\": `key` is "), "{error}");
        assert!(error.reason.contains("must be `data`"), "{error}");
    }
    for (name, value) in [("keys", json!("x")), ("kind", json!("max_by")), ("missing", json!("x"))]
    {
        let mut settings = good.clone();
        settings[name] = value;
        assert!(serde_json::from_value::<DeclaredConfig>(settings).is_err(), "{name}");
    }
}

/// What the property below makes up of one event.
#[derive(Debug, Clone)]
struct Made {
    event_type: &'static str,
    key: Option<&'static str>,
    n: Option<Value>,
}

fn made() -> impl Strategy<Value = Made> {
    let event_type =
        prop_oneof![5 => Just("Up"), 3 => Just("Down"), 1 => Just("Gone"), 1 => Just("Else")];
    let key =
        prop_oneof![4 => prop::sample::select(vec!["x", "y"]).prop_map(Some), 1 => Just(None)];
    let n = prop_oneof![
        (-5i64..5).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1.0f64..1.0).prop_map(Value::from),
    ];
    (event_type, key, prop::option::weighted(0.8, n)).prop_map(|(event_type, key, n)| Made {
        event_type,
        key,
        n,
    })
}

impl Made {
    fn event(&self) -> TestEvent {
        let mut data = Map::new();
        if let Some(key) = self.key {
            data.insert("key".into(), key.into());
        }
        if let Some(n) = &self.n {
            data.insert("n".into(), n.clone());
        }
        event("thing-1", self.event_type, Value::Object(data))
    }
}

/// The events that concern each document since it was deleted last.
fn by_key(made: &[Made]) -> BTreeMap<&'static str, Vec<&Made>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for made in made.iter().filter(|made| made.event_type != "Else") {
        let Some(key) = made.key else { continue };
        if made.event_type == "Gone" {
            groups.remove(key);
        } else {
            groups.entry(key).or_default().push(made);
        }
    }
    groups
}

fn sign(made: &Made) -> i64 {
    if made.event_type == "Up" { 1 } else { -2 }
}

proptest! {
    #[test]
    fn each_kind_is_the_naive_fold(events in prop::collection::vec(made(), 0..30)) {
        let groups = by_key(&events);
        let check = |settings: Value, fold: &dyn Fn(&[&Made]) -> Option<Value>| {
            let mut all = json!({
                "name": "p", "all": true, "key": "data.key", "delete_on": ["Gone"]
            });
            all.as_object_mut().expect("an object").extend(settings.as_object().expect("one").clone());
            let expected: Vec<_> = groups
                .iter()
                .filter_map(|(key, group)| fold(group).map(|document| (*key, document)))
                .collect();
            Given::events(build(all).as_ref(), events.iter().map(Made::event)).then(expected);
        };
        check(json!({"kind": "count_by", "types": ["Up", "Down"]}), &|group| {
            Some(json!({"count": group.len()}))
        });
        check(json!({"kind": "count_by", "add": {"Up": 1, "Down": -2}}), &|group| {
            Some(json!({"count": group.iter().map(|made| sign(made)).sum::<i64>()}))
        });
        let add = json!({"Up": 1, "Down": -2});
        check(json!({"kind": "sum_by", "of": "data.n", "add": add}), &|group| {
            let mut terms = group.iter().filter_map(|made| Some((made.n.clone()?, sign(made)))).peekable();
            terms.peek()?;
            // Exactly for as long as every step is whole and fits.
            let mut exact = Some(0i128);
            let mut double = 0.0;
            for (n, sign) in terms {
                let term = n.as_i64().map(|n| i128::from(n) * i128::from(sign));
                let fits = term.filter(|term| i64::try_from(*term).is_ok());
                let before = exact;
                exact = exact
                    .zip(fits)
                    .map(|(sum, term)| sum + term)
                    .filter(|sum| i64::try_from(*sum).is_ok());
                let term = n.as_f64().expect("a number") * sign as f64;
                let term = fits.map_or(term, |term| term as i64 as f64);
                double = before.map_or(double, |sum| sum as i64 as f64) + term;
            }
            Some(exact.map_or(json!({"sum": double}), |sum| json!({"sum": sum as i64})))
        });
        check(json!({"kind": "list_by", "limit": 3, "types": ["Up", "Down"], "include": {"n": "data.n"}}), &|group| {
            let item = |made: &&Made| made.n.clone().map_or(json!({}), |n| json!({"n": n}));
            let items: Vec<_> = group.iter().rev().take(3).map(item).collect();
            Some(json!({"items": items}))
        });
        check(json!({"kind": "latest_by", "types": ["Up", "Down"]}), &|group| {
            let key = group.last()?.key;
            let n = group.iter().rev().find_map(|made| made.n.clone());
            Some(n.map_or(json!({"key": key}), |n| json!({"key": key, "n": n})))
        });
        check(json!({"kind": "latest_by", "types": ["Up", "Down"], "mode": "replace"}), &|group| {
            let last = group.last()?;
            let key = last.key;
            Some(last.n.clone().map_or(json!({"key": key}), |n| json!({"key": key, "n": n})))
        });
    }
}
