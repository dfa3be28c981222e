//! What a worker without room learns once it has some.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use actix::Arbiter;
use tidewire_eventstore::{
    EventId, EventType, GlobalPosition, LogEpoch, MemoryStore, Payload, RecordedEvent, Revision,
    StreamName, Timestamp,
};
use uuid::Uuid;

use super::*;
use crate::{Tidewire, log_view::Generation, node::Node, worker::Worker};

const DEADLINE: Duration = Duration::from_secs(20);

fn batch(position: u64) -> TailNews {
    let event = RecordedEvent {
        position: GlobalPosition::new(position),
        stream: StreamName::new("order-1").expect("a good name"),
        revision: Revision::new(position),
        event_type: EventType::new("Happened").expect("a good name"),
        id: EventId::generate(),
        recorded_at: Timestamp::now(),
        payload: Payload::Json("{}".into()),
        meta: None,
    };
    TailNews::Batch(TailBatch { events: [event].into(), committed_at: None })
}

fn epochs(after: u64) -> TailNews {
    let epoch = LogEpoch {
        epoch: Uuid::new_v4(),
        first_position: GlobalPosition::new(after + 1),
        began_at: Timestamp::now(),
    };
    TailNews::Epochs(TailEpochs { epochs: [epoch].into(), after: GlobalPosition::new(after) })
}

/// A worker on a thread of its own, which can be kept busy.
struct Busy {
    arbiter: Arbiter,
    dispatcher: Addr<Dispatcher>,
    node: Arc<Node>,
}

impl Busy {
    fn start(node: Arc<Node>) -> Self {
        let arbiter = Arbiter::new();
        let (started, dispatcher) = mpsc::channel();
        let on_arbiter = node.clone();
        arbiter.spawn_fn(move || {
            let dispatcher = Dispatcher::new(Worker::current(&on_arbiter)).start();
            started.send(dispatcher).expect("the test waits");
        });
        let dispatcher = dispatcher.recv_timeout(DEADLINE).expect("a dispatcher");
        Self { arbiter, dispatcher, node }
    }

    /// Does nothing until what is returned is dropped.
    fn keep_busy(&self) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel();
        let (began, begun) = mpsc::channel();
        self.arbiter.spawn_fn(move || {
            began.send(()).expect("the test waits");
            let _ = released.recv();
        });
        begun.recv_timeout(DEADLINE).expect("the worker is free at first");
        release
    }

    fn view(&self) -> (Generation, GlobalPosition) {
        let (answer, view) = mpsc::channel();
        let node = self.node.clone();
        self.arbiter.spawn_fn(move || {
            let worker = Worker::current(&node);
            let hub = worker.hub.borrow();
            let _ = answer.send((hub.generation(), hub.last()));
        });
        view.recv_timeout(DEADLINE).expect("a worker that answers")
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A broadcaster that is told of the log by the test.
fn fed(node: &Node) -> (Addr<Broadcaster>, tokio::sync::mpsc::Sender<TailNews>, Arc<SharedView>) {
    let log = node.log.get();
    let shared = Arc::new(SharedView::new(&log));
    let (news, receiver) = tokio::sync::mpsc::channel(1000);
    let broadcaster = Broadcaster::create(|ctx| {
        ctx.add_stream(futures_util::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        }));
        Broadcaster::new(log, shared.clone(), node.metrics.clone())
    });
    (broadcaster, news, shared)
}

#[actix::test]
async fn a_rewind_reaches_a_worker_whose_mailbox_was_full() {
    let tidewire = Tidewire::builder(Arc::new(MemoryStore::new())).start().await;
    let node = tidewire.expect("a log that can be read").node.clone().into_inner();
    let worker = Busy::start(node.clone());

    let (broadcaster, news, shared) = fed(&node);
    broadcaster.send(Join(worker.dispatcher.clone())).await.expect("it is alive");
    news.send(batch(1)).await.expect("it is alive");
    eventually("it is told", || worker.view().1 == GlobalPosition::new(1)).await;

    let release = worker.keep_busy();
    // Others fill the mailbox, but for the one message that each sender may always send.
    while worker.dispatcher.try_send(Told(shared.get())).is_ok() {}
    news.send(batch(2)).await.expect("it is alive");
    news.send(epochs(40)).await.expect("it is alive");
    eventually("the epoch was taken", || shared.get().generation > Generation::default()).await;
    drop(release);
    let life = shared.get().generation;
    let begun = (life, GlobalPosition::new(40));
    eventually("the worker begins anew", || worker.view() == begun).await;
    // And goes on with what comes next.
    news.send(batch(41)).await.expect("it is alive");
    let next = (life, GlobalPosition::new(41));
    eventually("the worker goes on", || worker.view() == next).await;
}

#[actix::test]
async fn a_worker_without_room_is_tried_at_one_pace_however_often_workers_join() {
    let tidewire = Tidewire::builder(Arc::new(MemoryStore::new())).start().await;
    let node = tidewire.expect("a log that can be read").node.clone().into_inner();
    let worker = Busy::start(node.clone());
    let (broadcaster, news, _) = fed(&node);
    broadcaster.send(Join(worker.dispatcher.clone())).await.expect("it is alive");
    let release = worker.keep_busy();
    let began = Instant::now();
    for position in 1..=600 {
        news.send(batch(position)).await.expect("it is alive");
    }
    let refused = || node.metrics.broadcasts_refused.load(Ordering::Relaxed);
    eventually("the mailbox is full", || refused() == 1).await;
    for _ in 0..100 {
        broadcaster.send(Join(worker.dispatcher.clone())).await.expect("it is alive");
    }
    let retries = || node.metrics.broadcast_retries.load(Ordering::Relaxed);
    eventually("it is tried", || retries() >= 20).await;
    let tried = retries();
    let most = began.elapsed().as_micros() / RETRY.as_micros() + 1;
    assert!(u128::from(tried) <= most, "{tried} times where {most} are enough");
    drop(release);
}

#[actix::test]
async fn a_tail_that_ends_is_noticed() {
    let tidewire = Tidewire::builder(Arc::new(MemoryStore::new())).start().await;
    let node = tidewire.expect("a log that can be read").node.clone().into_inner();
    let log = node.log.get();
    let shared = Arc::new(SharedView::new(&log));
    let broadcaster = Broadcaster::create(|ctx| {
        ctx.add_stream(futures_util::stream::iter([batch(1)]));
        Broadcaster::new(log, shared.clone(), node.metrics.clone())
    });
    eventually("it ends", || !broadcaster.connected()).await;
    assert_eq!(shared.head(), GlobalPosition::new(1));
    assert!(!shared.is_following());
}
