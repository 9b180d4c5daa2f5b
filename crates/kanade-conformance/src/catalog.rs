//! The cases of the catalog, by topic.

pub mod documents;
pub mod history;
pub mod preconditions;
pub mod restarts;
pub(crate) mod shelf;
pub mod watching;

use crate::suite::suite;

suite! { $
    /// Expands to `mod catalog` with one test per case of [`CATALOG_CASES`](crate::CATALOG_CASES), for a
    /// [`CatalogFactory`](crate::CatalogFactory).
    macro catalog_suite, mod catalog, const CATALOG_CASES;

    documents:
        a_new_catalog_is_empty
        a_document_is_read_as_it_was_written
        writing_the_same_text_is_a_new_version
        a_deleted_document_is_gone
        a_list_is_in_the_order_of_the_keys
        keys_of_any_text_are_told_apart
        values_of_any_bytes_come_back_as_they_went_in
        buckets_are_separate
        many_documents_are_all_listed
        a_writer_that_goes_away_leaves_a_whole_document
    ;

    history:
        the_newest_five_versions_are_kept
        the_history_of_a_deleted_document_stays
        an_old_version_can_be_written_back
    ;

    preconditions:
        a_write_is_made_when_its_condition_holds
        a_deletion_is_made_when_its_condition_holds
        a_refused_write_leaves_no_trace
        a_revision_is_never_given_to_a_key_again
        of_racing_creators_one_wins
        racing_counters_count_every_increment
        of_racing_deleters_one_wins
    ;

    restarts:
        documents_are_there_after_a_restart
        revisions_hold_across_a_restart
        several_restarts_keep_every_version
    ;

    watching:
        a_watch_begins_with_what_stands
        a_watch_tells_every_change_in_order
        a_watch_sees_its_own_bucket_and_no_refused_write
        several_watchers_are_told_the_same
        a_watch_that_begins_during_writes_misses_nothing
        a_slow_watcher_gets_everything_or_its_end
        a_watch_that_is_not_read_holds_up_nobody
    ;
}
