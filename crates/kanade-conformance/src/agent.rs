//! The cases of what an agent sees of its server, by topic.

pub mod commands;
pub mod documents;
pub mod guards;
pub mod losses;
pub mod lost_reports;
pub mod reports;
pub mod requests;
pub mod watching;
mod world;

use crate::suite::suite;

suite! { $
    /// Expands to `mod agent` with one test per case of [`AGENT_CASES`](crate::AGENT_CASES), for an
    /// [`AgentFactory`](crate::AgentFactory).
    macro agent_suite, mod agent, const AGENT_CASES;

    commands:
        commands_to_one_and_to_all_arrive_whole_and_in_order
        everything_after_a_subscription_is_heard
        commands_of_one_agent_do_not_reach_another
        each_of_many_agents_hears_its_own
        a_member_of_a_group_hears_what_is_for_the_group
        a_kill_reaches_every_agent
        each_subscription_of_an_agent_gets_its_own_copy
        a_subscription_that_is_dropped_ends_alone
        a_slow_subscription_misses_messages_and_disturbs_nobody
        kills_are_heard_while_commands_pile_up_unread
        large_messages_travel_both_ways_and_larger_ones_are_refused
        an_agent_that_leaves_and_comes_again_hears_again
    ;

    documents:
        a_document_is_read_in_its_newest_version
        a_document_that_is_not_there_is_not_found
        a_large_document_travels
        an_agent_reads_what_it_goes_by
    ;

    guards:
        an_agent_listens_to_what_is_for_it
        an_agent_speaks_for_itself
        an_agent_reports_for_itself
        a_report_about_another_agent_is_refused
        an_answer_to_a_question_that_was_not_asked_is_refused
        an_agent_reads_its_own_documents_only
        an_agent_reads_the_jobs_that_agents_start_themselves
    ;

    losses:
        a_lost_connection_is_told_when_every_subscription_stands
        an_agent_comes_back_as_often_as_its_connection_is_lost
        a_subscription_made_without_a_connection_hears_later
        a_subscription_dropped_without_a_connection_stays_away
        a_question_to_an_agent_without_a_connection_fails
        a_lost_connection_is_the_loss_of_one_agent
        a_watch_whose_connection_is_lost_misses_nothing_in_silence
        a_document_is_not_read_without_a_connection
        a_message_published_without_a_connection_fails
    ;

    lost_reports:
        a_report_under_way_when_the_connection_is_lost_comes_to_an_end
        a_report_begun_without_a_connection_arrives_later
        many_reports_survive_lost_connections
    ;

    reports:
        every_kind_of_report_arrives_as_it_was_sent
        heartbeats_reach_the_server_in_order
        a_result_is_answered_once_it_is_acknowledged_and_not_before
        a_result_that_nobody_consumes_is_refused_or_kept
        a_batch_that_is_dropped_comes_again_and_is_answered
        an_outbox_outlasts_a_consumer_that_goes_away
        results_sent_one_after_the_other_are_consumed_in_order
        many_results_at_once_are_all_answered
        reports_that_wait_hold_up_nothing_else
        reports_of_many_agents_all_arrive
        a_sender_that_goes_away_disturbs_nobody
    ;

    requests:
        a_question_gets_its_answer_whole
        answers_find_their_own_questions
        a_question_to_an_agent_that_does_not_listen_fails_at_once
        a_question_that_is_not_answered_times_out
        a_message_that_asks_nothing_gets_no_answer
    ;

    watching:
        a_watch_tells_what_stands_and_then_every_change_in_order
        two_watchers_each_get_everything
        a_watch_that_begins_between_changes_misses_none
        thousands_of_documents_come_before_current
        each_bucket_is_watched_for_itself
        a_slow_watcher_gets_everything_or_its_end
        a_watch_that_is_not_read_holds_up_nothing
        a_watch_that_is_dropped_ends_alone
        an_agent_that_joins_a_group_learns_its_configuration
    ;
}
