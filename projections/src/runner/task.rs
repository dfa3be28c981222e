//! [`Task`]: a task that ends with whoever wants its result.

use std::future::Future;

use tokio::task::{JoinError, JoinHandle};

/// A task on the runtime of whoever spawned it. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub(super) fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// What it came to; fails only where it panicked. May be dropped and asked again.
    pub(super) async fn join(&mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
