//! The deliberate bug [`Plant::AckBeforeCommit`]: requests are answered with what they will
//! probably come to, and only then committed.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::sleep};

use crate::{
    Timestamp,
    plan::{LogState, Plan, Recorded, plan},
    plant::Plant,
    queue::{Answer, AnswerTo, Group},
};

/// Between the answers and the commit.
const HEAD_START: Duration = Duration::from_millis(15);

/// What the writer knows of the log, to tell outcomes before they are.
#[derive(Debug, Default)]
pub(crate) struct EarlyAnswers(Mutex<LogState>);

impl EarlyAnswers {
    /// Answers what can be foreseen. Whoever is answered is not answered again.
    pub(crate) async fn answer(&self, group: &mut Group) {
        if !Plant::AckBeforeCommit.is_active() {
            return;
        }
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let foreseen = plan(&group.requests, &known, Timestamp::now()).outcomes;
            let requests = group.requests.iter().zip(&mut group.answers);
            for ((request, answer), outcome) in requests.zip(foreseen) {
                let is_append = matches!(outcome, Ok(Recorded::Append(_)));
                if is_append && known.revisions.contains_key(&request.stream) {
                    let (nobody, _) = oneshot::channel();
                    let later =
                        Answer { to: AnswerTo::Append(nobody), queued_at: answer.queued_at };
                    std::mem::replace(answer, later).tell(outcome);
                }
            }
        }
        sleep(HEAD_START).await;
    }

    /// Learns what a group has come to.
    pub(crate) fn learn(&self, plan: &Plan) {
        if !Plant::AckBeforeCommit.is_active() {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in &plan.events {
            known.head = event.position;
            known.revisions.insert(event.stream.clone(), event.revision);
        }
        for row in &plan.requests {
            known.recorded.insert(row.id, row.clone());
        }
    }
}
