//! What every writer was told, and everything that went wrong.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use uuid::Uuid;

use crate::{
    content::{New, Seen},
    log::Log,
};

/// Violations that are kept; more are counted.
const KEPT: usize = 50;

/// What a writer knows of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Under way.
    Open,
    /// It was told that the append is recorded: the position and revision of its last event.
    Recorded { position: u64, revision: u64 },
    /// It was told that the append has no effect.
    Refused { code: String },
    /// It does not know, and has stopped asking.
    Unknown,
}

/// Names an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppendKey(usize);

#[derive(Debug)]
struct Append {
    writer: String,
    stream: String,
    events: Vec<(Uuid, u64)>,
    outcome: Outcome,
    /// Where its events are in the log, as far as they were found.
    found: Vec<(u64, u64)>,
    /// Something is wrong with it, and was told.
    is_told: bool,
}

impl Append {
    fn shown(&self) -> String {
        let Self { writer, stream, events, outcome, found, .. } = self;
        let first = events.first().map(|event| event.0).unwrap_or_default();
        let found: Vec<u64> = found.iter().take(8).map(|(position, _)| *position).collect();
        format!(
            "the append of {writer} to {stream} ({} events, the first {first}) is {outcome:?}; in \
             the log at {found:?}",
            events.len()
        )
    }
}

#[derive(Debug, Default)]
struct Inner {
    appends: Vec<Append>,
    by_event: HashMap<Uuid, (usize, usize)>,
    /// Settled since the last check.
    unchecked: Vec<usize>,
    violations: Vec<String>,
    violations_total: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    began_at: Instant,
    inner: Mutex<Inner>,
    pub(crate) counts: Counts,
    /// Where what happens is written down, for people.
    trace: Option<Mutex<File>>,
}

/// What happened how often.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) written: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) behind: AtomicU64,
    pub(crate) retries: AtomicU64,
    /// Messages with documents or with changes of them.
    pub(crate) documents: AtomicU64,
    pub(crate) client_crashes: AtomicU64,
    /// How often nobody held a consumer although no member had let it go for good.
    pub(crate) abandoned: AtomicU64,
    /// Events that a consumer had parked because their attempts were spent.
    pub(crate) parked: AtomicU64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let (inner, counts) = (Mutex::default(), Counts::default());
        Self { began_at: Instant::now(), inner, counts, trace: None }
    }

    /// A ledger that writes down what happens in a file.
    ///
    /// # Errors
    ///
    /// It cannot be created.
    pub(crate) fn traced(file: &Path) -> io::Result<Self> {
        Ok(Self { trace: Some(Mutex::new(File::create(file)?)), ..Self::new() })
    }

    /// Writes down what happens, with the time.
    pub(crate) fn trace(&self, what: fmt::Arguments<'_>) {
        if let Some(trace) = &self.trace {
            let mut file = trace.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing depends on it.
            let _ = writeln!(file, "{} {what}", self.now());
        }
    }

    fn now(&self) -> String {
        format!("{:8.3} s:", self.began_at.elapsed().as_secs_f64())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something is as it must not be.
    pub(crate) fn violation(&self, what: impl Into<String>) {
        let what = format!("{} {}", self.now(), what.into());
        self.trace(format_args!("VIOLATION {what}"));
        let mut inner = self.lock();
        inner.violations_total += 1;
        if inner.violations.len() < KEPT {
            println!("  VIOLATION {what}");
            inner.violations.push(what);
        }
    }

    /// The first violations, and how many there are.
    pub(crate) fn violations(&self) -> (Vec<String>, u64) {
        let inner = self.lock();
        (inner.violations.clone(), inner.violations_total)
    }

    /// Notes what a writer is about to append.
    pub(crate) fn begin(&self, writer: &str, stream: &str, events: &[New]) -> AppendKey {
        let mut inner = self.lock();
        let key = inner.appends.len();
        for (part, event) in events.iter().enumerate() {
            inner.by_event.insert(event.id, (key, part));
        }
        inner.appends.push(Append {
            writer: writer.to_owned(),
            stream: stream.to_owned(),
            events: events.iter().map(|event| (event.id, event.content(stream))).collect(),
            outcome: Outcome::Open,
            found: Vec::new(),
            is_told: false,
        });
        AppendKey(key)
    }

    /// Notes what a writer was told.
    pub(crate) fn settle(&self, AppendKey(key): AppendKey, outcome: Outcome) {
        let mut inner = self.lock();
        let events = inner.appends[key].events.len() as u64;
        match &outcome {
            Outcome::Open => return,
            Outcome::Recorded { .. } => self.counts.written.fetch_add(events, Relaxed),
            Outcome::Refused { .. } => self.counts.refused.fetch_add(1, Relaxed),
            Outcome::Unknown => self.counts.unknown.fetch_add(1, Relaxed),
        };
        inner.appends[key].outcome = outcome;
        inner.unchecked.push(key);
    }

    /// Holds what the log has gained since the last check against what the writers were told.
    pub(crate) fn check(&self, log: &Log, gained: &[Seen]) {
        let mut violations = Vec::new();
        let mut inner = self.lock();
        let Inner { appends, by_event, unchecked, .. } = &mut *inner;
        let mut touched = std::mem::take(unchecked);
        for event in gained {
            let Some((key, part)) = by_event.get(&event.id).copied() else {
                violations.push(format!("nobody appended what the log has: {event:?}"));
                continue;
            };
            let append = &mut appends[key];
            let (_, content) = append.events[part];
            if append.found.len() != part && !std::mem::replace(&mut append.is_told, true) {
                violations.push(format!(
                    "the log has part {part} at {}, twice or out of order: {}",
                    event.position,
                    append.shown()
                ));
            }
            if event.content != content || event.stream != append.stream {
                violations.push(format!("the log has another content: {event:?}"));
            }
            append.found.push((event.position, event.revision));
            touched.push(key);
        }
        touched.sort_unstable();
        touched.dedup();
        for key in touched {
            let append = &mut appends[key];
            if let Some(wrong) = wrong(append)
                && !std::mem::replace(&mut append.is_told, true)
            {
                violations.push(format!("{wrong}: {}", append.shown()));
            }
        }
        drop(inner);
        for violation in violations {
            self.violation(format!("{violation} (the log ends at {})", log.head()));
        }
    }
}

fn wrong(append: &Append) -> Option<&'static str> {
    let Append { events, outcome, found, .. } = append;
    let gapless = found.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1);
    if !found.is_empty() && (found.len() != events.len() || !gapless) {
        return Some("an append was not recorded as one");
    }
    match outcome {
        Outcome::Recorded { .. } if found.is_empty() => Some("an acknowledged append is lost"),
        Outcome::Recorded { position, revision } => (found.last() != Some(&(*position, *revision)))
            .then_some("an append is not where its writer was told"),
        Outcome::Refused { .. } if !found.is_empty() => Some("a refused append was recorded"),
        Outcome::Refused { .. } | Outcome::Unknown | Outcome::Open => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const STREAM: &str = "order-1";

    fn events(count: u64) -> Vec<New> {
        (0..count).map(|number| New::probe(&mut Random::new(number, "test"), number)).collect()
    }

    fn recorded(position: u64, new: &New) -> Seen {
        Seen {
            position,
            revision: position - 1,
            id: new.id,
            stream: STREAM.to_owned(),
            event_type: new.event_type.to_owned(),
            content: new.content(STREAM),
            number: 0,
        }
    }

    /// The violations when a writer was told `outcome` and the log has these events of two.
    fn violations(outcome: Outcome, parts: &[usize]) -> u64 {
        let ledger = Ledger::new();
        let events = events(2);
        let key = ledger.begin("w", STREAM, &events);
        ledger.settle(key, outcome);
        let gained: Vec<Seen> = (1..).zip(parts).map(|(at, p)| recorded(at, &events[*p])).collect();
        let mut log = Log::default();
        assert_eq!(log.extend(gained.clone()), Vec::<String>::new());
        ledger.check(&log, &gained);
        ledger.violations().1
    }

    #[test]
    fn what_was_told_has_to_be_what_the_log_has() {
        let recorded = Outcome::Recorded { position: 2, revision: 1 };
        let refused = Outcome::Refused { code: "unavailable".to_owned() };
        for (outcome, parts, wrong) in [
            (recorded.clone(), &[0, 1][..], false),
            (recorded.clone(), &[], true),
            (recorded.clone(), &[0], true),
            (recorded.clone(), &[0, 1, 0, 1], true),
            (Outcome::Recorded { position: 3, revision: 1 }, &[0, 1], true),
            (refused.clone(), &[], false),
            (refused, &[0, 1], true),
            (Outcome::Unknown, &[], false),
            (Outcome::Unknown, &[0, 1], false),
            (Outcome::Unknown, &[1, 0], true),
            (Outcome::Unknown, &[0, 1, 0, 1], true),
        ] {
            let found = violations(outcome.clone(), parts);
            assert_eq!(found > 0, wrong, "{outcome:?} with {parts:?}: {found} violations");
        }
    }

    #[test]
    fn an_event_that_nobody_appended_is_a_violation() {
        let ledger = Ledger::new();
        let stranger = recorded(1, &events(1)[0]);
        ledger.check(&Log::default(), &[stranger]);
        assert_eq!(ledger.violations().1, 1);
    }
}
