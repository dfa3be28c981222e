//! Appends, commands and fetches: taken, sent, answered once.

use std::time::Instant;

use bytes::Bytes;
use tidewire_eventstore::{GlobalPosition, RecordedEvent};

use super::{
    AppendKey, ClientCore, ClientOutput, CommandResult, CommandTicket, DocumentPage, FetchKey,
    FetchRefused, Link, OutboxError, Page, Settled,
    fetches::Of,
    outbox::{GivenUp, Key},
};
use crate::{
    codes::{ErrorBody, ErrorCode},
    messages::{AppendRequest, CommandRequest, FetchRequest, QueryRequest, RequestId},
};

impl ClientCore {
    /// Takes an append into the outbox and sends it when it can be sent. Every event needs an id.
    ///
    /// # Errors
    ///
    /// [`OutboxError`] when it was not taken; otherwise there will be exactly one
    /// [`ClientOutput::Settled`] for it.
    pub fn append(
        &mut self,
        append: AppendRequest,
        now: Instant,
    ) -> Result<AppendKey, OutboxError> {
        if self.link == Link::Failed {
            return Err(OutboxError::Failed);
        }
        let key = self.outbox.push_append(append, self.message_bytes_max(), now)?;
        self.send_requests();
        Ok(key)
    }

    /// Takes a command into the outbox and sends it when it can be sent. It needs a key.
    ///
    /// # Errors
    ///
    /// [`OutboxError`] when it was not taken; otherwise there will be exactly one
    /// [`ClientOutput::Answered`] for it.
    pub fn command(
        &mut self,
        command: CommandRequest,
        now: Instant,
    ) -> Result<CommandTicket, OutboxError> {
        if self.link == Link::Failed {
            return Err(OutboxError::Failed);
        }
        let ticket = self.outbox.push_command(command, self.message_bytes_max(), now)?;
        self.send_requests();
        Ok(ticket)
    }

    /// Asks for a page, now or as soon as there is a connection.
    ///
    /// # Errors
    ///
    /// [`FetchRefused`] when it was not taken; otherwise there will be exactly one
    /// [`ClientOutput::Fetched`] for it.
    pub fn fetch(&mut self, fetch: FetchRequest) -> Result<FetchKey, FetchRefused> {
        if self.link == Link::Failed {
            return Err(FetchRefused::Failed);
        }
        let key = self.fetches.push(fetch)?;
        self.send_fetches();
        Ok(key)
    }

    /// Asks for a page of documents, now or as soon as there is a connection.
    ///
    /// # Errors
    ///
    /// [`FetchRefused`] when it was not taken; otherwise there will be exactly one
    /// [`ClientOutput::FetchedDocuments`] for it.
    pub fn fetch_documents(&mut self, request: QueryRequest) -> Result<FetchKey, FetchRefused> {
        if self.link == Link::Failed {
            return Err(FetchRefused::Failed);
        }
        let key = self.fetches.push_query(request)?;
        self.send_fetches();
        Ok(key)
    }

    /// How many appends and commands, and how many bytes of them, wait in the outbox.
    pub fn outbox_size(&self) -> (usize, usize) {
        self.outbox.size()
    }

    /// The server has answered a request with an error.
    pub(super) fn refused(&mut self, id: &RequestId, error: ErrorBody) {
        // A server that is going away has not touched it: the next one will.
        if error.known() == Some(ErrorCode::Closing) {
            return;
        }
        match self.fetches.answer(id) {
            Some((key, of)) => self.fetch_refused(key, of, error),
            None => {
                if let Some(key) = self.outbox.settle(id) {
                    self.refuse(key, error);
                    self.send_requests();
                }
            }
        }
    }

    /// An append is durable.
    pub(super) fn settled(&mut self, id: &RequestId, settled: Settled) {
        if let Some(Key::Append(key)) = self.outbox.settle(id) {
            self.outputs.push_back(ClientOutput::Settled { key, result: Ok(settled) });
            self.send_requests();
        }
    }

    /// A command was carried out.
    pub(super) fn answered(
        &mut self,
        id: &RequestId,
        data: Bytes,
        position: Option<GlobalPosition>,
    ) {
        if let Some(Key::Command(ticket)) = self.outbox.settle(id) {
            let result = Ok(CommandResult { data, position });
            self.outputs.push_back(ClientOutput::Answered { ticket, result });
            self.send_requests();
        }
    }

    /// A page has come.
    pub(super) fn fetched(
        &mut self,
        id: &RequestId,
        events: Vec<RecordedEvent>,
        next: Option<u64>,
        head: GlobalPosition,
    ) {
        if let Some((key, of)) = self.fetches.answer(id) {
            let page = Page { events, next: next.map(|next| of.cursor(next)), head };
            self.outputs.push_back(ClientOutput::Fetched { key, result: Ok(page) });
        }
    }

    /// A page of documents has come.
    pub(super) fn fetched_documents(&mut self, id: &RequestId, page: DocumentPage) {
        if let Some((key, _)) = self.fetches.answer(id) {
            self.outputs.push_back(ClientOutput::FetchedDocuments { key, result: Ok(page) });
        }
    }

    fn fetch_refused(&mut self, key: FetchKey, of: Of, error: ErrorBody) {
        self.outputs.push_back(match of {
            Of::Documents => ClientOutput::FetchedDocuments { key, result: Err(error) },
            Of::Stream | Of::Log => ClientOutput::Fetched { key, result: Err(error) },
        });
    }

    /// Requests that are too large for the server that answers now can never be sent.
    pub(super) fn refuse_larger(&mut self) {
        let max = self.message_bytes_max();
        for (key, bytes) in self.outbox.take_larger(max) {
            let details = serde_json::json!({ "bytes": bytes, "max": max });
            self.refuse(key, ErrorBody::of(ErrorCode::TooLarge).with_details(details));
        }
    }

    /// Tells the application of requests that were sent often enough, or waited long enough.
    pub(super) fn give_up(&mut self, requests: Vec<GivenUp>) {
        for GivenUp { key, was_sent } in requests {
            let error = if was_sent {
                ErrorBody::new(
                    ErrorCode::OutcomeUnknown,
                    "no answer came in time; sent again with the same ids or key, it takes effect once",
                )
            } else {
                ErrorBody::new(ErrorCode::Unavailable, "it could not be sent in time")
            };
            self.refuse(key, error);
        }
    }

    /// Nothing is going to be sent or answered any more.
    pub(super) fn fail_requests(&mut self) {
        let given_up = || ErrorBody::new(ErrorCode::Closing, "the client has given up");
        for GivenUp { key, .. } in self.outbox.take_all() {
            self.refuse(key, given_up());
        }
        for (key, of) in self.fetches.take_all() {
            self.fetch_refused(key, of, given_up());
        }
    }

    fn refuse(&mut self, key: Key, error: ErrorBody) {
        self.outputs.push_back(match key {
            Key::Append(key) => ClientOutput::Settled { key, result: Err(error) },
            Key::Command(ticket) => ClientOutput::Answered { ticket, result: Err(error) },
        });
    }

    pub(super) fn send_requests(&mut self) {
        let (Link::Up { .. }, Some(welcome)) = (self.link, &self.welcome) else { return };
        let max = usize::try_from(welcome.limits.requests).unwrap_or(usize::MAX);
        while let Some(text) = self.outbox.next_unsent(max) {
            self.outputs.push_back(ClientOutput::Send(text));
        }
    }

    pub(super) fn send_fetches(&mut self) {
        if matches!(self.link, Link::Up { .. }) {
            while let Some(text) = self.fetches.next_unsent() {
                self.outputs.push_back(ClientOutput::Send(text));
            }
        }
    }
}
