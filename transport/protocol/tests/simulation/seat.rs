//! One client's place in the world: the program that runs there, and its connection.

use std::time::Instant;

use tidewire_eventstore::{Category, EventType};
use tidewire_protocol::{CloseCode, FeedSpec, Filter, Target};

use crate::{
    app::{App, Kind},
    chance::Chance,
    client::Client,
};

/// What becomes of an attempt to connect.
pub(crate) enum Attempt {
    Opens(Instant),
    Fails(Instant),
}

pub(crate) struct Seat {
    pub(crate) client: Client,
    pub(crate) attempt: Option<Attempt>,
    /// The number of its connection, and when it learns that it was cut.
    pub(crate) current: Option<u64>,
    pub(crate) cut_at: Option<(Instant, CloseCode)>,
    /// Its subscriptions that acknowledge, with their windows.
    apps: Vec<(Kind, u32)>,
    /// Whether it takes back what others take from it.
    pub(crate) keeps: bool,
}

impl Seat {
    /// The place of a program with these subscriptions that acknowledge.
    pub(crate) fn new(run: u64, apps: Vec<(Kind, u32)>, now: Instant, chance: &mut Chance) -> Self {
        let client = Client::new(run, now, chance);
        let (attempt, current, cut_at) = (None, None, None);
        let mut seat = Self { client, attempt, current, cut_at, apps, keeps: false };
        seat.open_apps();
        seat
    }

    /// The program is killed, and another one started in its place.
    pub(crate) fn restart(&mut self, run: u64, now: Instant, chance: &mut Chance) {
        let settled = std::mem::take(&mut self.client.settled);
        self.client = Client::new(run, now, chance);
        self.client.settled = settled;
        self.client.keeps = self.keeps;
        (self.attempt, self.current, self.cut_at) = (None, None, None);
        self.open_apps();
    }

    fn open_apps(&mut self) {
        for (kind, window) in &self.apps {
            let run = self.client.run;
            let feed = feed(kind);
            let app = App::new(&mut self.client.core, run, kind.clone(), feed, *window);
            self.client.apps.push(app);
        }
    }
}

/// What a subscription is about; for a consumer the same everywhere.
fn feed(kind: &Kind) -> FeedSpec {
    match kind {
        Kind::Own | Kind::Group(_) => FeedSpec::of(Target::All),
        Kind::Exclusive(_) => {
            let category = Category::new("order").expect("a name");
            let types = [EventType::new("Odd").expect("a name")];
            FeedSpec {
                filter: Some(Filter::types(&types).into()),
                ..FeedSpec::of(Target::Category(category))
            }
        }
    }
}
