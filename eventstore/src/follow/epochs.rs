//! What a change of the log's epochs says of the positions that a reader has seen. Pure.

use crate::{GlobalPosition, LogEpoch};

/// The first position at which a log with the epochs `now` may hold something else than it held
/// with the epochs `known`; `None` where the epochs are the same. Both are ordered oldest first.
///
/// A log that was restored from a backup may have lost epochs as well as gained one, so the ones
/// that only the other side knows count on either side.
pub(super) fn diverging(known: &[LogEpoch], now: &[LogEpoch]) -> Option<GlobalPosition> {
    let same = known.iter().zip(now).take_while(|(known, now)| known.epoch == now.epoch).count();
    let others = known[same..].iter().chain(&now[same..]);
    others.map(|epoch| epoch.first_position).min()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::Timestamp;

    #[test]
    fn logs_differ_from_the_first_epoch_on_that_they_do_not_share() {
        let epochs = |epochs: &[(u128, u64)]| -> Vec<LogEpoch> {
            let epoch = |(name, first): &(u128, u64)| LogEpoch {
                epoch: Uuid::from_u128(*name),
                first_position: GlobalPosition::new(*first),
                began_at: Timestamp::default(),
            };
            epochs.iter().map(epoch).collect()
        };
        for (known, now, expected) in [
            (&[(1, 1)][..], &[(1, 1)][..], None),
            (&[(1, 1)], &[(1, 1), (2, 50)], Some(50)),
            // Two began, the later one earlier in the log.
            (&[(1, 1)], &[(1, 1), (2, 50), (3, 40)], Some(40)),
            // The backup was from before the epoch that was known last.
            (&[(1, 1), (2, 50)], &[(1, 1)], Some(50)),
            (&[(1, 1), (2, 50)], &[(1, 1), (3, 30)], Some(30)),
            (&[(1, 1), (2, 50)], &[(1, 1), (3, 60)], Some(50)),
            // Another log altogether.
            (&[(1, 1)], &[(9, 1)], Some(1)),
        ] {
            let got = diverging(&epochs(known), &epochs(now));
            assert_eq!(got.map(GlobalPosition::get), expected, "{known:?}, now {now:?}");
        }
    }
}
