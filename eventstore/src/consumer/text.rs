//! How the databases write down what of a consumer is not a number.

use crate::{Category, ConsumerName, GlobalPosition, Sharing, StreamName, Target};

/// What a database holds that cannot be a consumer's.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be read")]
pub(crate) struct Unreadable {
    what: &'static str,
}

impl Unreadable {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what }
    }
}

pub(crate) const fn sharing(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Exclusive => "exclusive",
        Sharing::Group => "group",
    }
}

pub(crate) fn read_sharing(text: &str) -> Result<Sharing, Unreadable> {
    match text {
        "exclusive" => Ok(Sharing::Exclusive),
        "group" => Ok(Sharing::Group),
        _ => Err(Unreadable::new("a consumer's sharing")),
    }
}

/// The kind of a target, and its name.
pub(crate) fn target(target: &Target) -> (&'static str, Option<&str>) {
    match target {
        Target::All => ("all", None),
        Target::Category(category) => ("category", Some(category.as_str())),
        Target::Stream(stream) => ("stream", Some(stream.as_str())),
    }
}

pub(crate) fn read_target(kind: &str, name: Option<&str>) -> Result<Target, Unreadable> {
    let unreadable = |_| Unreadable::new("a consumer's target");
    match (kind, name) {
        ("all", None) => Ok(Target::All),
        ("category", Some(name)) => {
            Category::recorded(name).map(Target::Category).map_err(unreadable)
        }
        ("stream", Some(name)) => {
            StreamName::recorded(name).map(Target::Stream).map_err(unreadable)
        }
        _ => Err(Unreadable::new("a consumer's target")),
    }
}

pub(crate) fn read_name(name: &str) -> Result<ConsumerName, Unreadable> {
    ConsumerName::recorded(name).map_err(|_| Unreadable::new("a consumer's name"))
}

/// Attempts as JSON: pairs of a position and how often its event was charged.
pub(crate) fn attempts(attempts: &[(GlobalPosition, u32)]) -> String {
    serde_json::to_string(attempts).expect("pairs of numbers are always JSON")
}

pub(crate) fn read_attempts(text: &str) -> Result<Vec<(GlobalPosition, u32)>, Unreadable> {
    serde_json::from_str(text).map_err(|_| Unreadable::new("a partition's attempts"))
}

/// How often an event was tried, where a constraint or our own writing keeps it in range.
pub(crate) fn read_count(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let name = "order-1";
        for wanted in [
            Target::All,
            Target::Category(Category::new(name).expect("a good name")),
            Target::Stream(StreamName::new(name).expect("a good name")),
        ] {
            let (kind, name) = target(&wanted);
            assert_eq!(read_target(kind, name).expect("readable"), wanted);
        }
        for wanted in [Sharing::Exclusive, Sharing::Group] {
            assert_eq!(read_sharing(sharing(wanted)).expect("readable"), wanted);
        }
        let wanted = vec![(GlobalPosition::new(8), 2), (GlobalPosition::new(12), 1)];
        assert_eq!(attempts(&wanted), "[[8,2],[12,1]]");
        assert_eq!(read_attempts("[[8,2],[12,1]]").expect("readable"), wanted);
        assert!(read_target("all", Some("x")).is_err() && read_target("stream", None).is_err());
        assert!(read_sharing("").is_err() && read_attempts("[[1]]").is_err());
    }
}
