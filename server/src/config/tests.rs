//! Which of several settings wins, and what is refused.

use tidewire_projections::{OnPoison, Policy};

use super::*;

fn file(text: &str) -> Level {
    toml::from_str(text).unwrap()
}

fn environment(variables: &[(&str, &str)]) -> Level {
    Level::from_environment(variables.iter().map(|&(name, value)| (name.into(), value.into())))
        .unwrap()
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let in_file = "address = '127.0.0.1:1'\nworkers = 1\nlog = 'debug'\n\
                   [transport]\nping_interval = 1000\nsessions_max = 7\nhello_timeout = 500";
    let in_environment = environment(&[
        ("TIDEWIRE_ADDRESS", "127.0.0.1:2"),
        ("TIDEWIRE_WORKERS", "2"),
        ("TIDEWIRE_TRANSPORT_PING_INTERVAL", "2000"),
        ("TIDEWIRE_TRANSPORT_SESSIONS_MAX", "8"),
        ("TIDEWIRE_TEST_POSTGRES", "postgres://somebody-else/s"),
        ("TIDEWIRE_TOKEN", ""),
    ]);
    let mut flags = Level { address: Some("127.0.0.1:3".to_owned()), ..Level::default() };
    flags.set("transport.ping_interval=3000").unwrap();

    let settings = Settings::settle(flags.over(in_environment).over(file(in_file))).unwrap();

    assert_eq!(settings.address.port(), 3);
    assert_eq!(settings.workers, Some(2));
    assert_eq!(settings.log.as_deref(), Some("debug"));
    assert_eq!(settings.token, None, "an empty variable says nothing");
    let transport = toml::toml! {
        ping_interval = 3000
        sessions_max = 8
        hello_timeout = 500
    };
    assert_eq!(settings.transport, transport);
}

#[test]
fn a_database_on_a_higher_level_replaces_one_of_the_other_kind() {
    let level = |database: Option<&str>, url: Option<&str>| Level {
        database: database.map(PathBuf::from),
        database_url: url.map(str::to_owned),
        ..Level::default()
    };
    let high = level(Some("a.db"), None).over(level(None, Some("postgres://b/b")));
    assert!(matches!(Settings::settle(high).unwrap().database, Database::Sqlite(path)
        if path == Path::new("a.db")));
    let low = level(None, Some("postgres://b/b")).over(level(Some("a.db"), None));
    assert!(matches!(Settings::settle(low).unwrap().database, Database::Postgres { url, .. }
        if url == "postgres://b/b"));
    let both = Settings::settle(level(Some("a.db"), Some("postgres://b/b"))).unwrap_err();
    assert!(both.to_string().contains("choose one"), "{both}");
}

#[test]
fn without_any_settings_the_log_is_a_file_and_only_this_machine_may_come_in() {
    let settings = Settings::settle(Level::default()).unwrap();
    assert!(settings.address.ip().is_loopback());
    assert!(!settings.insecure);
    assert!(matches!(settings.database, Database::Sqlite(path)
        if path == Path::new(DEFAULT_DATABASE)));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name() {
    let refused = |level: Level| Settings::settle(level).unwrap_err().to_string();
    let address = Level { address: Some("here".to_owned()), ..Level::default() };
    assert!(refused(address).contains("\"here\""));
    assert!(refused(Level { workers: Some(0), ..Level::default() }).contains("workers"));
    assert!(Level::default().set("ping_interval=1").is_err());
    assert!(toml::from_str::<Level>("adress = 'x'").is_err(), "a misspelt key is an error");
    let variables = [("TIDEWIRE_INSECURE".into(), "perhaps".into())];
    assert!(Level::from_environment(variables.into_iter()).is_err());
    let variables = [("TIDEWIRE_INSECURE".into(), "1".into())];
    assert_eq!(Level::from_environment(variables.into_iter()).unwrap().insecure, Some(true));
}

fn kept(text: &str) -> Result<Kept> {
    Settings::settle(file(text)).unwrap().projections.build()
}

#[test]
fn projections_come_with_how_they_are_run() {
    let kept = kept(
        r#"
        collections = ["todos", { name = "lists", indexes = [["title"]] }]

        [[projections]]
        name = "counts"
        kind = "count_by"
        category = "order"
        key = "stream_id"

        [[projections]]
        name = "rows"
        kind = "sql"
        all = true
        apply = "INSERT INTO rows SELECT 1"
        on_poison = "park"
        rebuild_on_new_version = true
        "#,
    )
    .unwrap();
    let built = &kept.projections;
    let names: Vec<&str> =
        built.iter().map(|built| built.projection.definition().name.as_str()).collect();
    assert_eq!(names, ["counts", "rows", "todos", "lists"]);
    assert_eq!(kept.collections.iter().map(|name| name.as_str()).collect::<Vec<_>>(), names[2..]);
    let policy = |index: usize| built[index].policy;
    assert_eq!(policy(0), Policy::default());
    let expected = Policy { on_poison: OnPoison::Park, rebuild_on_new_version: true };
    assert_eq!(policy(1), expected);
    assert!(built[0].projection.sql().is_none() && built[1].projection.sql().is_some());
}

#[test]
fn a_projection_that_makes_no_sense_is_refused_with_its_name_and_the_key() {
    let good = "name = 'a'\nkind = 'count_by'\ncategory = 'order'\nkey = 'stream_id'\n";
    let sql = "name = 'a'\nkind = 'sql'\nall = true\n";
    let tables = |tables: &[String]| {
        tables.iter().map(|table| format!("[[projections]]\n{table}\n")).collect::<String>()
    };
    let without = |key: &str| {
        let other = |line: &&str| !line.starts_with(key);
        good.lines().filter(other).collect::<Vec<_>>().join("\n")
    };
    let with = |more: &str| format!("{good}{more}");
    let sql_with = |more: &str| format!("{sql}{more}");
    for (text, named) in [
        (tables(&[without("name")]), &["number 1", "`name`"][..]),
        (tables(&[without("kind")]), &["\"a\"", "`kind`"]),
        (tables(&[without("key")]), &["\"a\"", "`key`"]),
        (tables(&[without("category")]), &["\"a\"", "`category`"]),
        (tables(&[with("colour = 1")]), &["\"a\"", "`colour`"]),
        (tables(&[with("of = 'data.x'")]), &["\"a\"", "`of`", "sum_by"]),
        (tables(&[with("on_poison = 'ignore'")]), &["\"a\"", "`ignore`", "`stop`"]),
        (tables(&[with("rebuild_on_new_version = 'yes'")]), &["\"a\"", "rebuild_on_new_version"]),
        (tables(&[with("version = -1")]), &["\"a\"", "version"]),
        (tables(&[with("indexes = [[]]")]), &["\"a\"", "`indexes[0]`"]),
        (tables(&[with("fields = ['a..b']")]), &["\"a\"", "`fields`"]),
        (tables(&[good.replace("count_by", "guess_by")]), &["\"a\"", "guess_by", "count_by"]),
        (tables(&[good.replace("stream_id", "body.x")]), &["\"a\"", "`key`"]),
        (tables(&[good.to_owned(), good.to_owned()]), &["\"a\"", "`name`", "another"]),
        ("collections = ['a', 'a']".to_owned(), &["collection \"a\"", "`name`", "another"]),
        (format!("collections = ['a']\n{}", tables(&[good.to_owned()])), &["collection \"a\""]),
        ("collections = [7]".to_owned(), &["collection number 1", "name"]),
        ("collections = ['a-b']".to_owned(), &["collection \"a-b\"", "`name`"]),
        ("[[collections]]\nname = 'a'\nkey = 'b'".to_owned(), &["collection \"a\"", "`key`"]),
        (tables(&[sql_with("")]), &["\"a\"", "`apply`"]),
        (tables(&[sql_with("apply = 'COMMIT'")]), &["\"a\"", "`apply`", "commit"]),
        (tables(&[sql_with("apply = 'SELECT 1'\nkey = 'id'")]), &["\"a\"", "`key`"]),
        (
            tables(&[sql_with("apply = 'SELECT 1'\napply_file = 'a.sql'")]),
            &["\"a\"", "`apply_file`"],
        ),
        (tables(&[sql_with("apply_file = 'no/such.sql'")]), &["\"a\"", "no/such.sql"]),
    ] {
        let refused = kept(&text).unwrap_err();
        assert_eq!(crate::exit::code_of(&refused), 2);
        let refused = refused.to_string();
        assert!(named.iter().all(|named| refused.contains(named)), "{text}: {refused}");
    }
}
