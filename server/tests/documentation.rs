//! What `docs/operations.md` and the README say of settings and metrics is what there is.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeSet, fs, path::Path};

use support::Server;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// Every `word` between backticks that begins like this.
fn named<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split('`').skip(1).step_by(2).filter(|word| word.starts_with(prefix)).collect()
}

#[test]
fn every_setting_of_the_transport_is_in_the_table_and_nothing_else_is() {
    let docs = read("docs/operations.md");
    let table = docs.split("## ").find(|part| part.starts_with("Settings")).unwrap();
    let documented: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let documented: BTreeSet<&str> =
        documented.into_iter().filter(|name| *name != "transport.…").collect();
    let source = read("transport/src/config.rs");
    let fields: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("    pub ")?.split(':').next())
        .collect();
    assert_eq!(documented, fields);

    for name in named(&read("README.md"), "transport.") {
        assert!(fields.contains(name.trim_start_matches("transport.")), "{name}");
    }
}

#[test]
fn every_metric_is_in_the_table_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let (status, metrics) = server.api.get("/metrics");
    assert_eq!(status, 200);
    let there: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        })
        .collect();
    let docs = read("docs/operations.md");
    let table = docs.split("## ").find(|part| part.starts_with("Metrics")).unwrap();
    let documented: BTreeSet<String> =
        named(table, "tidewire_").into_iter().map(str::to_owned).collect();
    assert_eq!(documented, there);
}

/// What stands in the first block of code of this language after a heading.
fn block<'a>(docs: &'a str, heading: &str, language: &str) -> &'a str {
    let (_, section) = docs.split_once(heading).unwrap();
    let (_, block) = section.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0
}

#[test]
fn the_first_projections_of_the_documents_do_what_is_said_of_them() {
    let docs = read("docs/projections.md");
    let heading = "## A first one";
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("tidewire.toml"), block(&docs, heading, "toml")).unwrap();
    let server = Server::start(directory.path(), &["--config", "tidewire.toml"]);
    let mut asked = Vec::new();
    for line in block(&docs, heading, "sh").lines() {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        match words[..] {
            ["tidewire", "append", stream, event_type, data] => {
                let data = data.trim_matches('\'');
                support::run_ok(directory.path(), &["append", stream, event_type, data]);
            }
            ["tidewire", "serve", ..] => {}
            ["curl", url] => {
                let path = url.trim_matches('\'').strip_prefix("http://127.0.0.1:7377").unwrap();
                asked.push(server.api.get_json(path));
            }
            _ => panic!("{line}"),
        }
    }
    let answer: serde_json::Value = serde_json::from_str(block(&docs, heading, "json")).unwrap();
    assert_eq!(asked[0]["documents"], answer["documents"]);
    let keys = |of: &serde_json::Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&asked[0]), keys(&answer));
    let orders = server.api.get_json("/projections/orders/documents?wait=2");
    assert_eq!(orders["documents"][0]["document"]["state"], "paid", "{orders}");
}

/// The first column of a table that begins with this header.
fn first_column(docs: &str, header: &str) -> BTreeSet<String> {
    let (_, table) = docs.split_once(header).unwrap();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let first = row.split('|').nth(1).unwrap();
        first.split('`').skip(1).step_by(2).filter_map(|key| key.split(' ').next())
    })
    .map(str::to_owned)
    .collect()
}

#[test]
fn every_key_of_a_declared_projection_is_in_a_table_and_nothing_else_is() {
    let docs = read("docs/projections.md");
    let source = read("projections/src/declared/config.rs");
    let (_, fields) = source.split_once("pub struct DeclaredConfig {").unwrap();
    let (fields, _) = fields.split_once("\n}").unwrap();
    let field = |line: &str| Some(line.strip_prefix("    pub ")?.split_once(':')?.0.to_owned());
    let fields: BTreeSet<String> = fields.lines().filter_map(field).collect();

    let common = first_column(&docs, "| key | | |");
    for of_settings in ["on_poison", "rebuild_on_new_version"] {
        assert!(common.contains(of_settings));
    }
    let (_, kinds) = docs.split_once("| `kind` | the document | its own keys |").unwrap();
    let kinds: String =
        kinds.lines().take_while(|line| line.is_empty() || line.starts_with('|')).collect();
    for field in &fields {
        assert!(common.contains(field) || kinds.contains(&format!("`{field}`")), "{field}");
    }
    for key in common {
        let known = fields.contains(&key);
        assert!(known || ["on_poison", "rebuild_on_new_version"].contains(&&*key), "{key}");
    }
}
