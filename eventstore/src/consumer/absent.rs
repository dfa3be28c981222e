//! [`AbsentConsumers`]: what a store without durable consumers answers.

use crate::{
    BoxFuture, Claim, Claimed, ConsumerError, ConsumerInfo, ConsumerName, ConsumerStore,
    GlobalPosition, Holding, Kept, MemberId, ParkedPage, Positions, ReadError, Save,
};

/// Refuses everything.
#[derive(Debug)]
pub(crate) struct AbsentConsumers;

fn refused<T, E: From<ReadError> + Send + 'static>() -> BoxFuture<'static, Result<T, E>>
where
    T: Send + 'static,
{
    let reason = "this store has no durable consumers";
    Box::pin(async move { Err(ReadError::Refused { reason: reason.into() }.into()) })
}

impl ConsumerStore for AbsentConsumers {
    fn claim(&self, _: Claim) -> BoxFuture<'_, Result<Claimed, ConsumerError>> {
        refused()
    }

    fn save(
        &self,
        _: Vec<Save>,
    ) -> BoxFuture<'_, Result<Vec<Result<(), ConsumerError>>, ReadError>> {
        refused()
    }

    fn keep(&self, _: Vec<Holding>) -> BoxFuture<'_, Result<Vec<Kept>, ReadError>> {
        refused()
    }

    fn leave(&self, _: ConsumerName, _: MemberId) -> BoxFuture<'_, Result<(), ReadError>> {
        refused()
    }

    fn consumers(
        &self,
        _: Option<ConsumerName>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<ConsumerInfo>, ReadError>> {
        refused()
    }

    fn consumer(&self, _: ConsumerName) -> BoxFuture<'_, Result<ConsumerInfo, ConsumerError>> {
        refused()
    }

    fn delete_consumer(&self, _: ConsumerName) -> BoxFuture<'_, Result<(), ConsumerError>> {
        refused()
    }

    fn parked(
        &self,
        _: ConsumerName,
        _: GlobalPosition,
        _: usize,
    ) -> BoxFuture<'_, Result<ParkedPage, ConsumerError>> {
        refused()
    }

    fn replay(&self, _: ConsumerName, _: Positions) -> BoxFuture<'_, Result<u64, ConsumerError>> {
        refused()
    }

    fn drop_parked(
        &self,
        _: ConsumerName,
        _: Positions,
    ) -> BoxFuture<'_, Result<u64, ConsumerError>> {
        refused()
    }
}
