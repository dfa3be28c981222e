//! `tidewire retain`: a category without its oldest events.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tidewire_eventstore::{Category, Removal};

use crate::{
    exit::{Reason, failure},
    removal::{RemovalArgs, Request, events},
};

/// Remove the oldest events of a category, by age or by size
///
/// They are gone for everybody, at once and for good. A server does this by itself where its
/// settings have [[transport.retention]].
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Args {
    /// The category, such as order
    category: String,
    /// Events older than this go, such as 90d, 12h, 30m or 45s
    #[arg(long, value_name = "AGE", value_parser = parse_age, group = "what")]
    max_age: Option<Duration>,
    /// The newest events stay that have so many bytes of data and metadata, such as 1000000, 64KiB,
    /// 20MiB or 2GiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, group = "what")]
    max_bytes: Option<u64>,
    #[command(flatten)]
    removal: RemovalArgs,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let Args { category: name, max_age, max_bytes, removal } = args;
    let category =
        Category::new(&name).map_err(|error| failure(Reason::Usage, error.to_string()))?;
    let mut body = serde_json::Map::new();
    let mut removals = Vec::new();
    if let Some(than) = max_age {
        body.insert("max_age_seconds".to_owned(), json!(than.as_secs()));
        removals.push(Removal::Older { category: category.clone(), than });
    }
    if let Some(bytes) = max_bytes {
        body.insert("max_bytes".to_owned(), json!(bytes));
        removals.push(Removal::Beyond { category, bytes });
    }
    let request = Request {
        method: reqwest::Method::POST,
        path: &["categories", &name, "retention"],
        query: None,
        body: Some(serde_json::Value::Object(body).to_string()),
    };
    removal.run(request, removals, |count, bytes| {
        format!("{name}: removed {} ({bytes} bytes)", events(count))
    })
}

fn parse_age(text: &str) -> Result<Duration, String> {
    let wrong = || "an age is a number and d, h, m or s, such as 90d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || "a size is a number of bytes, or of KiB, MiB or GiB, such as 20MiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match &text[digits..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_units() {
        for (text, seconds) in [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("0s", 0)] {
            assert_eq!(parse_age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "90", "1.5d", "-1d", "1ü", "99999999999999999999s"] {
            assert!(parse_age(text).is_err(), "{text}");
        }
        for (text, bytes) in [("0", 0), ("17", 17), ("64KiB", 65_536), ("2GiB", 2 << 30)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "1kB", "-1", "1.5MiB", "99999999999999GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
