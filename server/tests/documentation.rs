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
