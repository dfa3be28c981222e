//! Work that is done once for all who want it at the same time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::runtime::Handle;

use super::reads::Unread;

/// What everybody who joined is given.
pub(super) type Flight<T> = Shared<BoxFuture<'static, Result<Arc<T>, Unread>>>;

/// The flights that can be joined, by what they are for.
pub(super) struct Flights<K, T>(Mutex<HashMap<K, Flight<T>>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Send + Sync + 'static,
{
    /// Joins the flight of `key`, or begins one on `runtime`: `work` is given what lets it depart,
    /// and has to take that into its future. Before it has departed, others can join.
    pub(super) fn join<F>(
        self: &Arc<Self>,
        runtime: &Handle,
        key: K,
        work: impl FnOnce(Departure<K, T>) -> F,
    ) -> Flight<T>
    where
        F: Future<Output = Result<T, Unread>> + Send + 'static,
    {
        let mut open = self.open();
        if let Some(flight) = open.get(&key) {
            return flight.clone();
        }
        let departure = Departure { flights: self.clone(), key: Some(key.clone()) };
        // It cannot depart before it is entered below: that takes the lock.
        let task = runtime.spawn(work(departure));
        let flight = async move { task.await.unwrap_or(Err(Unread::died())).map(Arc::new) };
        let flight = flight.boxed().shared();
        open.insert(key, flight.clone());
        flight
    }

    fn open(&self) -> MutexGuard<'_, HashMap<K, Flight<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a flight depart: nobody joins it any more. At the latest when this is dropped.
pub(super) struct Departure<K: Eq + Hash, T> {
    flights: Arc<Flights<K, T>>,
    key: Option<K>,
}

impl<K: Eq + Hash, T> Departure<K, T> {
    pub(super) fn depart(&mut self) {
        if let Some(key) = self.key.take() {
            let open = &self.flights.0;
            open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
    }
}

impl<K: Eq + Hash, T> Drop for Departure<K, T> {
    fn drop(&mut self) {
        self.depart();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn whoever_comes_before_the_departure_shares_and_whoever_comes_later_does_not() {
        let flights = Arc::new(Flights::<&str, u32>::default());
        let (runtime, begun) = (Handle::current(), Arc::new(AtomicU32::new(0)));
        let (gate, gone, land) = <(Arc<Notify>, Arc<Notify>, Arc<Notify>)>::default();
        let join = || {
            let (begun, gate) = (begun.clone(), gate.clone());
            let (gone, land) = (gone.clone(), land.clone());
            flights.join(&runtime, "key", |mut departure| async move {
                let number = begun.fetch_add(1, Relaxed);
                gate.notified().await;
                departure.depart();
                gone.notify_one();
                land.notified().await;
                Ok(number)
            })
        };
        let (first, second) = (join(), join());
        gate.notify_one();
        gone.notified().await;
        let third = join();
        land.notify_one();
        assert_eq!(*first.await.expect("it lands"), 0);
        assert_eq!(*second.await.expect("it lands"), 0);
        gate.notify_one();
        land.notify_one();
        assert_eq!(*third.await.expect("it lands"), 1);
    }

    #[tokio::test]
    async fn work_that_dies_is_told_and_leaves_nothing_behind() {
        let flights = Arc::new(Flights::<u8, u32>::default());
        let runtime = Handle::current();
        let died = flights.join(&runtime, 1, |departure| async move {
            let _departure = departure;
            panic!("on purpose")
        });
        assert!(died.await.is_err());
        let flight = flights.join(&runtime, 1, |departure| async move {
            drop(departure);
            Ok(3)
        });
        assert_eq!(*flight.await.expect("it lands"), 3);
    }
}
