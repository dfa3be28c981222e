//! Live queries and summaries: what servers say of them, handed to what is held, and what the
//! application is told of it.

use std::time::Instant;

use tidewire_eventstore::GlobalPosition;
use uuid::Uuid;

use super::{
    ClientCore, ClientOutput, Content, DocumentPage, Notice, Stage, Subscription,
    documents::{Documents, Nonsense, Told},
};
use crate::{
    codes::CloseCode,
    messages::{After, Delivery, QueryReset, ServerMessage, Sub, SummaryWindow},
    query::{Query, Reached},
};

impl ClientCore {
    /// Opens a live query; it goes on over every connection until it ends. The application is
    /// told of whole pictures ([`ClientOutput::Documents`]).
    pub fn watch(&mut self, query: Query) -> Sub {
        self.begin(Subscription {
            content: Content::Documents(Box::new((query, Documents::new()))),
            after: After::End,
            epoch: None,
            stage: Stage::Unsent,
            delivery: Delivery::Plain,
            unsettled: None,
            refusals: 0,
            resets: 0,
        })
    }

    pub(super) fn is_live_query(&self, sub: Sub) -> bool {
        let content = self.subs.get(&sub).map(|subscription| &subscription.content);
        matches!(content, Some(Content::Documents(_)))
    }

    /// Takes what is said of documents and summaries: of which subscription it was, if of one,
    /// and whether it made sense.
    pub(super) fn documents_message(
        &mut self,
        message: ServerMessage,
    ) -> Option<(Sub, Result<(), Nonsense>)> {
        match message {
            ServerMessage::Watching { sub, after, resumed, reset, .. } => {
                Some((sub, self.watching(sub, after, resumed, reset)))
            }
            ServerMessage::State { sub, reached, documents, more, reset } => {
                let held = self.open(sub)?.documents()?;
                let told = held.state(reached, documents, more, reset);
                if let (Ok(()), Some(reset)) = (told, reset) {
                    self.notice(sub, Notice::Restated(reset));
                }
                Some((sub, told))
            }
            ServerMessage::Changes { sub, position, changes, more } => {
                let held = self.open(sub)?.documents()?;
                let told = held.changes(position, changes, more);
                Some((sub, told.map(|told| self.tell(sub, told))))
            }
            ServerMessage::Summary { sub, summary } => Some((sub, self.summary(sub, summary))),
            ServerMessage::Documents { id, reached, documents, next, .. } => {
                self.fetched_documents(&id, DocumentPage { reached, documents, next });
                None
            }
            _ => None,
        }
    }

    fn watching(
        &mut self,
        sub: Sub,
        after: Reached,
        resumed: bool,
        reset: Option<QueryReset>,
    ) -> Result<(), Nonsense> {
        let epoch = self.welcome.as_ref().map_or(Uuid::nil(), |welcome| welcome.epoch);
        let Some(subscription) = self.subs.get_mut(&sub) else { return Ok(()) };
        if subscription.stage != Stage::Opening {
            return Ok(());
        }
        let Some(documents) = subscription.documents() else { return Err(Nonsense) };
        documents.opened(after, resumed)?;
        subscription.stage = Stage::Open;
        subscription.refusals = 0;
        subscription.epoch = Some(epoch);
        self.notice(sub, Notice::Watching { after, resumed, reset });
        Ok(())
    }

    pub(super) fn documents_live(
        &mut self,
        sub: Sub,
        position: GlobalPosition,
    ) -> Result<(), Nonsense> {
        let Some(held) = self.open(sub).and_then(Subscription::documents) else { return Ok(()) };
        let told = held.live(position)?;
        self.tell(sub, told);
        self.notice(sub, Notice::Live(position));
        Ok(())
    }

    fn tell(&mut self, sub: Sub, told: Option<Told>) {
        if let Some(told) = told {
            self.outputs.push_back(ClientOutput::Documents { sub, told });
        }
    }

    /// Counts, which go on from the last ones: otherwise something would be counted twice.
    fn summary(&mut self, sub: Sub, summary: Box<SummaryWindow>) -> Result<(), Nonsense> {
        let Some(subscription) = self.open(sub) else { return Ok(()) };
        match subscription.after {
            After::Position(seen) if summary.position <= seen => return Ok(()),
            After::Position(seen) if summary.after < seen => return Err(Nonsense),
            _ => {}
        }
        subscription.advance(summary.position);
        self.notice(sub, Notice::Summary(summary));
        Ok(())
    }

    /// What the server said of a subscription makes no sense: begin again, on another connection.
    pub(super) fn distrust(&mut self, sub: Sub, now: Instant, chance: f64) {
        if let Some(documents) = self.subs.get_mut(&sub).and_then(Subscription::documents) {
            documents.distrust();
        }
        self.abandon(CloseCode::ABNORMAL, now, chance);
    }
}
