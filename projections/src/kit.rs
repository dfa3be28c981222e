//! A kit to test projections with: given some events, when an event comes, then these are the
//! documents.
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! use serde_json::json;
//! use tidewire_projections::kit::{Given, event};
//! # use tidewire_projections::typed;
//! # #[derive(Serialize, Deserialize)]
//! # struct Counter { clicks: u64 }
//! # #[derive(Deserialize)]
//! # enum ButtonEvent { Clicked {} }
//! # let counters = typed::projection("counters", 1)
//! #     .by_stream(|counter: Option<Counter>, _: &typed::Event<'_, ButtonEvent>| {
//! #         Some(Counter { clicks: counter.map_or(0, |counter| counter.clicks) + 1 })
//! #     })
//! #     .expect("the definition is right");
//!
//! Given::events(&counters, [event("button-a", "Clicked", json!({}))])
//!     .when(event("button-a", "Clicked", json!({})))
//!     .when(event("button-b", "Clicked", json!({})))
//!     .then([("a", json!({"clicks": 2})), ("b", json!({"clicks": 1}))]);
//! ```
//!
//! Each `then` projects all events several times: twice as one batch, and cut into batches of
//! several sizes with the documents stored and read again in between. Where these differ the
//! projection is not pure, or its documents do not survive being stored, and the test fails.

mod compare;
mod events;
mod run;

use serde::Serialize;
use serde_json::Value;
use tidewire_eventstore::RecordedEvent;

pub use self::events::{TestEvent, event};
use self::run::{Outcome, run};
use crate::projection::Projection;

/// A projection and the events it has been given.
#[must_use = "nothing is checked before `then`"]
pub struct Given<'a> {
    projection: &'a dyn Projection,
    events: Vec<RecordedEvent>,
}

impl<'a> Given<'a> {
    /// A projection that has seen nothing.
    pub fn nothing(projection: &'a dyn Projection) -> Self {
        Self { projection, events: Vec::new() }
    }

    /// A projection that has seen these events. Those that it does not want are passed over, as a
    /// runner would.
    pub fn events(
        projection: &'a dyn Projection,
        events: impl IntoIterator<Item = TestEvent>,
    ) -> Self {
        events.into_iter().fold(Self::nothing(projection), Self::when)
    }

    /// Adds the next event. The events stand in the log one after the other from position 1, with
    /// the revisions of their streams, a second apart from the beginning of 2026 on.
    ///
    /// # Panics
    ///
    /// When the event has bad names.
    pub fn when(mut self, event: TestEvent) -> Self {
        let event = event.record(&self.events);
        self.events.push(event);
        self
    }

    /// Checks that these are the documents, all of them.
    ///
    /// # Panics
    ///
    /// When they are not; when the projection refused an event; when it does not come to the same
    /// result each time.
    #[track_caller]
    pub fn then<K: AsRef<str>, D: Serialize>(self, documents: impl IntoIterator<Item = (K, D)>) {
        let expected: Vec<_> = documents
            .into_iter()
            .map(|(key, document)| (key.as_ref().to_owned(), value(&document)))
            .collect();
        let outcome = self.outcome();
        self.must_accept_all(&outcome);
        if let Some(difference) = compare::documents(expected, outcome.documents) {
            panic!("{}: after {}\n{difference}", self.name(), self.told());
        }
    }

    /// Checks that this is the document of a key, whatever the others are.
    ///
    /// # Panics
    ///
    /// As for [`Self::then`].
    #[track_caller]
    pub fn then_document(self, key: &str, document: impl Serialize) {
        let mut outcome = self.outcome();
        self.must_accept_all(&outcome);
        let expected = vec![(key.to_owned(), value(&document))];
        outcome.documents.retain(|present, _| present == key);
        if let Some(difference) = compare::documents(expected, outcome.documents) {
            panic!("{}: after {}\n{difference}", self.name(), self.told());
        }
    }

    /// Checks that the projection refuses the last event, and no other, with an error of this code
    /// ([`ProjectError::code`](crate::ProjectError::code)).
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn then_refused(self, code: &str) {
        let outcome = self.outcome();
        let last = self.events.len();
        match outcome.refused.as_slice() {
            [(index, error)] if index + 1 == last && error.code() == code => {}
            [] => panic!("{}: no event was refused; expected {code} of the last", self.name()),
            refused => {
                let told: Vec<_> = refused
                    .iter()
                    .map(|(index, error)| {
                        format!("  event {}: {} ({error})", index + 1, error.code())
                    })
                    .collect();
                panic!(
                    "{}: expected {code} of event {last} alone, but these were refused:\n{}",
                    self.name(),
                    told.join("\n")
                )
            }
        }
    }

    /// What the projection makes of the events, checked to be the same each time.
    #[track_caller]
    fn outcome(&self) -> Outcome {
        let whole = self.events.len().max(1);
        let outcome = run(self.projection, &self.events, whole);
        for (batch, why) in [
            (
                whole,
                "projected once more, the same events gave other documents: the projection is not pure",
            ),
            (1, "stored and read again after each event, the documents became others"),
            (2, "in batches of two events, the documents became others"),
            (3, "in batches of three events, the documents became others"),
        ] {
            let again = run(self.projection, &self.events, batch);
            if let Some(difference) = outcome.difference(again) {
                panic!("{}: {why}\n{difference}", self.name());
            }
        }
        outcome
    }

    #[track_caller]
    fn must_accept_all(&self, outcome: &Outcome) {
        if let Some((index, error)) = outcome.refused.first() {
            let event = &self.events[*index];
            panic!(
                "{}: refused event {} ({} of {}): {} ({error})",
                self.name(),
                index + 1,
                event.event_type,
                event.stream,
                error.code(),
            );
        }
    }

    fn name(&self) -> &str {
        self.projection.definition().name.as_str()
    }

    /// The last events, for people.
    fn told(&self) -> String {
        let Some(last) = self.events.last() else { return "no events".to_owned() };
        format!(
            "{} events, the last being {} of {}",
            self.events.len(),
            last.event_type,
            last.stream
        )
    }
}

#[track_caller]
fn value(document: &impl Serialize) -> Value {
    serde_json::to_value(document).expect("an expected document can be written as JSON")
}

#[cfg(test)]
mod tests;
