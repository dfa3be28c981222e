//! Groups share frames, within a budget, and a missed batch is noticed.

use std::cell::Cell;

use tidewire_eventstore::{EventId, Payload, Revision, StreamName, Timestamp};
use tidewire_protocol::{Filter, Target};

use super::*;

#[derive(Default)]
struct Woken(Cell<usize>);

impl Member for Woken {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

fn event(position: u64, stream: &str) -> RecordedEvent {
    RecordedEvent {
        position: at(position),
        stream: StreamName::new(stream).expect("a good name"),
        revision: Revision::new(position),
        event_type: EventType::new("Happened").expect("a good name"),
        id: EventId::generate(),
        recorded_at: Timestamp::now(),
        payload: Payload::Json(Bytes::from_static(b"{}")),
        meta: None,
    }
}

fn key(target: Target, sub: u32) -> GroupKey {
    let feed = FeedSpec::of(target);
    GroupKey { feed, sub: Sub::new(sub) }
}

fn hub(log_bytes_max: usize) -> (Hub<Woken>, Arc<WorkerMetrics>) {
    let metrics = Arc::<WorkerMetrics>::default();
    (Hub::new(Generation::default(), at(0), log_bytes_max, metrics.clone()), metrics)
}

/// Positions of the entries that a reader gets from `position` on, or `None` where it has fallen.
fn follow(hub: &mut Hub<Woken>, seat: Seat, position: u64) -> Option<Vec<(u64, u64)>> {
    let mut cursor = hub.attach(seat, at(position))?;
    let mut position = at(position);
    let mut entries = Vec::new();
    loop {
        match hub.next(seat, &mut cursor, position) {
            Next::Entry(entry) => {
                entries.push((entry.first.get(), entry.last.get()));
                position = entry.last;
                ShortLog::advance(&mut cursor);
            }
            Next::Empty => return Some(entries),
            Next::Fallen => return None,
        }
    }
}

#[test]
fn alike_subscriptions_share_a_group_and_its_frames() {
    let (mut hub, metrics) = hub(1 << 20);
    let members: Vec<_> = (0..3).map(|_| Rc::new(Woken::default())).collect();
    let seats: Vec<_> =
        members.iter().map(|member| hub.join(key(Target::All, 7), member.clone())).collect();
    let other = Rc::new(Woken::default());
    let elsewhere = hub.join(key(Target::All, 8), other.clone());
    assert_eq!(metrics.groups.load(Relaxed), 2);

    hub.dispatch(&[event(1, "order-1"), event(2, "mail-1")], None);
    let frame = |hub: &mut Hub<Woken>, seat| {
        let mut cursor = hub.attach(seat, at(0)).expect("nothing was forgotten");
        match hub.next(seat, &mut cursor, at(0)) {
            Next::Entry(entry) => entry.frame.clone(),
            _ => panic!("no frame"),
        }
    };
    let frames: Vec<_> = seats.iter().map(|seat| frame(&mut hub, *seat)).collect();
    assert!(frames.iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()));
    assert!(members.iter().chain([&other]).all(|member| member.0.get() == 1));

    for seat in seats.into_iter().chain([elsewhere]) {
        hub.leave(seat);
    }
    assert_eq!(metrics.groups.load(Relaxed), 0);
    assert_eq!(metrics.subscriptions.load(Relaxed), 0);
    assert_eq!(metrics.shared_log_bytes.load(Relaxed), 0);
}

#[test]
fn only_who_wants_an_event_is_woken_for_it() {
    let (mut hub, _) = hub(1 << 20);
    let order = Rc::new(Woken::default());
    let mail = Rc::new(Woken::default());
    let stream = Target::Stream(StreamName::new("order-1").expect("a good name"));
    hub.join(key(stream, 1), order.clone());
    let mut rare = key(Target::All, 1);
    rare.feed.filter = Some(Arc::new(Filter::types(&[EventType::new("Rare").expect("a name")])));
    hub.join(rare, mail.clone());
    hub.dispatch(&[event(1, "order-2"), event(2, "order-1")], None);
    assert_eq!((order.0.get(), mail.0.get()), (1, 0));
}

#[test]
fn the_budget_is_kept_by_forgetting_the_oldest_of_all_groups() {
    let (mut hub, metrics) = hub(2_000);
    let member = Rc::new(Woken::default());
    let first = hub.join(key(Target::All, 1), member.clone());
    let second = hub.join(key(Target::All, 2), member);
    for position in 1..=100 {
        hub.dispatch(&[event(position, "order-1")], None);
        assert!(metrics.shared_log_bytes.load(Relaxed) <= 2_000, "at {position}");
    }
    for seat in [first, second] {
        assert_eq!(follow(&mut hub, seat, 50), None, "forgotten");
        assert_eq!(follow(&mut hub, seat, 99), Some(vec![(100, 100)]));
    }
}

#[test]
fn what_a_worker_has_seen_is_trimmed_and_what_it_missed_makes_readers_fall() {
    let (mut hub, metrics) = hub(1 << 20);
    let member = Rc::new(Woken::default());
    let seat = hub.join(key(Target::All, 1), member);
    hub.dispatch(&[event(1, "a-1"), event(2, "a-1")], None);
    hub.dispatch(&[event(2, "a-1"), event(3, "a-1")], None);
    assert_eq!(follow(&mut hub, seat, 0), Some(vec![(1, 2), (3, 3)]));
    hub.dispatch(&[event(1, "a-1")], None);
    assert_eq!(hub.last(), at(3));

    hub.dispatch(&[event(6, "a-1")], None);
    assert_eq!(metrics.log_restarts.load(Relaxed), 1);
    assert_eq!(follow(&mut hub, seat, 3), None);
    assert_eq!(follow(&mut hub, seat, 5), Some(vec![(6, 6)]));
    hub.skip_to(at(9));
    assert_eq!(follow(&mut hub, seat, 6), None);
    assert_eq!(follow(&mut hub, seat, 9), Some(vec![]));
}

#[test]
fn frames_end_at_their_limits() {
    let (mut hub, _) = hub(64 << 20);
    let member = Rc::new(Woken::default());
    let seat = hub.join(key(Target::All, 1), member);
    let many: Vec<_> = (1..=600).map(|position| event(position, "a-1")).collect();
    hub.dispatch(&many, None);
    let mut large = event(601, "a-1");
    large.payload = Payload::Json(Bytes::from(vec![b'1'; FRAME_BYTES + 1]));
    let mut larger = large.clone();
    larger.position = at(602);
    hub.dispatch(&[large, larger], None);
    let ends = [(1, 256), (257, 512), (513, 600), (601, 601), (602, 602)];
    assert_eq!(follow(&mut hub, seat, 0), Some(ends.to_vec()));
}

#[test]
fn mentions_of_ended_groups_do_not_pile_up() {
    let (mut hub, _) = hub(1 << 20);
    let member = Rc::new(Woken::default());
    // A group whose entry stays the oldest keeps the others from being dropped off the front.
    hub.join(key(Target::All, 0), member.clone());
    for position in 1..=20_000 {
        let seat = hub.join(key(Target::All, 1), member.clone());
        hub.dispatch(&[event(position, "a-1")], None);
        hub.leave(seat);
    }
    let living = hub.log_bytes / 100;
    assert!(hub.ages.len() <= 2 * AGES_TIDY_AT.max(2 * living), "{}", hub.ages.len());
}

#[test]
fn a_group_has_one_wait_under_way_however_often_its_frames_fill() {
    let (mut hub, _) = hub(1 << 20);
    let mut key = key(Target::All, 1);
    key.feed.batch.max_events = std::num::NonZeroU32::new(1);
    key.feed.batch.max_delay_ms = Some(10_000);
    hub.join(key, Rc::new(Woken::default()));
    let waits: usize =
        (1..=1_000).map(|position| hub.dispatch(&[event(position, "order-1")], None).len()).sum();
    assert!(waits <= 1, "{waits} timers for one group");
}

#[test]
fn what_is_held_back_is_counted_and_kept_within_the_budget_when_a_reader_takes_it() {
    let (mut hub, metrics) = hub(2_000);
    let mut key = key(Target::All, 1);
    key.feed.batch.max_delay_ms = Some(10_000);
    let seat = hub.join(key.clone(), Rc::new(Woken::default()));
    let events: Vec<_> = (1..=100).map(|position| event(position, "order-1")).collect();
    hub.dispatch(&events, None);
    assert_eq!(metrics.held_events.load(Relaxed), 100);
    // One that comes has what is held back sent at once: as one frame, larger than the budget.
    hub.attach(seat, at(0));
    assert_eq!(metrics.held_events.load(Relaxed), 0);
    assert!(metrics.encoded_bytes.load(Relaxed) > 2_000);
    assert!(metrics.shared_log_bytes.load(Relaxed) <= 2_000);

    hub.dispatch(&[event(101, "order-1")], None);
    assert_eq!(metrics.held_events.load(Relaxed), 1);
    hub.skip_to(at(200));
    assert_eq!(metrics.held_events.load(Relaxed), 0);
    hub.dispatch(&[event(201, "order-1")], None);
    hub.leave(seat);
    assert_eq!(metrics.held_events.load(Relaxed), 0);
}

/// A key of members that want counts.
fn counting(summary: Summary) -> GroupKey {
    let mut key = key(Target::All, 1);
    key.feed.batch.summary = Some(summary);
    key
}

#[test]
fn counts_go_out_when_their_time_is_over_or_their_number_is_full() {
    let (mut hub, _) = hub(1 << 20);
    let members = [Rc::new(Woken::default()), Rc::new(Woken::default())];
    let timed = hub.join(counting(Summary::Millis(500)), members[0].clone());
    let numbered = hub.join(counting(Summary::Events(4)), members[1].clone());
    let mut held = Vec::new();
    for position in 1..=10 {
        held.extend(hub.dispatch(&[event(position, "order-1")], None));
    }
    let [held] = held[..] else { panic!("one wait for one window: {held:?}") };
    assert_eq!(held.delay, Duration::from_millis(500));
    assert_eq!(members.each_ref().map(|member| member.0.get()), [0, 2]);
    // Nobody is told of a position before what stands before it was counted and told.
    assert_eq!((hub.scanned(timed), hub.scanned(numbered)), (at(0), at(8)));
    hub.flush(held);
    assert_eq!((members[0].0.get(), hub.scanned(timed)), (1, at(10)));
    assert_eq!(follow(&mut hub, timed, 0), Some(vec![(1, 10)]));
    assert_eq!(follow(&mut hub, numbered, 0), Some(vec![(1, 4), (5, 8)]));
    let [_] = hub.dispatch(&[event(11, "order-1")], None)[..] else { panic!("a new window") };
}

#[test]
fn whoever_joins_cuts_a_window_where_they_begin_and_nowhere_else() {
    let (mut hub, _) = hub(1 << 20);
    let seat = hub.join(counting(Summary::Millis(500)), Rc::new(Woken::default()));
    let events: Vec<_> = (5..=14).map(|position| event(position, "order-1")).collect();
    hub.skip_to(at(4));
    hub.dispatch(&events, None);
    assert_eq!(follow(&mut hub, seat, 4), Some(vec![]), "one before it is told of all of it later");
    assert_eq!(follow(&mut hub, seat, 8), Some(vec![]));
    assert_eq!(follow(&mut hub, seat, 4), Some(vec![(5, 8)]));
    assert_eq!(hub.scanned(seat), at(8));
    assert_eq!(follow(&mut hub, seat, 14), Some(vec![]));
    assert_eq!(follow(&mut hub, seat, 4), Some(vec![(5, 8), (9, 14)]));
}

#[test]
fn counts_are_lost_with_their_log_and_with_what_was_erased() {
    let (mut hub, _) = hub(1 << 20);
    let member = Rc::new(Woken::default());
    let seat = hub.join(counting(Summary::Events(100)), member.clone());
    hub.dispatch(&[event(1, "order-1"), event(2, "order-1")], None);
    assert!(hub.purge(Purge { count: 1, through: at(1) }));
    assert_eq!((member.0.get(), follow(&mut hub, seat, 0)), (1, None), "it reads the store");
    assert_eq!(follow(&mut hub, seat, 2), Some(vec![]));
    hub.dispatch(&[event(3, "order-1")], None);
    hub.skip_to(at(9));
    assert_eq!(follow(&mut hub, seat, 2), None);
    assert_eq!((follow(&mut hub, seat, 9), hub.scanned(seat)), (Some(vec![]), at(9)));
}

/// Readers come and go at any time; each is told by pages of the store and then by the group.
/// Whatever they are told adds up to the log, and none is kept from the live end by the stream of
/// events that come while its page is read.
#[test]
fn counts_add_up_however_a_reader_comes_by_them() {
    // Knuth's MMIX constants.
    let mut state = 3_u64;
    let mut roll = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for summary in [Summary::Millis(100), Summary::Events(1), Summary::Events(7)] {
        let (mut hub, _) = hub(3_000);
        let key = counting(summary);
        hub.join(key.clone(), Rc::new(Woken::default()));
        let mut log: Vec<RecordedEvent> = Vec::new();
        for round in 0..120 {
            let commit = |hub: &mut Hub<Woken>, log: &mut Vec<RecordedEvent>, events| {
                let first = log.len();
                log.extend((0..events).map(|at| event((first + at) as u64 + 1, "order-1")));
                hub.dispatch(&log[first..], None);
            };
            commit(&mut hub, &mut log, roll(5) as usize);
            let seat = hub.join(key.clone(), Rc::new(Woken::default()));
            let from = roll(log.len() as u64 + 1);
            let (mut counted, mut position, mut pages) = (0, at(from), 0);
            let mut cursor = loop {
                if let Some(cursor) = hub.attach(seat, position) {
                    break cursor;
                }
                pages += 1;
                assert!(pages < 3, "round {round}: never live");
                // The page is read; more is committed before the reader has it.
                let torn = hub.torn_at(seat, position);
                let head = torn.map_or(log.len(), |until| until.get() as usize);
                let page = log[position.get() as usize..head].iter();
                for entry in encode_page(&key, page) {
                    assert!(entry.first > position);
                    (counted, position) = (counted + entry.events as usize, entry.last);
                }
                position = at(head as u64);
                commit(&mut hub, &mut log, 1 + roll(5) as usize);
            };
            commit(&mut hub, &mut log, roll(9) as usize);
            while let Next::Entry(entry) = hub.next(seat, &mut cursor, position) {
                assert!(entry.first > position);
                (counted, position) = (counted + entry.events as usize, entry.last);
                ShortLog::advance(&mut cursor);
            }
            assert!(matches!(hub.next(seat, &mut cursor, position), Next::Empty | Next::Fallen));
            assert_eq!(counted as u64, position.get().max(from) - from, "round {round}");
            if let Next::Empty = hub.next(seat, &mut cursor, position) {
                let left = log.len() as u64 - hub.scanned(seat).get();
                assert_eq!(position.get().max(hub.scanned(seat).get()) + left, log.len() as u64);
            }
            hub.leave(seat);
        }
    }
}
