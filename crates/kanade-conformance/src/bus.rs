//! The cases of the bus, by topic.

pub mod durables;
pub mod fan_out;
pub mod requests;
pub mod sharing;
pub(crate) mod wire;

use crate::suite::suite;

suite! { $
    /// Expands to `mod bus` with one test per case of [`BUS_CASES`](crate::BUS_CASES), for a
    /// [`BusFactory`](crate::BusFactory).
    macro bus_suite, mod bus, const BUS_CASES;

    durables:
        a_durable_message_is_answered_and_consumed
        a_sender_without_a_consumer_is_told_or_kept
        a_sender_waits_until_somebody_keeps_its_message
        a_batch_that_is_dropped_comes_again_in_order
        what_is_acknowledged_does_not_come_again
        an_outbox_survives_a_consumer_that_goes_away
        a_batch_can_be_acknowledged_after_its_consumer_went_away
        each_durable_gets_its_own_messages
        a_batch_holds_no_more_than_was_asked_for
        a_batch_says_when_nothing_else_was_waiting
        messages_of_one_sender_are_consumed_in_order
        a_sender_that_goes_away_has_been_heard
        a_reader_that_goes_away_takes_nothing_along
        subscribers_see_durable_messages_too
        a_durable_message_to_a_listener_reaches_it
    ;

    fan_out:
        publishing_to_nobody_succeeds
        a_subscriber_gets_what_is_published_after_it_subscribed
        patterns_decide_who_gets_what
        each_subscription_gets_its_own_copy
        messages_of_one_publisher_stay_in_order
        a_subscription_that_is_dropped_ends_alone
        a_slow_subscriber_misses_messages_and_disturbs_nobody
        large_messages_travel_and_larger_ones_are_refused
        many_subscribers_each_hear_their_own
    ;

    requests:
        a_request_gets_its_answer
        a_request_to_nobody_fails_at_once
        a_request_that_is_not_answered_times_out
        the_first_of_several_answers_counts
        answers_find_their_own_questions
        who_did_not_ask_gets_no_answer
    ;

    sharing:
        several_consumers_share_the_messages
        what_one_consumer_drops_another_gets
        an_idle_consumer_that_leaves_disturbs_nobody
    ;
}
