//! Catch-up pages on one worker: encoded once for each group that wants them, kept for a while.
//!
//! A full page reads the same tomorrow. The page at the head does not; it is shared for as long as
//! it still leads a reader to the live end, so that a storm of readers does not read it each.

use std::{
    cell::{OnceCell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use tidewire_eventstore::{GlobalPosition, ReadError};
use tokio::task::AbortHandle;

use crate::{
    catch_up::{CatchUpPage, PAGE_EVENTS},
    group::{GroupKey, Member, encode_page},
    metrics::WorkerMetrics,
    short_log::Entry,
};

/// A page's frames.
pub(crate) struct EncodedPage {
    /// In order of position.
    pub(crate) frames: Vec<Entry>,
    /// Everything through this position was looked at.
    pub(crate) scanned: GlobalPosition,
    full: bool,
    bytes: usize,
    raw: Arc<CatchUpPage>,
}

impl EncodedPage {
    /// Encodes `raw` for the group of `key`.
    pub(crate) fn new(key: &GroupKey, raw: Arc<CatchUpPage>) -> Self {
        let frames = encode_page(key, raw.events.iter().filter(|event| key.lets_through(event)));
        // A page keeps what it was made of alive, too.
        let bytes = raw.bytes + frames.iter().map(Entry::bytes).sum::<usize>();
        Self { frames, scanned: raw.scanned, full: raw.full, bytes, raw }
    }

    /// What was kept had been thrown away so often before this page was read.
    pub(crate) fn purges(&self) -> u64 {
        self.raw.purges
    }

    /// Whether the page ends short of where the next aligned page begins.
    pub(crate) fn is_cut(&self) -> bool {
        self.full && !self.scanned.get().is_multiple_of(PAGE_EVENTS)
    }

    /// The first frame with anything after `position`, by index.
    pub(crate) fn seek(&self, position: GlobalPosition) -> usize {
        self.frames.partition_point(|entry| entry.last <= position)
    }

    /// What a reader that was served through `position` may be given of `frame`: the frame itself,
    /// or, where the reader has its beginning already, the rest in frames for that reader alone.
    pub(crate) fn seam(&self, key: &GroupKey, frame: &Entry, position: GlobalPosition) -> Bytes {
        if frame.first > position {
            return frame.frame.clone();
        }
        self.part(key, position, frame.last)
    }

    /// What is for the group of `key` after one position through another, in frames of its own.
    pub(crate) fn part(
        &self,
        key: &GroupKey,
        after: GlobalPosition,
        through: GlobalPosition,
    ) -> Bytes {
        let part = self.raw.events.iter().filter(|event| {
            event.position > after && event.position <= through && key.lets_through(event)
        });
        let mut entries = encode_page(key, part);
        match entries.len() {
            1 => entries.remove(0).frame,
            _ => entries.iter().flat_map(|entry| &entry.frame[..]).copied().collect(),
        }
    }
}

/// A page that somebody asked for: pending, then there.
pub(crate) struct PageSlot<M> {
    key: ShelfKey,
    page: OnceCell<Result<Rc<EncodedPage>, ReadError>>,
    /// Who waits for it, each once, by address.
    waiting: RefCell<HashMap<*const M, Rc<M>>>,
    /// The task that sees to it.
    task: OnceCell<AbortHandle>,
}

impl<M: Member> PageSlot<M> {
    fn new(key: ShelfKey) -> Self {
        let (page, task) = (OnceCell::new(), OnceCell::new());
        Self { key, page, waiting: RefCell::default(), task }
    }

    /// Names the task that sees to the page.
    pub(crate) fn filled_by(&self, task: AbortHandle) {
        // A slot has one task, from whoever asked first.
        let _ = self.task.set(task);
    }

    fn wait(&self, member: &Rc<M>) {
        self.waiting.borrow_mut().insert(Rc::as_ptr(member), member.clone());
    }

    /// The page, if it is there.
    pub(crate) fn get(&self) -> Option<&Result<Rc<EncodedPage>, ReadError>> {
        self.page.get()
    }

    /// Hands the page to all who wait.
    fn fill(&self, page: Result<Rc<EncodedPage>, ReadError>) {
        if self.page.set(page).is_ok() {
            for member in self.waiting.take().into_values() {
                member.wake();
            }
        }
    }
}

/// What a page costs besides its frames, so that empty pages do not pile up, either.
const PAGE_OVERHEAD_BYTES: usize = 512;

/// Names a page of a group: the group's serial number and where the page begins.
type ShelfKey = (u64, GlobalPosition);

/// The pages of one worker, the newest within a budget of bytes.
pub(crate) struct PageShelf<M> {
    slots: HashMap<ShelfKey, Rc<PageSlot<M>>>,
    order: VecDeque<ShelfKey>,
    bytes: usize,
    bytes_max: usize,
    metrics: Arc<WorkerMetrics>,
}

impl<M: Member> PageShelf<M> {
    pub(crate) fn new(bytes_max: usize, metrics: Arc<WorkerMetrics>) -> Self {
        Self { slots: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max, metrics }
    }

    /// The slot of a page, and whether the caller is the first to ask and has to see to it. A page
    /// that was not full is given only if it `leads_on`, from where it was scanned through.
    pub(crate) fn ask(
        &mut self,
        key: ShelfKey,
        member: &Rc<M>,
        leads_on: impl FnOnce(GlobalPosition) -> bool,
    ) -> (Rc<PageSlot<M>>, bool) {
        if let Some(slot) = self.slots.get(&key) {
            let of_use = match slot.get() {
                None => {
                    slot.wait(member);
                    true
                }
                Some(Ok(page)) => page.full || leads_on(page.scanned),
                Some(Err(_)) => false,
            };
            if of_use {
                return (slot.clone(), false);
            }
            self.order.retain(|other| *other != key);
            self.forget(key);
        }
        let slot = Rc::new(PageSlot::new(key));
        slot.wait(member);
        self.slots.insert(key, slot.clone());
        (slot, true)
    }

    /// `member` waits no more. A page that nobody waits for any more is given up, unless it is
    /// there already.
    pub(crate) fn leave(&mut self, slot: &Rc<PageSlot<M>>, member: &Rc<M>) {
        let mut waiting = slot.waiting.borrow_mut();
        waiting.remove(&Rc::as_ptr(member));
        if !waiting.is_empty() || slot.get().is_some() {
            return;
        }
        if let Some(task) = slot.task.get() {
            task.abort();
        }
        if self.has(slot) {
            self.slots.remove(&slot.key);
        }
    }

    /// Whether a page that is asked for is to be found in this slot.
    fn has(&self, slot: &PageSlot<M>) -> bool {
        self.slots.get(&slot.key).is_some_and(|kept| std::ptr::eq(&**kept, slot))
    }

    /// Fills a page's slot. What could not be read is not kept.
    pub(crate) fn arrived(&mut self, slot: &PageSlot<M>, page: Result<Rc<EncodedPage>, ReadError>) {
        match &page {
            // It may have been given up, and asked for anew.
            _ if !self.has(slot) => {}
            Ok(page) => {
                self.bytes += page.bytes + PAGE_OVERHEAD_BYTES;
                self.order.push_back(slot.key);
            }
            Err(_) => {
                self.slots.remove(&slot.key);
            }
        }
        slot.fill(page);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(oldest);
        }
        self.metrics.encoded_page_bytes.store(self.bytes as i64, Relaxed);
    }

    /// Lets go of every page. Those that are being read are still handed to whoever waits for them.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.order.clear();
        self.bytes = 0;
        self.metrics.encoded_page_bytes.store(0, Relaxed);
    }

    fn forget(&mut self, key: ShelfKey) {
        if let Some(slot) = self.slots.remove(&key)
            && let Some(Ok(page)) = slot.get()
        {
            self.bytes -= page.bytes + PAGE_OVERHEAD_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use tidewire_eventstore::{
        EventId, EventType, Page, Payload, RecordedEvent, Revision, StreamName, Timestamp,
    };
    use tidewire_protocol::{FeedSpec, Filter, Sub, Target};

    use super::*;
    use crate::{
        catch_up::{PageKey, Query},
        log_view::Generation,
    };

    struct Nobody;

    impl Member for Nobody {
        fn wake(&self) {}
    }

    #[test]
    fn who_waits_is_kept_once_and_a_page_that_nobody_waits_for_is_given_up() {
        let mut shelf = PageShelf::<Nobody>::new(1 << 20, Arc::default());
        let key = (1, GlobalPosition::START);
        let (one, two) = (Rc::new(Nobody), Rc::new(Nobody));
        let (slot, first) = shelf.ask(key, &one, |_| true);
        assert!(first);
        for _ in 0..1_000 {
            assert!(!shelf.ask(key, &one, |_| true).1, "it is under way");
        }
        assert!(!shelf.ask(key, &two, |_| true).1, "it is under way");
        assert_eq!(slot.waiting.borrow().len(), 2);

        shelf.leave(&slot, &one);
        assert!(shelf.has(&slot), "somebody waits for it");
        shelf.leave(&slot, &two);
        assert!(!shelf.has(&slot), "nobody waits for it");
        assert_eq!(Rc::strong_count(&one), 1);
        let (again, first) = shelf.ask(key, &one, |_| true);
        assert!(first, "it has to be asked for anew");
        // An answer that comes after all is not taken for the one that is waited for.
        shelf.arrived(&slot, Err(ReadError::Unavailable));
        assert!(shelf.has(&again) && again.get().is_none());
    }

    #[test]
    fn pages_of_which_nothing_matches_are_kept_within_the_budget_too() {
        let filter = Filter::Not(Box::new(Filter::Prefix(
            tidewire_protocol::filter::Field::Type,
            "Happened".into(),
        )));
        let feed = FeedSpec { filter: Some(Arc::new(filter)), ..FeedSpec::of(Target::All) };
        let key = GroupKey { feed, sub: Sub::new(1) };
        let query = Arc::new(Query {
            generation: Generation::default(),
            purges: 0,
            target: tidewire_eventstore::Target::All,
            types: Vec::new(),
        });
        let mut shelf = PageShelf::<Nobody>::new(1 << 20, Arc::default());
        let mut raws: Vec<Weak<CatchUpPage>> = Vec::new();
        for index in 0..64 {
            let after = GlobalPosition::new(index * PAGE_EVENTS);
            let event = RecordedEvent {
                position: GlobalPosition::new((index + 1) * PAGE_EVENTS),
                stream: StreamName::new("big-1").expect("a good name"),
                revision: Revision::new(index),
                event_type: EventType::new("Happened").expect("a good name"),
                id: EventId::generate(),
                recorded_at: Timestamp::from_micros(0),
                payload: Payload::Json(Bytes::from(vec![b' '; 1 << 20])),
                meta: None,
            };
            let page = Page { events: vec![event], head: GlobalPosition::new(1 << 30), more: true };
            let page_key = PageKey::exactly(query.clone(), after);
            let raw = Arc::new(CatchUpPage::new(&page_key, page));
            raws.push(Arc::downgrade(&raw));
            let (slot, first) = shelf.ask((1, after), &Rc::new(Nobody), |_| true);
            assert!(first);
            shelf.arrived(&slot, Ok(Rc::new(EncodedPage::new(&key, raw))));
        }
        let alive = raws.iter().filter(|raw| raw.strong_count() > 0).count();
        assert!(alive <= 1, "{alive} MiB are kept in a shelf of one");
    }
}
