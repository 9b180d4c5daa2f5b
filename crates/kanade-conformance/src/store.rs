//! The cases of the execution store, by topic.

pub mod fire;
pub mod forget;
pub mod history;
pub mod kill;
pub mod lists;
pub mod marks;
pub mod model;
pub mod outputs;
pub mod pace;
pub mod queries;
pub mod receipts;
pub mod records;
pub mod reopen;
pub mod retention;
pub mod runs;
pub mod sets;
pub mod slots;
mod snapshot;
pub mod steering;
pub mod takeover;
pub mod trail;
pub mod upkeep;
pub mod values;
mod walk;
pub mod waves;
mod world;

use crate::suite::suite;

suite! { $
    /// Expands to `mod store` with one test per case of [`STORE_CASES`](crate::STORE_CASES), for a
    /// [`StoreFactory`](crate::StoreFactory).
    macro store_suite, mod store, const STORE_CASES;

    fire:
        a_new_store_answers_every_question_with_nothing
        a_fired_execution_is_there_with_all_that_belongs_to_it
        firing_again_is_a_duplicate_and_changes_nothing
        the_same_firing_twice_in_one_batch_happens_once
        a_send_is_owed_until_it_went_out
        sends_are_handed_out_by_due_time_in_pages
        one_send_may_reach_every_target_or_none_that_is_known
        ten_thousand_targets_are_fired_listed_and_killed
        an_idempotency_key_fires_once
        a_key_that_comes_twice_in_one_batch_fires_once
    ;

    forget:
        a_forgotten_execution_is_gone_from_everywhere
        forgetting_frees_what_was_only_there_once
        numbers_of_dead_letters_are_never_given_again
        agents_and_their_facts_outlive_executions
        forgetting_what_is_not_there_changes_nothing
        a_batch_can_forget_and_go_on
    ;

    history:
        answers_agree_after_any_history
        one_commit_or_many_come_to_the_same
        hearing_messages_again_changes_nothing
        a_killed_execution_owes_nothing_whatever_happens
    ;

    kill:
        a_kill_withdraws_what_has_not_gone_out
        a_kill_of_what_never_went_out_ends_it
        a_kill_withdraws_a_send_to_everybody
        what_can_be_killed
        a_second_kill_repeats_the_first
        the_time_for_answers_begins_anew_when_asked_again_or_at_a_sign_of_life
        a_kill_that_is_heard_of_after_what_it_did_has_its_killer
        a_settled_kill_leaves_nobody_waiting
        a_start_after_a_kill_opens_it_again
        a_send_that_was_in_flight_at_the_kill_is_known_to_be_out
        how_a_killed_execution_ends
        open_kills_are_handed_out_oldest_first
    ;

    lists:
        executions_of_one_moment_are_walked_without_a_miss_or_a_repeat
        a_walk_can_begin_at_any_place
        execution_filters_work_alone_and_together
        what_is_live_and_in_flight_follows_every_change
        pages_hold_while_the_list_grows
        a_limit_that_is_too_large_is_cut
        targets_are_listed_by_id_and_filtered_by_state
    ;

    marks:
        the_first_time_something_is_marked_stays
        a_mark_decides_about_what_stands_with_it
        marks_are_there_after_a_restart
    ;

    model:
        every_answer_is_that_of_a_simple_model
    ;

    pace:
        no_more_go_out_than_there_is_room_for
        what_is_let_out_is_checked_again
        what_a_gate_or_a_pause_holds_has_no_room
        a_kill_or_an_abort_ends_what_is_parked
        each_of_those_that_heard_one_command_tries_again_by_itself
        a_run_that_failed_is_tried_again_with_a_request_of_its_own
        only_what_the_job_says_is_tried_again
        what_is_said_of_an_earlier_attempt_changes_nothing
        an_agents_clock_puts_off_no_attempt
        an_attempt_in_a_wave_is_counted_in_it
        the_pace_is_as_it_was_after_a_restart
    ;

    outputs:
        an_output_of_five_megabytes_comes_back_whole
        an_output_keeps_every_character
        a_late_result_brings_its_output
    ;

    queries:
        runs_of_one_moment_are_walked_without_a_miss_or_a_repeat
        each_run_filter_finds_what_it_says
        run_filters_work_together
        output_comes_with_a_list_only_where_it_is_asked_for
        a_page_of_outputs_ends_at_four_mebibytes
        a_text_filter_looks_at_a_bounded_number_of_runs
        a_filter_by_outcome_finds_old_runs_at_once
        runs_of_a_time_are_counted_by_how_they_went
    ;

    receipts:
        receipts_follow_what_becomes_of_a_target
        what_ended_before_a_kill_has_no_receipt
        a_delivery_is_recorded_once
    ;

    records:
        the_newest_sign_of_life_counts
        a_sign_of_life_without_names_leaves_them
        agents_are_listed_by_id
        newer_facts_replace_older_ones
        facts_are_listed_by_agent_and_by_job
        an_audit_event_is_recorded_once
        an_audit_entry_comes_back_as_it_was
        dead_letters_are_numbered_and_kept
        pages_of_large_records_end_at_four_mebibytes
    ;

    reopen:
        what_was_answered_is_there_after_a_restart
        life_goes_on_after_a_restart
        numbers_go_on_after_a_restart
        several_restarts_lose_nothing
        a_restart_after_a_caller_went_away_is_whole
    ;

    retention:
        only_what_is_final_and_old_may_go
        old_runs_of_no_execution_may_go
        an_agent_whose_clock_is_behind_makes_nothing_old
        each_kind_of_record_has_its_own_age
        pruning_in_small_steps_comes_to_an_end
    ;

    runs:
        start_and_end_say_the_same_in_every_order
        a_started_run_is_running_until_it_is_due
        ends_are_told_apart
        a_finished_run_is_never_overwritten
        the_run_of_one_agent_is_not_anothers_to_change
        of_two_runs_of_a_target_the_first_end_decides
        a_result_without_an_id_is_recorded_once
        an_agent_that_is_not_on_the_list_joins
        a_joiner_opens_a_final_execution_again
        a_run_of_an_execution_that_is_not_here_is_kept
        a_run_of_no_execution_is_kept
        a_skip_is_final_and_says_why
        a_batch_of_results_is_counted_to_the_last
    ;

    sets:
        an_empty_batch_does_nothing
        what_the_lead_does_decides_about_the_rest
        a_follower_that_is_old_news_does_not_stop_the_others
        later_sets_of_a_batch_see_earlier_ones
        a_large_batch_is_one_commit_with_an_outcome_each
        concurrent_writers_lose_nothing
        racing_for_one_execution_has_one_winner
        a_caller_that_goes_away_leaves_its_set_whole_or_undone
        a_caller_that_goes_away_does_not_hold_up_others
        readers_see_whole_sets_while_others_write
    ;

    slots:
        a_slot_is_settled_once_with_all_that_stands_with_it
        what_a_slot_gives_way_to
        slots_are_listed_newest_first_each_once
        slots_that_wait_are_found_until_they_do_not
        the_cursor_last_written_counts
        slots_go_by_their_age_and_cursors_stay
        slots_are_there_after_a_restart
        where_a_job_has_succeeded_is_known_when_its_runs_are_not
    ;

    steering:
        what_is_paused_is_due_when_it_is_resumed
        the_time_of_what_is_paused_does_not_run
        what_is_held_on_an_agent_is_open_but_not_to_be_sent_again
        what_can_be_paused_resumed_and_aborted
        an_abort_withdraws_what_has_not_gone_out
        an_abort_of_what_is_paused_or_never_went_out
        a_kill_of_what_is_paused_is_a_kill
        a_pause_does_not_keep_a_gate_from_what_comes_after
        what_ends_is_not_paused_any_more
        ten_thousand_targets_are_paused_and_resumed
        a_pause_is_there_after_a_restart
    ;

    takeover:
        a_past_execution_is_there_and_owes_nothing
        taking_over_again_is_a_duplicate_and_changes_nothing
        a_past_execution_is_over_open_or_expired_until_a_run_says_more
        runs_that_come_later_become_its_targets
        runs_that_came_before_become_its_targets
        a_past_execution_ends_with_its_last_run
        what_is_over_is_no_more_in_flight_and_goes_by_its_age
        what_is_open_can_be_killed
        a_success_is_found_by_job_and_agent
    ;

    trail:
        audit_filters_work_alone_and_together
        a_text_filter_looks_at_a_bounded_number_of_audit_entries
    ;

    upkeep:
        an_expired_execution_stays_deliverable
        only_a_pending_execution_expires
        a_waiting_target_expires_when_its_time_has_come
        a_late_sign_of_life_replaces_expired
        a_lost_run_counts_as_failed_until_its_result_comes
        a_start_told_by_a_slow_clock_is_not_lost_before_its_time
        a_lost_run_decides_only_about_a_target_that_it_runs
        what_is_overdue_is_handed_out_oldest_first
        stale_executions_are_handed_out_oldest_first
        what_an_agent_has_unfinished_is_handed_out_oldest_first
        kills_that_an_agent_has_not_answered_are_handed_out_newest_first
    ;

    values:
        ids_of_any_script_are_told_apart
        texts_come_back_as_they_went_in
        the_longest_ids_are_kept
        the_first_and_the_last_moment_are_kept_and_sorted
    ;

    waves:
        each_wave_is_counted_by_itself
        a_gate_holds_later_waves_until_it_has_passed
        a_gate_that_fails_pauses_and_stays_failed
        a_verdict_must_fit_what_is_recorded
        what_is_to_be_steered_is_handed_out_oldest_first
        a_gate_is_as_it_was_after_a_restart
    ;
}
