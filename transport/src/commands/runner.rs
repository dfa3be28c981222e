//! Carries commands out: finds the handler, keeps the bounds, runs it, records what it decided.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidewire_eventstore::{
    AppendError, Appended, CommandKey, CommandName, EventStore, Executed, Execution,
    GlobalPosition, InputDigest,
};
use tidewire_protocol::{CommandRequest, ErrorBody};
use tokio::{
    runtime::{self, Handle, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::{
    Caller, Context, Registry,
    context::{Reads, Told},
    handler::{AnyHandler, Decided},
    keys::{Keys, Turn},
    metrics::{CommandMetrics, Counted},
    outcome::{Ended, Outcome},
};
use crate::Config;

/// How often a handler is run again because the stream was not at the revision that it expected.
const RERUNS_MAX: u32 = 3;

/// What a command was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    /// JSON text.
    pub(crate) data: Bytes,
    /// Where the last event was recorded that it appended, if it appended any.
    pub(crate) position: Option<GlobalPosition>,
}

/// The commands of one node.
pub(crate) struct Commands {
    inner: Arc<Inner>,
    /// Where handlers run; none where there are none.
    runtime: Option<Runtime>,
}

struct Inner {
    registry: Registry,
    store: Arc<dyn EventStore>,
    reads: Reads,
    keys: Arc<Keys>,
    /// A permit a command that runs.
    running: Arc<Semaphore>,
    /// A permit a command that runs or waits.
    places: Arc<Semaphore>,
    timeout: Duration,
    answer_bytes_max: usize,
    metrics: Arc<CommandMetrics>,
}

/// What a command holds while it runs: its key's turn, and its place among those that run.
struct Held {
    _turn: Option<Turn>,
    _running: OwnedSemaphorePermit,
}

impl Commands {
    /// The commands that `registry` has handlers for. `turns` bounds the reads of handlers and of
    /// others together, which happen on `database`.
    ///
    /// # Errors
    ///
    /// Where the operating system grants no threads.
    pub(crate) fn new(
        registry: Registry,
        config: &Config,
        store: Arc<dyn EventStore>,
        database: Handle,
        turns: Arc<Semaphore>,
        metrics: Arc<CommandMetrics>,
    ) -> std::io::Result<Self> {
        let runtime = if registry.is_empty() {
            None
        } else {
            let mut builder = runtime::Builder::new_multi_thread();
            builder.worker_threads(config.command_threads.max(1)).thread_name("tidewire-commands");
            Some(builder.enable_all().build()?)
        };
        let running_max = config.commands_running_max.max(1);
        let inner = Inner {
            registry,
            store: store.clone(),
            reads: Reads { store, database, turns },
            keys: Arc::default(),
            running: Arc::new(Semaphore::new(running_max)),
            places: Arc::new(Semaphore::new(running_max + config.commands_queue_max)),
            timeout: config.command_timeout,
            answer_bytes_max: config.command_answer_bytes_max,
            metrics,
        };
        Ok(Self { inner: Arc::new(inner), runtime })
    }

    /// Carries out `request` for `caller`. It takes its course even when the future is dropped.
    ///
    /// # Errors
    ///
    /// What the client is told.
    pub(crate) async fn execute(
        &self,
        request: CommandRequest,
        caller: Caller,
    ) -> Result<Done, ErrorBody> {
        let began = Instant::now();
        let ended = self.begin(request, caller).await;
        let metrics = &self.inner.metrics;
        metrics.duration.observe(began.elapsed(), 1);
        match ended {
            Ok((outcome, done)) => {
                metrics.ended(outcome);
                Ok(done)
            }
            Err(ended) => {
                metrics.ended(ended.outcome);
                Err(ended.error)
            }
        }
    }

    async fn begin(
        &self,
        request: CommandRequest,
        caller: Caller,
    ) -> Result<(Outcome, Done), Ended> {
        let handler = self.inner.registry.find(&request.name).ok_or_else(Ended::unknown)?;
        let runtime = self.runtime.as_ref().ok_or_else(Ended::unknown)?;
        let place =
            self.inner.places.clone().try_acquire_owned().map_err(|_| Ended::overloaded())?;
        let inner = self.inner.clone();
        let (answer, answered) = oneshot::channel();
        runtime.spawn(async move {
            let _place = place;
            // Whoever asked may be gone.
            let _ = answer.send(inner.carry_out(handler, request, caller).await);
        });
        answered.await.unwrap_or_else(|_| Err(Ended::closing()))
    }

    /// How many keys somebody holds.
    #[cfg(test)]
    pub(super) fn keys_held(&self) -> usize {
        self.inner.keys.len()
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping a runtime waits for it, which a thread of another runtime must not.
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    async fn carry_out(
        self: Arc<Self>,
        handler: Arc<dyn AnyHandler>,
        request: CommandRequest,
        caller: Caller,
    ) -> Result<(Outcome, Done), Ended> {
        let CommandRequest { name, data, key } = request;
        let keyed = match key {
            Some(key) => {
                let input = digest(&data).map_err(|error| Ended::of_input(&error))?;
                Some((key, input))
            }
            None => None,
        };
        let waiting = Counted::in_gauge(&self.metrics.waiting);
        // The key's turn comes first: whoever waits for it takes no place among those that run.
        let turn = match &keyed {
            Some((key, _)) => Some(self.keys.turn(&name, key).await),
            None => None,
        };
        let running = self.running.clone().acquire_owned().await;
        let running = running.expect("the semaphore is never closed");
        let held = Arc::new(Held { _turn: turn, _running: running });
        drop(waiting);
        let _running = Counted::in_gauge(&self.metrics.running);

        if let Some((key, input)) = &keyed
            && let Some(found) = self.recorded(&name, key).await?
        {
            if found.input != *input {
                let (name, key) = (name, key.clone());
                return Err(Ended::of_append(&AppendError::KeyReused { name, key }));
            }
            return Ok(answered(found));
        }
        let mut run = 1;
        loop {
            let told = Told {
                name: name.clone(),
                key: keyed.as_ref().map(|(key, _)| key.clone()),
                caller: caller.clone(),
                run,
            };
            let context = Context { command: Arc::new(told), reads: self.reads.clone() };
            let decided = self.run(&handler, context, &data, &held).await?;
            match self.record(&name, keyed.as_ref(), decided).await {
                Ok(done) => return Ok(done),
                Err(AppendError::WrongExpectedRevision { .. }) if run <= RERUNS_MAX => {
                    self.metrics.reruns.fetch_add(1, Relaxed);
                    run += 1;
                }
                Err(error) => return Err(Ended::of_append(&error)),
            }
        }
    }

    /// What was recorded under a name and key, if anything.
    async fn recorded(
        &self,
        name: &CommandName,
        key: &CommandKey,
    ) -> Result<Option<Executed>, Ended> {
        let (store, name, key) = (self.store.clone(), name.clone(), key.clone());
        let look = async move { store.command_result(&name, &key).await };
        self.reads.on_database(look).await.map_err(|error| Ended::of_read(&error))
    }

    /// Runs the handler once, as a task of its own, for as long as it may take. What the command
    /// holds is the task's too: a handler that cannot be stopped keeps it.
    async fn run(
        &self,
        handler: &Arc<dyn AnyHandler>,
        context: Context,
        data: &Bytes,
        held: &Arc<Held>,
    ) -> Result<Decided, Ended> {
        let name = context.name().clone();
        let (handler, data, held) = (handler.clone(), data.clone(), held.clone());
        let mut task = tokio::spawn(async move {
            let _held = held;
            handler.handle(context, data).await
        });
        let decided = match timeout(self.timeout, &mut task).await {
            Ok(Ok(decided)) => decided.map_err(Ended::of_handler)?,
            Ok(Err(error)) if error.is_panic() => {
                tracing::error!(command = %name, "a command's handler panicked");
                return Err(Ended::panicked());
            }
            Ok(Err(_)) => return Err(Ended::closing()),
            Err(_) => {
                task.abort();
                tracing::warn!(command = %name, "a command's handler took too long");
                return Err(Ended::timed_out());
            }
        };
        let (bytes, max) = (decided.answer.len(), self.answer_bytes_max);
        if bytes > max {
            tracing::error!(command = %name, bytes, max, "a command's answer is too large");
            return Err(Ended::answer_too_large(bytes, max));
        }
        Ok(decided)
    }

    /// Records what was decided: with its key in one transaction, or the events alone.
    async fn record(
        &self,
        name: &CommandName,
        keyed: Option<&(CommandKey, InputDigest)>,
        decided: Decided,
    ) -> Result<(Outcome, Done), AppendError> {
        let Decided { answer, append } = decided;
        let Some((key, input)) = keyed else {
            let appended = match append {
                Some(append) => Some(self.store.append(append)?.await?),
                None => None,
            };
            return Ok((Outcome::Executed, Done { data: answer, position: position(appended) }));
        };
        let execution = Execution {
            name: name.clone(),
            key: key.clone(),
            input: *input,
            result: answer,
            append,
        };
        Ok(answered(self.store.execute(execution)?.await?))
    }
}

fn answered(executed: Executed) -> (Outcome, Done) {
    let outcome = if executed.repeated { Outcome::Repeated } else { Outcome::Executed };
    (outcome, Done { data: executed.result, position: position(executed.appended) })
}

fn position(appended: Option<Appended>) -> Option<GlobalPosition> {
    appended.map(|appended| appended.position)
}

/// The digest of `data`, whatever its white space and the order of its fields.
fn digest(data: &[u8]) -> Result<InputDigest, serde_json::Error> {
    let mut value: serde_json::Value = serde_json::from_slice(data)?;
    value.sort_all_objects();
    Ok(InputDigest::of(&serde_json::to_vec(&value)?))
}
