//! A plan's rows as the binds of `append_group`, with commands or without: one array a column.

use sqlx::{Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::{
    commands,
    known::Basis,
    wire::{Moment, RawJson},
};
use crate::{Payload, StreamName, plan::Plan};

const APPEND_GROUP: &str = include_str!("sql/append_group.sql");
const APPEND_GROUP_WITH_COMMANDS: &str = include_str!("sql/append_group_with_commands.sql");

/// The columns, borrowed from the plan.
pub(super) struct Rows<'a> {
    head: i64,
    fence: i64,
    recorded_at: Moment,
    presumed_new: Vec<&'a str>,
    revisions: Vec<i64>,
    ids: Vec<Uuid>,
    streams: Vec<&'a str>,
    types: Vec<&'a str>,
    datas: Vec<Option<RawJson<'a>>>,
    content_types: Vec<Option<&'a str>>,
    binaries: Vec<Option<&'a [u8]>>,
    metas: Vec<Option<RawJson<'a>>>,
    request_ids: Vec<Uuid>,
    request_streams: Vec<&'a str>,
    request_places: Vec<i32>,
    request_events: Vec<i32>,
    request_revisions: Vec<i64>,
    request_positions: Vec<i64>,
    commands: Option<commands::Columns<'a>>,
}

impl<'a> Rows<'a> {
    /// The rows of `plan`, which was made on `basis`.
    pub(super) fn of(plan: &'a Plan, basis: &'a Basis) -> Self {
        let events = &plan.events;
        let json = |payload: &'a Payload| match payload {
            Payload::Json(data) => Some(RawJson(data)),
            Payload::Binary { .. } | Payload::Erased | Payload::Removed => None,
        };
        let binary = |payload: &'a Payload| match payload {
            Payload::Json(_) => None,
            Payload::Binary { content_type, data } => Some((&**content_type, &**data)),
            Payload::Erased | Payload::Removed => Some(("", &[][..])),
        };
        let requests = &plan.requests;
        Self {
            head: signed(plan.head.get()),
            fence: basis.fence,
            recorded_at: Moment(plan.recorded_at),
            presumed_new: basis.presumed_new.iter().map(StreamName::as_str).collect(),
            revisions: events.iter().map(|event| signed(event.revision.get())).collect(),
            ids: events.iter().map(|event| event.id.as_uuid()).collect(),
            streams: events.iter().map(|event| event.stream.as_str()).collect(),
            types: events.iter().map(|event| event.event_type.as_str()).collect(),
            datas: events.iter().map(|event| json(&event.payload)).collect(),
            content_types: events
                .iter()
                .map(|event| binary(&event.payload).map(|(content_type, _)| content_type))
                .collect(),
            binaries: events
                .iter()
                .map(|event| binary(&event.payload).map(|(_, data)| data))
                .collect(),
            metas: events.iter().map(|event| event.meta.as_deref().map(RawJson)).collect(),
            request_ids: requests.iter().map(|row| row.id.as_uuid()).collect(),
            request_streams: requests.iter().map(|row| row.stream.as_str()).collect(),
            request_places: requests.iter().map(|row| count(row.place)).collect(),
            request_events: requests.iter().map(|row| count(row.events)).collect(),
            request_revisions: requests
                .iter()
                .map(|row| signed(row.appended.revision.get()))
                .collect(),
            request_positions: requests
                .iter()
                .map(|row| signed(row.appended.position.get()))
                .collect(),
            commands: commands::Columns::of(plan),
        }
    }

    /// The statement, bound.
    pub(super) fn query(self) -> Query<'a, Postgres, PgArguments> {
        let statement = match self.commands {
            None => APPEND_GROUP,
            Some(_) => APPEND_GROUP_WITH_COMMANDS,
        };
        let query = sqlx::query(statement)
            .bind(self.head)
            .bind(self.fence)
            .bind(self.recorded_at)
            .bind(self.presumed_new)
            .bind(self.revisions)
            .bind(self.ids)
            .bind(self.streams)
            .bind(self.types)
            .bind(self.datas)
            .bind(self.content_types)
            .bind(self.binaries)
            .bind(self.metas)
            .bind(self.request_ids)
            .bind(self.request_streams)
            .bind(self.request_places)
            .bind(self.request_events)
            .bind(self.request_revisions)
            .bind(self.request_positions);
        match self.commands {
            None => query,
            Some(commands) => commands.bind(query),
        }
    }
}

/// A position or revision, never beyond [`crate::NUMBER_MAX`].
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count of events in one append, bounded by the limits.
fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
