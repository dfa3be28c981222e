//! Planning a group: which rows it inserts and what each of its requests is told. Pure.
//!
//! A backend loads the [`LogState`] that the group depends on, calls [`plan`], inserts
//! [`Plan::events`], [`Plan::requests`] and [`Plan::commands`] in one transaction, and returns the
//! plan once that is durable. Planning reads the requests and changes nothing, so a backend whose state turned out
//! to be stale loads it again and plans again.
//!
//! The rules:
//!
//! - Requests are judged in order, each against what the earlier ones left behind. A refused
//!   request leaves nothing behind and hinders no other.
//! - A request with client-made ids that was recorded before, in the log or earlier in the group,
//!   gets its first answer, whatever it expects now. It was recorded before if every id it brings
//!   was recorded on the same stream, in an append of as many events, each in the same place.
//!   Ids recorded in any other way are [`AppendError::IdReused`].
//! - A command whose name and key were recorded before, in the log or earlier in the group, gets
//!   what they were recorded with, whatever it appends or answers now; if it came with other data,
//!   [`AppendError::KeyReused`]. Otherwise it is recorded
//!   if its events are, or if it has none.
//! - Positions follow the head without a gap, revisions follow the stream's, also where all of its
//!   events were removed: such a stream counts as one without events, and goes on.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    AppendError, Appended, CommandKey, CommandName, EventId, EventType, Executed, ExpectedRevision,
    GlobalPosition, InputDigest, Payload, RecordedEvent, Revision, StreamName, Timestamp,
    plant::Plant,
};

/// How long a backend keeps [`RequestRow`]s and [`CommandRow`]s: 7 days, in microseconds.
pub(crate) const REQUESTS_KEPT_MICROS: i64 = 7 * 24 * 60 * 60 * 1_000_000;

/// One admitted append or command: within the limits, every event with an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The stream that the events go to. Without events it stands for nothing and is not looked at.
    pub(crate) stream: StreamName,
    /// What is demanded of it.
    pub(crate) expected: ExpectedRevision,
    /// The events: at least one, unless there is a command.
    pub(crate) events: Vec<RequestEvent>,
    /// The command that the events belong to, if they belong to one.
    pub(crate) command: Option<RequestCommand>,
    /// What the request weighs in queues and groups, in bytes.
    pub(crate) bytes: usize,
}

/// One event of a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestEvent {
    /// Its id.
    pub(crate) id: EventId,
    /// Who made the id.
    pub(crate) id_origin: IdOrigin,
    /// Its type.
    pub(crate) event_type: EventType,
    /// What it carries.
    pub(crate) payload: Payload,
    /// Metadata: JSON text.
    pub(crate) meta: Option<Bytes>,
}

/// Who made an event's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdOrigin {
    /// The client: the append is idempotent by it.
    Client,
    /// The server, before queueing: a lost commit is found by it.
    Server,
}

/// The command of a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestCommand {
    /// Its name.
    pub(crate) name: CommandName,
    /// The client's key.
    pub(crate) key: CommandKey,
    /// The digest of what came with it.
    pub(crate) input: InputDigest,
    /// Names this execution: by it a lost commit is found where there are no events.
    pub(crate) execution: Uuid,
    /// What it answers: JSON text.
    pub(crate) result: Bytes,
}

impl Request {
    /// The client-made ids, each with its event's place in the append.
    fn client_ids(&self) -> impl Iterator<Item = (usize, EventId)> {
        let by_client = |(_, event): &(usize, &RequestEvent)| event.id_origin == IdOrigin::Client;
        self.events.iter().enumerate().filter(by_client).map(|(place, event)| (place, event.id))
    }
}

/// The record of one client-made id: a row of the table `requests`, unique by `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestRow {
    /// The stream that the append went to.
    pub(crate) stream: StreamName,
    /// The event's id.
    pub(crate) id: EventId,
    /// The event's place in its append, from 0.
    pub(crate) place: u32,
    /// How many events the append had.
    pub(crate) events: u32,
    /// What the append was answered: the revision and position of its **last** event.
    pub(crate) appended: Appended,
}

/// The record of one command: a row of the table `commands`, unique by `name` and `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandRow {
    /// Its name.
    pub(crate) name: CommandName,
    /// The client's key.
    pub(crate) key: CommandKey,
    /// The digest of what came with it.
    pub(crate) input: InputDigest,
    /// The execution that recorded it.
    pub(crate) execution: Uuid,
    /// What it was answered: JSON text.
    pub(crate) result: Bytes,
    /// Where its events were recorded, if it had any: their last.
    pub(crate) appended: Option<Appended>,
}

impl CommandRow {
    /// What somebody is told who asks for this command, `repeated` or not.
    pub(crate) fn executed(&self, repeated: bool) -> Executed {
        let Self { input, appended, .. } = *self;
        Executed { result: self.result.clone(), appended, input, repeated }
    }
}

/// What the database holds that a group depends on, as of one moment under the append lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogState {
    /// The last position in the log.
    pub(crate) head: GlobalPosition,
    /// The last revision of each stream among [`streams`], which it goes on from. A stream that
    /// never had events is absent.
    pub(crate) revisions: HashMap<StreamName, Revision>,
    /// Those of them that have no events any more, because all were removed.
    pub(crate) emptied: HashSet<StreamName>,
    /// The recorded ones among [`client_ids`].
    pub(crate) recorded: HashMap<EventId, RequestRow>,
    /// The recorded ones among [`command_keys`].
    pub(crate) commands: HashMap<(CommandName, CommandKey), CommandRow>,
}

/// What one request is told.
pub(crate) type Outcome = Result<Recorded, AppendError>;

/// What was recorded for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// An append's events.
    Append(Appended),
    /// A command.
    Command(Executed),
}

/// What a group comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The head that the plan builds on: the first event's position less one.
    pub(crate) head: GlobalPosition,
    /// The events to insert, in order of position.
    pub(crate) events: Vec<RecordedEvent>,
    /// The rows to insert into `requests`.
    pub(crate) requests: Vec<RequestRow>,
    /// The rows to insert into `commands`.
    pub(crate) commands: Vec<CommandRow>,
    /// When all of it is recorded.
    pub(crate) recorded_at: Timestamp,
    /// What each request is told once the rows are durable, in the order of the requests.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Plan {
    /// Whether there is nothing to insert. Rows of `requests` come with events.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.commands.is_empty()
    }
}

/// The streams whose revisions `group` depends on, each once, in order of first appearance.
pub(crate) fn streams(group: &[Request]) -> Vec<&StreamName> {
    let mut seen = HashSet::with_capacity(group.len());
    let with_events = group.iter().filter(|request| !request.events.is_empty());
    with_events.map(|request| &request.stream).filter(|stream| seen.insert(*stream)).collect()
}

/// The client-made ids that `group` must look up in `requests`. May repeat; often empty.
pub(crate) fn client_ids(group: &[Request]) -> Vec<EventId> {
    group.iter().flat_map(Request::client_ids).map(|(_, id)| id).collect()
}

/// The names and keys that `group` must look up in `commands`. May repeat; often empty.
pub(crate) fn command_keys(group: &[Request]) -> Vec<(&CommandName, &CommandKey)> {
    let commands = group.iter().filter_map(|request| request.command.as_ref());
    commands.map(|command| (&command.name, &command.key)).collect()
}

/// Plans `group` on top of `state`, recording at `now`.
pub(crate) fn plan(group: &[Request], state: &LogState, now: Timestamp) -> Plan {
    let mut planner = Planner {
        state,
        now,
        head: state.head,
        revisions: HashMap::with_capacity(group.len()),
        recorded: HashMap::new(),
        events: Vec::with_capacity(group.iter().map(|request| request.events.len()).sum()),
        requests: Vec::new(),
        executed: HashMap::new(),
        commands: Vec::new(),
    };
    let outcomes = group.iter().map(|request| planner.judge(request)).collect();
    Plan {
        head: state.head,
        events: planner.events,
        requests: planner.requests,
        commands: planner.commands,
        recorded_at: now,
        outcomes,
    }
}

/// The state as the requests so far have left it.
struct Planner<'a> {
    state: &'a LogState,
    now: Timestamp,
    head: GlobalPosition,
    /// Streams that the group appended to.
    revisions: HashMap<&'a StreamName, Revision>,
    /// Ids that the group recorded, by where their row is in `requests`.
    recorded: HashMap<EventId, usize>,
    events: Vec<RecordedEvent>,
    requests: Vec<RequestRow>,
    /// Commands that the group recorded, by where their row is in `commands`.
    executed: HashMap<(&'a CommandName, &'a CommandKey), usize>,
    commands: Vec<CommandRow>,
}

impl<'a> Planner<'a> {
    fn judge(&mut self, request: &'a Request) -> Outcome {
        let Some(command) = &request.command else {
            return self.judge_append(request).map(Recorded::Append);
        };
        if let Some(row) = self.command_row(command) {
            if row.input != command.input {
                let (name, key) = (command.name.clone(), command.key.clone());
                return Err(AppendError::KeyReused { name, key });
            }
            return Ok(Recorded::Command(row.executed(true)));
        }
        let has_events = !request.events.is_empty();
        let appended = has_events.then(|| self.judge_append(request)).transpose()?;
        Ok(Recorded::Command(self.record_command(command, appended).executed(false)))
    }

    fn command_row(&self, command: &RequestCommand) -> Option<&CommandRow> {
        match self.executed.get(&(&command.name, &command.key)) {
            Some(&row) => self.commands.get(row),
            // A group seldom brings a command that was recorded before.
            None if self.state.commands.is_empty() => None,
            None => self.state.commands.get(&(command.name.clone(), command.key.clone())),
        }
    }

    fn record_command(
        &mut self,
        command: &'a RequestCommand,
        appended: Option<Appended>,
    ) -> &CommandRow {
        let at = self.commands.len();
        self.executed.insert((&command.name, &command.key), at);
        self.commands.push(CommandRow {
            name: command.name.clone(),
            key: command.key.clone(),
            input: command.input,
            execution: command.execution,
            result: command.result.clone(),
            appended,
        });
        &self.commands[at]
    }

    fn judge_append(&mut self, request: &'a Request) -> Result<Appended, AppendError> {
        if let Some(appended) = self.first_answer(request)? {
            return Ok(appended);
        }
        let appended_to = self.revisions.get(&request.stream).copied();
        let goes_on_from =
            appended_to.or_else(|| self.state.revisions.get(&request.stream).copied());
        let is_empty = appended_to.is_none() && self.state.emptied.contains(&request.stream);
        let current = goes_on_from.filter(|_| !is_empty);
        if !request.expected.is_met_by(current) {
            return Err(AppendError::WrongExpectedRevision {
                stream: request.stream.clone(),
                expected: request.expected,
                actual: current,
            });
        }
        if request.events.is_empty() {
            return Err(AppendError::NoEvents);
        }
        Ok(self.record(request, goes_on_from))
    }

    /// The answer that `request` got when it was recorded before, if it was.
    fn first_answer(&self, request: &Request) -> Result<Option<Appended>, AppendError> {
        if Plant::RepeatedAppend.is_active() {
            return Ok(None);
        }
        let mut first: Option<&RequestRow> = None;
        let mut fresh = None;
        let mut brought = 0_usize;
        for (place, id) in request.client_ids() {
            brought += 1;
            match self.row(id) {
                Some(row) if row.matches(request, place) => {
                    if first.is_some_and(|first| first.appended != row.appended) {
                        return Err(AppendError::IdReused { id });
                    }
                    first = Some(row);
                }
                Some(_) => return Err(AppendError::IdReused { id }),
                None => fresh = Some(id),
            }
        }
        match (first, fresh) {
            (Some(row), Some(_)) => Err(AppendError::IdReused { id: row.id }),
            (Some(row), None) => Ok(Some(row.appended)),
            (None, _) if brought > 1 => {
                repeated_id(request).map_or(Ok(None), |id| Err(AppendError::IdReused { id }))
            }
            (None, _) => Ok(None),
        }
    }

    fn row(&self, id: EventId) -> Option<&RequestRow> {
        match self.recorded.get(&id) {
            Some(&row) => self.requests.get(row),
            None => self.state.recorded.get(&id),
        }
    }

    fn record(&mut self, request: &'a Request, goes_on_from: Option<Revision>) -> Appended {
        let mut revision = goes_on_from.map_or(Revision::FIRST, Revision::next);
        let count = request.events.len() as u64;
        let appended = Appended {
            revision: Revision::new(revision.get() + count - 1),
            position: GlobalPosition::new(self.head.get() + count),
        };
        for event in &request.events {
            self.head = self.head.next();
            self.events.push(RecordedEvent {
                position: self.head,
                stream: request.stream.clone(),
                revision,
                event_type: event.event_type.clone(),
                id: event.id,
                recorded_at: self.now,
                payload: event.payload.clone(),
                meta: event.meta.clone(),
            });
            revision = revision.next();
        }
        self.revisions.insert(&request.stream, appended.revision);
        if Plant::RepeatedAppend.is_active() {
            return appended;
        }
        for (place, id) in request.client_ids() {
            if let Entry::Vacant(entry) = self.recorded.entry(id) {
                entry.insert(self.requests.len());
            }
            self.requests.push(RequestRow {
                stream: request.stream.clone(),
                id,
                place: u32::try_from(place).unwrap_or(u32::MAX),
                events: u32::try_from(count).unwrap_or(u32::MAX),
                appended,
            });
        }
        appended
    }
}

impl RequestRow {
    /// Whether this row is what recording `request` would have left for its event at `place`.
    fn matches(&self, request: &Request, place: usize) -> bool {
        self.stream == request.stream
            && self.events as usize == request.events.len()
            && self.place as usize == place
    }
}

/// An id that `request` brings twice.
fn repeated_id(request: &Request) -> Option<EventId> {
    let mut seen = HashSet::with_capacity(request.events.len());
    request.client_ids().map(|(_, id)| id).find(|id| !seen.insert(*id))
}
