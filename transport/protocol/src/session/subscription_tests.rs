//! Where a subscription begins, a row a case.

use tidewire_eventstore::GlobalPosition;
use uuid::Uuid;

use super::*;
use crate::messages::{Delivery, Target};

const OLD: Uuid = Uuid::from_u128(1);
const MIDDLE: Uuid = Uuid::from_u128(2);
const NOW: Uuid = Uuid::from_u128(3);
const OTHER: Uuid = Uuid::from_u128(4);

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

#[test]
fn a_position_holds_only_before_every_later_epoch() {
    let epochs = [(OLD, 1), (MIDDLE, 100), (NOW, 50)]
        .map(|(epoch, first)| Epoch { epoch, first_position: at(first) });
    let resumed = |after| Begin::At { after: at(after), resumed: true };
    let reset = Begin::Reset(ResetReason::Epoch);
    for (after, epoch, expected) in [
        (After::Position(at(7)), Some(NOW), resumed(7)),
        (After::Position(at(120)), Some(NOW), resumed(120)),
        (After::Position(at(120)), None, resumed(120)),
        (After::Position(at(49)), Some(MIDDLE), resumed(49)),
        (After::Position(at(50)), Some(MIDDLE), reset),
        (After::Position(at(49)), Some(OLD), resumed(49)),
        (After::Position(at(50)), Some(OLD), reset),
        (After::Position(at(99)), Some(OLD), reset),
        (After::Position(at(0)), Some(OTHER), reset),
        (After::Position(at(121)), Some(NOW), Begin::IfReached(at(121))),
        (After::Position(at(121)), None, Begin::IfReached(at(121))),
        (After::Position(at(121)), Some(OLD), reset),
        (After::Start, Some(OTHER), Begin::At { after: at(0), resumed: false }),
        (After::End, Some(OTHER), Begin::At { after: at(120), resumed: false }),
    ] {
        let feed = FeedSpec::of(Target::All);
        let subscribe =
            Subscribe { sub: Sub::new(1), feed, after, epoch, delivery: Delivery::Plain };
        let begun = begin(&subscribe, epoch, &epochs, at(120), at(0));
        assert_eq!(begun, expected, "{after:?} in {epoch:?}");
    }
}
