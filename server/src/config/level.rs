//! [`Level`]: the settings that one place gives, each optional.

use std::{ffi::OsString, path::PathBuf, str::FromStr};

use anyhow::Result;
use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    exit::{Reason, failure},
    logging::LogFormat,
};

const PREFIX: &str = "TIDEWIRE_";
const TRANSPORT: &str = "TRANSPORT_";

/// Settings from the file, the environment or the command line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Level {
    pub(crate) address: Option<String>,
    pub(crate) database: Option<PathBuf>,
    pub(crate) database_url: Option<String>,
    pub(crate) listen_url: Option<String>,
    pub(crate) no_listen: Option<bool>,
    pub(crate) token: Option<String>,
    pub(crate) insecure: Option<bool>,
    pub(crate) workers: Option<usize>,
    pub(crate) log: Option<String>,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) transport: Option<Table>,
    pub(crate) projections: Option<Vec<Table>>,
    pub(crate) collections: Option<Vec<Value>>,
    /// Where the file is that this level is.
    #[serde(skip)]
    pub(crate) directory: Option<PathBuf>,
}

impl Level {
    /// This level where it says something, else `below`.
    pub(crate) fn over(self, below: Self) -> Self {
        // A file on one level stands against a URL on another: the higher level decides.
        let (database, database_url) = if self.database.is_some() || self.database_url.is_some() {
            (self.database, self.database_url)
        } else {
            (below.database, below.database_url)
        };
        let mut transport = below.transport.unwrap_or_default();
        transport.extend(self.transport.unwrap_or_default());
        Self {
            address: self.address.or(below.address),
            database,
            database_url,
            listen_url: self.listen_url.or(below.listen_url),
            no_listen: self.no_listen.or(below.no_listen),
            token: self.token.or(below.token),
            insecure: self.insecure.or(below.insecure),
            workers: self.workers.or(below.workers),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
            transport: Some(transport),
            projections: self.projections.or(below.projections),
            collections: self.collections.or(below.collections),
            directory: self.directory.or(below.directory),
        }
    }

    /// The variables that begin with `TIDEWIRE_`. Unknown ones are somebody else's; an empty one
    /// says nothing.
    pub(crate) fn from_environment(
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        let mut level = Self::default();
        for (name, value) in variables {
            let Some(key) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            if value.is_empty() {
                continue;
            }
            if key == "DATABASE" {
                level.database = Some(value.into());
                continue;
            }
            let Some(value) = value.to_str() else {
                return Err(failure(Reason::Usage, format!("{PREFIX}{key} is not UTF-8")));
            };
            level.set_from_environment(key, value)?;
        }
        Ok(level)
    }

    fn set_from_environment(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "ADDRESS" => self.address = Some(value.to_owned()),
            "DATABASE_URL" => self.database_url = Some(value.to_owned()),
            "LISTEN_URL" => self.listen_url = Some(value.to_owned()),
            "NO_LISTEN" => self.no_listen = Some(parse(key, value)?),
            "TOKEN" => self.token = Some(value.to_owned()),
            "INSECURE" => self.insecure = Some(parse(key, value)?),
            "WORKERS" => self.workers = Some(parse(key, value)?),
            "LOG" => self.log = Some(value.to_owned()),
            "LOG_FORMAT" => self.log_format = Some(parse(key, value)?),
            _ => {
                if let Some(key) = key.strip_prefix(TRANSPORT) {
                    self.set_transport(&key.to_lowercase(), value);
                }
            }
        }
        Ok(())
    }

    /// Sets what `--set` names: `transport.KEY=VALUE`.
    pub(crate) fn set(&mut self, assignment: &str) -> Result<()> {
        let parts = assignment
            .split_once('=')
            .and_then(|(key, value)| Some((key.trim().strip_prefix("transport.")?, value.trim())));
        let Some((key, value)) = parts else {
            return Err(failure(
                Reason::Usage,
                format!(
                    "--set {assignment}: it should look like --set transport.ping_interval=30000"
                ),
            ));
        };
        self.set_transport(key, value);
        Ok(())
    }

    /// A value is what TOML makes of it, and text where TOML makes nothing of it.
    fn set_transport(&mut self, key: &str, value: &str) {
        let parsed = format!("value = {value}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        self.transport.get_or_insert_default().insert(key.to_owned(), parsed);
    }
}

fn parse<T: FromStr>(key: &str, value: &str) -> Result<T> {
    let value = match value {
        "1" if std::any::type_name::<T>() == "bool" => "true",
        "0" if std::any::type_name::<T>() == "bool" => "false",
        other => other,
    };
    value.parse().map_err(|_| {
        failure(Reason::Usage, format!("{PREFIX}{key}={value} makes no sense for that setting"))
    })
}
