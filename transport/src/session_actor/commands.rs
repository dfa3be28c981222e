//! The commands of one session: carried out one after the other, in the order they came in.

use std::collections::VecDeque;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tidewire_protocol::{Answer, CommandRequest, Input, RequestId};

use super::SessionActor;
use crate::commands::Caller;

/// What waits while one is carried out. Bounded by the requests that a session may have unanswered.
#[derive(Debug, Default)]
pub(super) struct CommandQueue {
    waiting: VecDeque<(RequestId, CommandRequest)>,
    busy: bool,
}

impl SessionActor {
    /// Has `command` carried out after those that came before it.
    pub(super) fn command(
        &mut self,
        id: RequestId,
        command: CommandRequest,
        ctx: &mut Context<Self>,
    ) {
        self.commands.waiting.push_back((id, command));
        self.next_command(ctx);
    }

    fn next_command(&mut self, ctx: &mut Context<Self>) {
        if self.commands.busy {
            return;
        }
        let Some((id, command)) = self.commands.waiting.pop_front() else { return };
        self.commands.busy = true;
        let session = self.session.clone();
        let node = session.worker().node().clone();
        let caller = Caller::Session(session.info().id.as_str().into());
        let answered = async move {
            let done = node.commands.execute(command, caller).await;
            let answer =
                done.map(|done| Answer::Result { data: done.data, position: done.position });
            session.handle(Input::Answer { id, answer });
        };
        ctx.spawn(answered.into_actor(self).map(|(), actor: &mut Self, ctx| {
            actor.commands.busy = false;
            actor.next_command(ctx);
        }));
    }
}
