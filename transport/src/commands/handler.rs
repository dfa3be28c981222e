//! From an application's typed function to what the runner can call: JSON in, JSON out.

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tidewire_eventstore::{Append, BoxFuture};

use super::{CommandError, Context, Decision};

/// A function that handles the commands of one name: from a [`Context`] and an `Input` to a
/// [`Decision`]. Any `async fn` of that shape is one.
pub trait CommandHandler<Input, Output>: Send + Sync + 'static {
    /// Handles one command.
    fn handle(
        &self,
        context: Context,
        input: Input,
    ) -> impl Future<Output = Result<Decision<Output>, CommandError>> + Send;
}

impl<H, F, Input, Output> CommandHandler<Input, Output> for H
where
    H: Fn(Context, Input) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Decision<Output>, CommandError>> + Send,
{
    fn handle(
        &self,
        context: Context,
        input: Input,
    ) -> impl Future<Output = Result<Decision<Output>, CommandError>> + Send {
        self(context, input)
    }
}

/// What a handler came to.
#[derive(Debug)]
pub(super) struct Decided {
    /// What the client is answered: JSON text.
    pub(super) answer: Bytes,
    pub(super) append: Option<Append>,
}

/// Why a handler came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The data is not of the handler's type.
    Input(serde_json::Error),
    /// The handler said no, or could not ask the log.
    Error(CommandError),
    /// The answer cannot be written as JSON.
    Answer(serde_json::Error),
}

/// A handler without its types.
pub(super) trait AnyHandler: Send + Sync {
    /// Handles `data`. Whatever of the application's runs, runs while this is polled.
    fn handle(
        self: Arc<Self>,
        context: Context,
        data: Bytes,
    ) -> BoxFuture<'static, Result<Decided, Failure>>;
}

/// A handler, and what it is of.
pub(super) struct Typed<H, Input, Output> {
    handler: H,
    types: PhantomData<fn(Input) -> Output>,
}

impl<H, Input, Output> Typed<H, Input, Output> {
    pub(super) fn new(handler: H) -> Self {
        Self { handler, types: PhantomData }
    }
}

impl<H, Input, Output> AnyHandler for Typed<H, Input, Output>
where
    H: CommandHandler<Input, Output>,
    Input: DeserializeOwned + Send + 'static,
    Output: Serialize + Send + 'static,
{
    fn handle(
        self: Arc<Self>,
        context: Context,
        data: Bytes,
    ) -> BoxFuture<'static, Result<Decided, Failure>> {
        Box::pin(async move {
            let input = serde_json::from_slice(&data).map_err(Failure::Input)?;
            let Decision { answer, append } =
                self.handler.handle(context, input).await.map_err(Failure::Error)?;
            let answer = serde_json::to_vec(&answer).map_err(Failure::Answer)?;
            Ok(Decided { answer: answer.into(), append })
        })
    }
}
