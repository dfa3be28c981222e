//! Catch-up pages on one worker: encoded once for each group that wants them, kept for a while.
//!
//! A full page reads the same tomorrow. The page at the head does not; it is shared for as long as
//! it still leads a reader to the live end, so that a storm of readers does not read it each.

use std::{
    cell::{OnceCell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use tidewire_eventstore::{GlobalPosition, ReadError};

use crate::{
    catch_up::{CatchUpPage, PAGE_EVENTS},
    group::{GroupKey, Member, encode_page},
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
        let bytes = raw.bytes + frames.iter().map(|entry| entry.frame.len()).sum::<usize>();
        Self { frames, scanned: raw.scanned, full: raw.full, bytes, raw }
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
        let rest = self.raw.events.iter().filter(|event| {
            event.position > position && event.position <= frame.last && key.lets_through(event)
        });
        let mut entries = encode_page(key, rest);
        match entries.len() {
            1 => entries.remove(0).frame,
            _ => entries.iter().flat_map(|entry| &entry.frame[..]).copied().collect(),
        }
    }
}

/// A page that somebody asked for: pending, then there.
pub(crate) struct PageSlot<M> {
    page: OnceCell<Result<Rc<EncodedPage>, ReadError>>,
    waiting: RefCell<Vec<Rc<M>>>,
}

impl<M: Member> PageSlot<M> {
    /// A slot that nobody will fill.
    pub(crate) fn never() -> Self {
        Self { page: OnceCell::new(), waiting: RefCell::default() }
    }

    /// The page, if it is there.
    pub(crate) fn get(&self) -> Option<&Result<Rc<EncodedPage>, ReadError>> {
        self.page.get()
    }

    /// Hands the page to all who wait.
    fn fill(&self, page: Result<Rc<EncodedPage>, ReadError>) {
        if self.page.set(page).is_ok() {
            for member in self.waiting.take() {
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
}

impl<M: Member> PageShelf<M> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { slots: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
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
                    slot.waiting.borrow_mut().push(member.clone());
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
        let slot = Rc::new(PageSlot::never());
        slot.waiting.borrow_mut().push(member.clone());
        self.slots.insert(key, slot.clone());
        (slot, true)
    }

    /// Fills a page's slot. What could not be read is not kept.
    pub(crate) fn arrived(
        &mut self,
        key: ShelfKey,
        slot: &PageSlot<M>,
        page: Result<Rc<EncodedPage>, ReadError>,
    ) {
        match &page {
            Ok(page) => {
                self.bytes += page.bytes + PAGE_OVERHEAD_BYTES;
                self.order.push_back(key);
            }
            Err(_) => {
                self.slots.remove(&key);
            }
        }
        slot.fill(page);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(oldest);
        }
    }

    /// Lets go of every page.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.order.clear();
        self.bytes = 0;
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
    use tidewire_protocol::{Batch, FeedSpec, Filter, Sub, Target};

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
    fn pages_of_which_nothing_matches_are_kept_within_the_budget_too() {
        let filter = Filter::Not(Box::new(Filter::Prefix(
            tidewire_protocol::filter::Field::Type,
            "Happened".into(),
        )));
        let feed = FeedSpec {
            target: Target::All,
            filter: Some(Arc::new(filter)),
            batch: Batch::default(),
        };
        let key = GroupKey { feed, sub: Sub::new(1) };
        let query = Arc::new(Query {
            generation: Generation::default(),
            target: tidewire_eventstore::Target::All,
            types: Vec::new(),
        });
        let mut shelf = PageShelf::<Nobody>::new(1 << 20);
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
            shelf.arrived((1, after), &slot, Ok(Rc::new(EncodedPage::new(&key, raw))));
        }
        let alive = raws.iter().filter(|raw| raw.strong_count() > 0).count();
        assert!(alive <= 1, "{alive} MiB are kept in a shelf of one");
    }
}
