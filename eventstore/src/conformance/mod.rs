//! What every store has to do, as one suite of tests: run it with [`conformance_tests!`].
//!
//! ```ignore
//! async fn fixture(limits: Limits) -> Fixture {
//!     Fixture::new(Arc::new(MemoryStore::with_limits(limits)), ())
//! }
//!
//! tidewire_eventstore::conformance_tests!(fixture);
//! ```
//!
//! Each case gets a store of its own on an empty log, with the limits that it is told: mostly the
//! default [`Limits`].
//!
//! [`conformance_tests!`]: crate::conformance_tests

pub mod append;
pub mod commands;
mod consumer;
pub mod follow;
pub mod idempotency;
pub mod limits;
pub mod ordering;
pub mod read;
pub mod retention;

use std::{any::Any, future::Future, sync::Arc, time::Duration};

pub use self::consumer::{
    claims as consumer_claims, leases as consumer_leases, limits as consumer_limits,
    listing as consumer_listing, parked as consumer_parked, progress as consumer_progress,
    shares as consumer_shares,
};
use crate::{
    Append, AppendError, Appended, EventId, EventStore, EventType, ExpectedRevision,
    GlobalPosition, Limits, NewEvent, Page, Read, RecordedEvent, StreamName, Target,
};

/// Time enough for any case on a slow machine; one that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// The store that a case runs on.
pub struct Fixture {
    store: Arc<dyn EventStore>,
    /// Whatever has to outlive the store: a temporary folder, a database.
    guard: Box<dyn Any + Send>,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixture").finish_non_exhaustive()
    }
}

impl Fixture {
    /// A store on an empty log. `guard` is dropped after the store was closed.
    pub fn new(store: Arc<dyn EventStore>, guard: impl Any + Send) -> Self {
        Self { store, guard: Box::new(guard) }
    }
}

/// Runs one case.
///
/// # Panics
///
/// When the store does not do what the case demands, or hangs.
pub async fn run<F>(fixture: Fixture, case: impl FnOnce(Arc<dyn EventStore>) -> F)
where
    F: Future<Output = ()>,
{
    let Fixture { store, guard } = fixture;
    let whole = async {
        case(Arc::clone(&store)).await;
        store.close().await;
    };
    tokio::time::timeout(DEADLINE, whole).await.expect("the case ends within its deadline");
    drop(guard);
}

/// The limits for the cases of one module of the suite.
pub fn limits_for(module: &str) -> Limits {
    let limits = Limits::default();
    match module {
        "consumer_leases" => Limits { consumer_lease: consumer::leases::LEASE, ..limits },
        "consumer_limits" => Limits {
            consumers_max: consumer::limits::CONSUMERS_MAX,
            consumer_members_max: consumer::limits::MEMBERS_MAX,
            consumer_parked_max: consumer::limits::PARKED_MAX,
            ..limits
        },
        _ => limits,
    }
}

/// Makes one test of each case of the suite, on the stores that the given async function opens.
///
/// The calling crate needs tokio with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:ident) => {
        $crate::conformance_tests! {
            @modules $fixture;
            append {
                positions_and_revisions_rise_by_one,
                each_expectation_is_met_or_refused,
                a_conflict_tells_what_was_expected_and_what_is,
                a_refused_append_leaves_nothing_behind,
                one_append_never_fails_another,
                the_answer_comes_after_the_event_is_readable,
                recorded_at_is_about_now,
                the_stats_count_what_was_done,
                a_closed_store_takes_no_appends,
                closing_finishes_what_is_queued,
            }
            idempotency {
                a_repeated_append_gets_its_first_answer,
                ids_used_in_another_way_are_refused,
                an_append_that_was_refused_may_be_sent_again,
                repeats_at_the_same_time_share_one_result,
                server_made_ids_are_unique,
            }
            commands {
                a_repeated_command_gets_its_first_result,
                commands_are_told_apart_by_name_and_key,
                a_key_used_again_with_other_data_is_refused,
                a_refused_command_leaves_nothing_behind,
                one_command_never_fails_another,
                repeated_commands_at_the_same_time_share_one_result,
                commands_keep_their_place_among_appends,
                a_command_takes_over_events_recorded_before,
                results_that_cannot_be_kept_are_refused,
                closing_finishes_queued_commands,
            }
            limits {
                what_is_too_much_is_refused,
                what_is_just_allowed_is_recorded,
                what_is_malformed_is_refused,
            }
            ordering {
                one_callers_appends_keep_their_order,
                concurrent_appends_leave_no_hole,
                readers_never_see_a_hole,
                only_one_of_many_rivals_wins_a_revision,
                the_feed_has_whole_batches_in_order,
            }
            read {
                bytes_come_back_verbatim,
                every_page_agrees_with_a_model,
                pages_joined_are_the_whole_log,
                names_are_compared_exactly,
                an_empty_log_has_empty_pages,
                a_page_has_at_least_one_and_at_most_5000_events,
                large_pages_may_end_early_but_say_so,
                a_new_epoch_begins_after_the_head,
            }
            retention {
                a_truncated_stream_begins_at_the_revision,
                revisions_are_never_used_again,
                a_deleted_stream_counts_as_one_without_events,
                an_erased_event_stands_without_what_it_carried,
                an_erasure_names_an_event_that_there_is,
                by_age_what_is_old_enough_goes,
                by_size_the_newest_stay,
                a_large_removal_is_done_whole,
                whoever_missed_something_is_told_where_to_begin,
                readers_pass_over_what_was_removed,
                a_tail_tells_of_removals,
                a_repeated_append_gets_its_first_answer_after_a_removal,
                an_append_needs_a_payload,
                random_removals_agree_with_a_model,
            }
            follow {
                a_tail_hands_out_the_whole_log_once,
                a_tail_begins_where_it_is_told,
                a_dropped_wait_loses_nothing,
                live_batches_tell_when_they_were_committed,
                follow_catches_up_and_goes_live_without_hole_or_double,
                follow_gives_only_what_was_asked_for,
            }
            consumer_claims {
                a_new_consumer_begins_where_it_is_told,
                a_claim_of_another_shape_is_refused,
                the_newest_takes_over_and_the_stale_are_refused,
                a_member_that_claims_again_is_fenced_from_itself,
                how_it_was_let_go_is_remembered,
                a_deleted_consumer_is_gone,
                rivals_are_fenced_one_by_one,
            }
            consumer_progress {
                a_checkpoint_never_moves_back,
                one_save_takes_effect_whole,
                a_refused_save_leaves_nothing_behind,
                saves_of_a_batch_stand_alone,
                a_large_batch_is_one_batch,
                a_save_cut_short_is_whole_or_nothing,
            }
            consumer_shares {
                shares_are_even_for_any_number_of_members,
                a_leavers_share_moves_on,
                who_leaves_without_a_word_leaves_it_unclean,
                members_are_told_when_shares_change,
                a_partition_has_one_owner_whoever_claims,
            }
            consumer_leases {
                what_is_not_kept_is_lost,
                what_is_kept_stays,
                only_those_who_keep_are_holders,
            }
            consumer_parked {
                parked_events_are_listed_in_pages,
                a_replay_is_told_once_and_settled,
                replays_outlive_their_holder,
                replays_go_to_the_owner_of_their_partition,
                replays_are_told_as_they_are_settled,
                what_a_lost_answer_told_is_told_again,
                dropped_events_are_gone,
                all_that_is_listed_has_to_be_parked,
            }
            consumer_listing {
                a_consumer_is_described_as_it_was_created,
                consumers_are_listed_in_pages,
                the_lowest_checkpoint_is_told,
            }
            consumer_limits {
                consumers_are_bounded,
                members_are_bounded,
                parked_events_are_bounded,
            }
        }
    };
    (@modules $fixture:ident; $($module:ident { $($case:ident,)* })*) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let limits = $crate::conformance::limits_for(stringify!($module));
                let fixture = super::$fixture(limits).await;
                $crate::conformance::run(fixture, $crate::conformance::$module::$case).await;
            })*
        })*
    };
}

/// A stream's name.
pub(crate) fn stream(name: &str) -> StreamName {
    StreamName::new(name).expect("the suite's names are good")
}

/// An event type.
pub(crate) fn event_type(name: &str) -> EventType {
    EventType::new(name).expect("the suite's types are good")
}

/// An event whose payload is a number.
pub(crate) fn counted(number: u64) -> NewEvent {
    NewEvent::json(event_type("Counted"), format!("{{\"number\": {number}}}"))
}

/// The same with a client-made id.
pub(crate) fn identified(id: EventId) -> NewEvent {
    NewEvent { id: Some(id), ..counted(0) }
}

/// An append of `events` to `name`, whatever the stream holds.
pub(crate) fn to(name: &str, events: Vec<NewEvent>) -> Append {
    Append { stream: stream(name), expected: ExpectedRevision::Any, events }
}

/// Appends and waits.
pub(crate) async fn append(
    store: &dyn EventStore,
    append: Append,
) -> Result<Appended, AppendError> {
    store.append(append)?.await
}

/// Appends and demands that it is recorded.
pub(crate) async fn record(store: &dyn EventStore, to_append: Append) -> Appended {
    append(store, to_append).await.expect("a good append is recorded")
}

/// Reads one page and demands that it comes.
pub(crate) async fn page(store: &dyn EventStore, read: Read) -> Page {
    store.read(read).await.expect("a read is answered")
}

/// Every event of `target` after `after`, page by page.
pub(crate) async fn read_all(store: &dyn EventStore, target: Target) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events.last().map_or(GlobalPosition::START, |event| event.position);
        let page = page(store, Read::after(target.clone(), after, 1000)).await;
        events.extend(page.events);
        if !page.more {
            return events;
        }
    }
}

/// Demands that `events` have the positions from `first` on without a hole.
pub(crate) fn assert_gapless(events: &[RecordedEvent], first: u64) {
    for (event, position) in events.iter().zip(first..) {
        assert_eq!(event.position.get(), position, "positions have no holes and no doubles");
    }
}
