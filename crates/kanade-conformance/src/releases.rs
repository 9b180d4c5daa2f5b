//! The cases of the releases, by topic.

pub mod breaking;
pub(crate) mod depot;
pub mod restarts;
pub mod storing;

use crate::suite::suite;

suite! { $
    /// Expands to `mod releases` with one test per case of [`RELEASES_CASES`](crate::RELEASES_CASES), for a
    /// [`ReleasesFactory`](crate::ReleasesFactory).
    macro releases_suite, mod releases, const RELEASES_CASES;

    storing:
        nothing_is_released_at_first
        a_release_is_read_as_it_was_stored
        a_large_program_comes_back_byte_for_byte
        an_empty_program_is_a_release
        releases_are_listed_by_version
        versions_are_told_apart
        a_version_that_is_stored_again_is_replaced
        a_deleted_release_is_gone
        an_agent_reads_what_is_there
    ;

    breaking:
        a_program_that_breaks_off_leaves_what_was_there
        a_caller_that_goes_away_leaves_a_whole_release
        a_reader_gets_one_program_and_no_mixture
        of_racing_writers_one_leaves_its_program
    ;

    restarts:
        releases_are_there_after_a_restart
        what_broke_off_is_not_there_after_a_restart
    ;
}
