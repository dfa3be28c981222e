//! A log of payments and projections over it, for tests that compare documents with a fold of the
//! log.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use serde_json::{Value, json};

use super::{Api, Server, postgres::Database};

/// Projections over the payments: how many of each account, their sum, and the last one.
pub(crate) const SETTINGS: &str = r#"
[[projections]]
name = "counts"
version = 1
kind = "count_by"
category = "payment"
key = "data.account"
on_poison = "stop"

[[projections]]
name = "sums"
version = 1
kind = "sum_by"
category = "payment"
key = "data.account"
of = "data.cents"
on_poison = "stop"
rebuild_on_new_version = true

[[projections]]
name = "latest"
version = 1
kind = "latest_by"
category = "payment"
key = "data.account"
fields = ["account"]
indexes = [["cents"]]
on_poison = "stop"
"#;

/// Accounts that are paid into.
pub(crate) const ACCOUNTS: u64 = 20;

/// What an account comes to: how many payments, and their sum.
pub(crate) type Balances = BTreeMap<String, (u64, i64)>;

/// Where a test's log is.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    database: Option<Database>,
}

impl Place {
    /// A file, with these settings.
    pub(crate) fn sqlite(settings: &str) -> Self {
        Self::new(None, settings)
    }

    /// A database on the test's PostgreSQL, with these settings.
    pub(crate) fn postgres(settings: &str) -> Self {
        Self::new(Some(Database::create()), settings)
    }

    fn new(database: Option<Database>, settings: &str) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap(), database };
        place.settle(settings);
        place
    }

    /// Writes other settings, for what is started from now on.
    pub(crate) fn settle(&self, settings: &str) {
        fs::write(self.path().join("tidewire.toml"), settings).unwrap();
    }

    /// The database on PostgreSQL.
    pub(crate) fn database(&self) -> &Database {
        self.database.as_ref().expect("the log is on PostgreSQL")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The options that name the settings and the log.
    pub(crate) fn options(&self) -> Vec<&str> {
        let mut options = vec!["--config", "tidewire.toml"];
        if let Some(database) = &self.database {
            options.extend(["--database-url", &database.url]);
        }
        options
    }

    pub(crate) fn start(&self) -> Server {
        Server::start(self.path(), &self.options())
    }
}

/// Pays into an account, `count` times in one append. The amounts are a function of `from`.
pub(crate) fn pay(api: &Api, account: u64, from: u64, count: u64) -> Option<u64> {
    let event = |number| {
        let cents = (number * 7 % 1000) as i64 - 300;
        json!({"type": "Paid", "data": {"account": format!("a{account}"), "cents": cents}})
    };
    let events: Vec<Value> = (from..from + count).map(event).collect();
    let answer = api.append(&format!("payment-{account}"), &Value::from(events).to_string());
    match answer {
        Some((201, answer)) => answer["position"].as_u64(),
        _ => None,
    }
}

/// Pays until it is told to stop, or the server does not answer.
pub(crate) struct Payer {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Payer {
    pub(crate) fn start(api: &Api, account: u64) -> Self {
        let (api, enough) = (api.clone(), Arc::new(AtomicBool::new(false)));
        let is_enough = Arc::clone(&enough);
        let thread = std::thread::spawn(move || {
            let mut paid = 0;
            while !is_enough.load(Ordering::Relaxed) {
                let Some(_) = pay(&api, (account + paid) % ACCOUNTS, paid, 3) else { break };
                paid += 3;
            }
            paid
        });
        Self { enough, thread: Some(thread) }
    }

    /// How often it paid.
    pub(crate) fn stop(mut self) -> u64 {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Payer {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

/// What the log comes to.
pub(crate) fn fold(api: &Api) -> Balances {
    let mut balances = Balances::new();
    let mut after = 0;
    loop {
        let page = api.get_json(&format!("/events?after={after}&limit=1000"));
        for event in page["events"].as_array().unwrap() {
            let account = event["data"]["account"].as_str().unwrap().to_owned();
            let (count, sum) = balances.entry(account).or_default();
            *count += 1;
            *sum += event["data"]["cents"].as_i64().unwrap();
            after = event["position"].as_u64().unwrap();
        }
        if page["more"] != Value::Bool(true) {
            return balances;
        }
    }
}

/// The last position of the log.
pub(crate) fn head(api: &Api) -> u64 {
    api.get_json("/readyz")["head"].as_u64().unwrap()
}

/// All documents of a projection, once it has reached a position: over several pages.
pub(crate) fn documents(api: &Api, projection: &str, wait: u64) -> BTreeMap<String, Value> {
    documents_by(7, api, projection, wait)
}

/// The same, by pages of `limit` documents.
pub(crate) fn documents_by(
    limit: u32,
    api: &Api,
    projection: &str,
    wait: u64,
) -> BTreeMap<String, Value> {
    let mut documents = BTreeMap::new();
    let mut path =
        format!("/projections/{projection}/documents?limit={limit}&wait={wait}&timeout_ms=30000");
    loop {
        let page = api.get_json(&path);
        for row in page["documents"].as_array().unwrap() {
            let key = row["key"].as_str().unwrap().to_owned();
            assert!(documents.insert(key, row["document"].clone()).is_none(), "{row} twice");
        }
        match page["next"].as_str() {
            Some(next) => {
                path = format!("/projections/{projection}/documents?limit={limit}&cursor={next}");
            }
            None => return documents,
        }
    }
}

/// Waits until the projections have reached a position that is the log's last, and holds their
/// documents against the log.
pub(crate) fn assert_in_step(api: &Api, last: u64) {
    let counts = documents(api, "counts", last);
    let sums = documents(api, "sums", last);
    let latest = documents(api, "latest", last);
    let balances = fold(api);
    let count = |(account, (count, _)): (&String, &(u64, i64))| {
        (account.clone(), json!({ "count": count }))
    };
    assert_eq!(counts, balances.iter().map(count).collect());
    let sum =
        |(account, (_, sum)): (&String, &(u64, i64))| (account.clone(), json!({ "sum": sum }));
    assert_eq!(sums, balances.iter().map(sum).collect());
    assert!(latest.keys().eq(balances.keys()), "{latest:?}");
}
