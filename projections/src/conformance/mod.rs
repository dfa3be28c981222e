//! What every store of documents has to do, as one suite of tests: run it with
//! [`conformance_tests!`].
//!
//! ```ignore
//! async fn fixture() -> Fixture {
//!     let documents = MemoryDocuments::new();
//!     Fixture::new(Arc::new(documents.clone()), Arc::new(documents), ())
//! }
//!
//! tidewire_projections::conformance_tests!(fixture);
//! ```
//!
//! Each case gets two handles of a store of its own that has no projections yet, as two nodes
//! have them.
//!
//! [`conformance_tests!`]: crate::conformance_tests

pub mod changes;
pub mod commits;
pub mod generations;
pub mod limits;
mod model;
pub mod ownership;
pub mod pages;
pub mod registration;
pub mod rivals;
pub mod sweeps;
pub mod wishes;
mod writing;

use std::{any::Any, future::Future, sync::Arc, time::Duration};

use tidewire_eventstore::{DocumentKey, GlobalPosition, ProjectionName};

use crate::{DocumentStore, StoreError, documents::Status};

/// Time enough for any case on a slow machine; one that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// A lease that outlives every case.
const LONG: Duration = Duration::from_secs(600);

/// A lease that runs out while a case waits for it.
const SHORT: Duration = Duration::from_millis(300);

/// How long to wait between two looks at something that time changes.
const LOOK: Duration = Duration::from_millis(5);

/// What a case runs on.
pub struct Fixture {
    nodes: Nodes,
    /// Whatever has to outlive the store: a temporary folder, a database.
    guard: Box<dyn Any + Send>,
}

/// Two nodes' handles to the same documents.
#[derive(Clone)]
pub struct Nodes {
    /// One node's.
    pub one: Arc<dyn DocumentStore>,
    /// Another node's.
    pub other: Arc<dyn DocumentStore>,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixture").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nodes").finish_non_exhaustive()
    }
}

impl Fixture {
    /// Two handles to one store without projections; they may be the same. `guard` is dropped
    /// after both were closed.
    pub fn new(
        one: Arc<dyn DocumentStore>,
        other: Arc<dyn DocumentStore>,
        guard: impl Any + Send,
    ) -> Self {
        Self { nodes: Nodes { one, other }, guard: Box::new(guard) }
    }
}

/// Runs one case.
///
/// # Panics
///
/// When the store does not do what the case demands, or hangs.
pub async fn run<F>(fixture: Fixture, case: impl FnOnce(Nodes) -> F)
where
    F: Future<Output = ()>,
{
    let Fixture { nodes, guard } = fixture;
    let whole = async {
        case(nodes.clone()).await;
        nodes.one.close().await;
        nodes.other.close().await;
    };
    tokio::time::timeout(DEADLINE, whole).await.expect("the case ends within its deadline");
    drop(guard);
}

/// Makes one test of each case of the suite, on the stores that the given async function opens.
///
/// The calling crate needs tokio with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:ident) => {
        $crate::conformance_tests! {
            @modules $fixture;
            registration {
                a_projection_is_registered_once,
                registrations_at_the_same_time_share_one,
                projections_are_listed_by_name,
                names_are_kept_exactly,
                a_forgotten_projection_is_gone,
                an_owned_projection_is_not_forgotten,
                a_closed_store_answers_nothing,
            }
            ownership {
                one_node_owns_a_projection,
                who_claims_again_is_fenced_from_itself,
                what_is_released_is_free_at_once,
                a_lease_runs_out,
                what_is_renewed_stays,
                a_late_owner_goes_on_where_nobody_came,
                an_old_fence_changes_nothing,
                fences_never_come_again,
                nodes_names_are_shortened,
            }
            commits {
                documents_and_checkpoint_are_one,
                documents_come_and_go_and_come_back,
                a_commit_of_nothing_moves_the_checkpoint,
                a_commit_from_elsewhere_applies_nothing,
                what_was_committed_is_not_applied_again,
                bytes_come_back_verbatim,
                parked_events_are_listed_in_pages,
                a_generation_stops_and_goes_on,
                projections_do_not_meet,
                a_commit_cut_short_is_whole_or_nothing,
            }
            limits {
                what_is_too_much_is_refused,
                what_is_just_allowed_is_kept,
                the_largest_commit_is_one_commit,
                what_is_for_people_is_shortened,
            }
            pages {
                keys_are_in_the_order_of_their_bytes,
                equal_entries_are_in_the_order_of_keys_both_ways,
                a_prefix_selects_whole_values,
                a_page_has_at_least_one_and_at_most_1000_documents,
                large_documents_cut_a_page,
                a_place_need_not_be_there,
                every_page_agrees_with_a_model,
            }
            changes {
                a_document_is_told_once_as_it_is_now,
                changes_of_one_position_stand_in_one_page,
                changes_go_on_where_a_page_ended,
                large_documents_cut_changes,
                everything_before_the_checkpoint_is_told,
                random_histories_agree_with_a_model,
            }
            generations {
                a_rebuild_stands_beside_what_is_read,
                a_swap_waits_for_what_is_built,
                only_what_is_built_is_swapped,
                a_rebuild_begun_again_or_given_up_is_void,
                whoever_reads_the_old_one_learns_of_the_swap,
            }
            sweeps {
                the_newest_tombstones_are_kept,
                who_comes_after_a_sweep_is_told,
                retired_generations_go_in_steps,
                forgotten_ones_go_with_any_sweep,
            }
            wishes {
                a_wish_is_told_until_it_was_followed,
                only_the_wish_that_was_followed_is_forgotten,
            }
            rivals {
                one_of_many_claims_wins,
                one_of_two_commits_wins,
                one_of_two_owners_wins,
                everybody_counts_once,
            }
        }
    };
    (@modules $fixture:ident; $($module:ident { $($case:ident,)* })*) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = super::$fixture().await;
                $crate::conformance::run(fixture, $crate::conformance::$module::$case).await;
            })*
        })*
    };
}

/// A projection's name.
pub(crate) fn name(name: &str) -> ProjectionName {
    ProjectionName::new(name).expect("the suite's names are good")
}

/// A document's key.
pub(crate) fn key(key: &str) -> DocumentKey {
    DocumentKey::new(key).expect("the suite's keys are good")
}

/// A position.
pub(crate) const fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

/// What is known of a projection that is there.
pub(crate) async fn status(store: &dyn DocumentStore, of: &str) -> Status {
    let status = store.status(&name(of)).await.expect("the store answers");
    status.expect("the projection is registered")
}

/// Demands that something was refused because of a claim since.
pub(crate) fn assert_fenced<T: std::fmt::Debug>(result: Result<T, StoreError>, what: &str) {
    assert_eq!(result.map(|_| ()), Err(StoreError::Fenced), "{what}");
}
