//! The promises of the storage contract, each a function that both databases pass.
//!
//! A case takes a fresh store and panics if the promise is broken. Its name says the
//! promise. [`conformance_cases`](crate::conformance_cases) lists them all; the test
//! binary `conformance` runs each as a test of its own on PostgreSQL and on SQLite,
//! and fails if one is not listed.
//!
//! Times are passed in, mostly counted from [`crate::seed::START`]; nothing sleeps.
#![expect(missing_docs, reason = "the name of a case is what it says")]

pub mod accept;
pub mod apps;
pub mod attempts;
pub mod cancel;
pub mod deliveries;
pub mod disable;
pub mod duplicates;
pub mod emitted;
pub mod events;
pub mod fence;
pub mod health;
pub mod hints;
pub mod keys;
pub mod lanes;
pub mod late;
pub mod lists;
pub mod maintain;
pub mod observe;
pub mod order;
pub mod outbox;
pub mod replay;
pub mod requests;
pub mod retention;
pub mod routes;
pub mod secrets;
pub mod settle;
pub mod states;
pub mod subscriptions;
pub mod tenancy;
pub mod usage;

mod cast;
mod ledger;
mod scene;

/// Hands the list of all cases, by file, to a macro.
#[macro_export]
macro_rules! conformance_cases {
    ($run:ident) => {
        $run! {
            accept {
                an_accepted_event_is_kept_with_its_deliveries
                an_event_that_nobody_wants_is_kept_all_the_same
                a_batch_is_answered_in_its_order
                the_bytes_of_data_are_kept
                what_came_with_an_event_is_kept
                items_are_answered_in_their_order
                many_callers_may_bring_the_same_new_type
                an_event_matched_before_a_change_is_stale
                an_event_of_a_deleted_application_is_stale
                a_batch_is_written_whole_or_not_at_all
                a_held_delivery_waits_in_the_retries
                an_item_that_the_database_refuses_fails_alone
                nothing_to_accept_is_no_error
            }
            duplicates {
                the_same_id_and_body_again_is_a_duplicate
                the_same_id_with_another_body_is_refused
                a_refused_batch_keeps_no_id
                the_same_id_in_one_batch_is_one_event
                the_same_id_of_two_callers_in_one_commit_is_one_event
                twenty_callers_with_one_id_make_one_event
                the_same_id_in_two_applications_is_two_events
                a_request_with_its_key_again_is_answered_as_before
                a_key_with_another_body_is_refused
                callers_with_two_api_keys_never_meet
                twenty_requests_with_one_key_are_done_once
                a_request_that_wrote_nothing_leaves_its_key_free
                a_keyed_request_remembers_that_it_was_a_duplicate
            }
            emitted {
                what_is_emitted_is_read_oldest_first
                all_that_came_with_an_emitted_event_is_read
                a_page_ends_with_the_row_that_fills_it
                accepting_an_emitted_event_deletes_its_row
                a_row_is_one_event_however_often_it_is_brought
                what_another_took_writes_nothing_and_keeps_no_id
                twenty_who_bring_one_row_make_one_event
                what_was_matched_before_a_change_keeps_its_row
                what_came_before_keeps_its_row_until_it_is_discarded
                a_row_that_is_written_later_has_a_higher_id
                disabling_emits_one_event_in_its_commit
                disabling_a_callbacks_subscription_emits_nothing
                a_warning_is_emitted_once_with_what_records_it
                a_dead_letter_is_reported_if_it_is_one
            }
            routes {
                routes_are_found_by_id_and_by_slug
                a_route_says_which_events_go_where
                only_active_and_paused_subscriptions_are_routes
                what_changed_since_a_version_leads_to_the_present_routes
                changes_of_nothing_are_none
                changes_are_of_who_has_the_slug_now
                every_change_raises_the_version
                a_change_of_one_application_is_none_of_another
                a_callbacks_subscription_raises_no_version
            }
            apps {
                an_application_is_found_as_it_was_created
                a_slug_is_taken_once
                one_of_twenty_gets_the_slug
                applications_are_listed_newest_first
                an_update_changes_what_it_names
                an_update_of_an_older_revision_is_refused
                a_deleted_application_is_gone_with_its_slug_free
                deleting_an_application_ends_all_that_is_its
            }
            subscriptions {
                a_subscription_is_found_as_it_was_created
                every_form_of_retry_policy_is_kept
                an_unknown_application_gets_no_subscription
                subscriptions_are_listed_newest_first
                an_update_is_a_new_version_of_what_it_names
                an_update_can_change_everything
                an_update_of_an_older_version_is_refused
                one_of_twenty_updates_of_the_same_version_is_done
            }
            states {
                pausing_and_resuming_leave_the_configuration_alone
                a_disabled_subscription_can_be_resumed_but_not_paused
                pausing_holds_what_waits_and_resuming_frees_it
                deleting_a_subscription_cancels_what_waits_for_it
            }
            health {
                who_fails_is_known_to_until_it_works_again
                many_changes_are_recorded_at_once
                who_fails_is_counted_until_it_is_disabled
                a_deposed_owner_records_no_health
                nothing_is_recorded_of_what_is_gone
                resuming_a_disabled_subscription_forgets_its_failures
            }
            secrets {
                a_new_subscription_has_the_secret_it_came_with
                a_rotated_secret_signs_on_until_its_end
                a_second_rotation_prolongs_no_secret
                a_rotation_without_overlap_ends_the_others_at_once
                a_deleted_subscription_has_no_secrets_to_show
            }
            keys {
                a_key_is_found_by_its_hash
                a_key_may_have_any_scopes
                a_revoked_key_is_none
                keys_are_listed_newest_first
                an_application_sees_and_revokes_its_own_keys
            }
            requests {
                a_request_is_done_once_and_its_answer_remembered
                a_key_with_another_requests_body_is_reused
                two_api_keys_may_use_the_same_value
                a_request_without_an_answer_never_began
                a_request_that_never_finished_is_forgotten_after_a_minute
                an_answered_request_is_not_forgotten_after_a_minute
                one_of_twenty_callers_is_told_to_do_it
            }
            order {
                a_row_keeps_its_place_in_the_order_wherever_it_moves
                without_order_no_key_is_kept
                routes_and_senders_see_order_and_rate
                what_is_to_come_later_waits_until_then
                a_time_that_has_passed_is_no_reason_to_wait
                what_is_held_is_due_when_it_was_to_be_delivered
                every_ordering_key_that_waits_has_a_head
                the_rows_of_a_key_come_in_order_of_their_events
                what_is_not_to_be_delivered_yet_has_no_place_in_the_order
                what_has_no_place_in_the_order_is_found_by_its_time
            }
            outbox {
                a_lane_is_read_oldest_first_from_its_cursor
                reading_changes_nothing
                payloads_of_kept_events_come_in_any_order
                waiting_says_when_each_subscriptions_first_retry_is_due
                due_retries_come_first_due_first
                what_was_due_before_a_time_can_be_left_out
                the_limit_of_due_retries_is_per_subscription
                a_sending_state_is_what_the_subscription_is_now
                deleted_subscriptions_have_a_sending_state_and_unknown_ones_none
                what_changed_since_is_named
                parked_rows_wait_in_the_retries
            }
            settle {
                a_first_success_is_one_row
                a_failed_first_attempt_waits_to_be_tried_again
                an_attempt_without_an_answer_has_an_error_alone
                a_retry_that_succeeds_is_settled_with_all_its_attempts
                a_delivery_that_is_out_of_attempts_is_dead
                what_is_not_to_be_sent_is_settled_without_an_attempt
                a_result_settles_only_the_delivery_it_names
                hundreds_are_settled_at_once
            }
            late {
                a_batch_that_is_settled_twice_changes_nothing_more
                a_row_that_was_cancelled_in_flight_stays_cancelled
                an_older_result_does_not_settle_a_replay
                a_result_of_an_attempt_that_is_settled_moves_nothing
                what_cannot_move_does_not_keep_others_from_moving
                two_results_of_one_delivery_are_settled_in_their_order
                a_batch_that_is_settled_twenty_times_at_once_is_settled_once
            }
            fence {
                a_deposed_owner_settles_only_its_successes
                a_deposed_owner_moves_no_retry_but_a_delivered_one
                a_deposed_owner_parks_nothing
                lanes_are_fenced_one_by_one
                an_owner_whose_lanes_nobody_took_settles_all
            }
            disable {
                disabling_makes_all_that_waits_dead
                a_disabled_subscription_gets_no_new_deliveries
                what_was_in_flight_is_recorded_and_stays_dead
                disabling_twice_or_what_is_gone_is_harmless
            }
            events {
                an_unknown_event_is_none
                events_are_listed_newest_first
                every_filter_of_events_must_hold
            }
            deliveries {
                an_unknown_delivery_is_none
                a_status_is_read_off_where_the_row_is
                a_parked_delivery_is_pending
                what_a_paused_subscription_has_in_the_outbox_is_held
            }
            lists {
                a_list_shows_live_and_settled_deliveries_newest_first
                a_list_filters_by_status
                every_filter_of_deliveries_must_hold
                a_delivered_code_is_found_too
                a_live_row_outranks_a_settled_one
                a_cursor_stands_between_deliveries_of_one_event
            }
            attempts {
                a_delivery_that_was_not_sent_yet_has_no_attempts
                attempts_are_numbered_through_every_replay
                an_attempt_shows_the_version_it_was_sent_with
            }
            replay {
                a_settled_delivery_is_due_at_once
                one_that_was_cancelled_before_it_was_sent_is_sent
                one_that_waits_for_a_retry_is_due_at_once_in_its_round
                one_that_is_pending_has_nothing_to_do
                twenty_replays_at_once_are_one
                nothing_is_replayed_while_its_subscription_cannot_get_it
                what_is_no_longer_kept_is_not_replayed
                an_unknown_delivery_is_not_replayed
            }
            cancel {
                what_waits_is_withdrawn
                what_is_settled_is_not_withdrawn
                a_replay_can_be_withdrawn
                a_delivery_is_settled_or_withdrawn_never_both
            }
            tenancy {
                a_foreign_subscription_does_not_exist
                a_foreign_event_does_not_exist
                a_foreign_delivery_does_not_exist
                an_owner_may_do_everything_within
            }
            lanes {
                a_process_that_comes_back_gets_its_number_at_once
                a_lane_has_one_owner_while_its_lease_lasts
                a_beat_renews_the_lease
                a_lease_that_only_expired_keeps_what_nobody_took
                a_beat_names_the_living_that_want_lanes
                what_is_given_back_can_be_taken_at_once
                who_left_may_come_back
                twenty_that_take_at_once_share_without_overlap
                twenty_that_join_at_once_get_twenty_numbers
                a_thousand_and_twenty_four_nodes_are_all_there_can_be
                the_databases_clock_goes_forward
                a_clock_that_was_set_back_is_carried_on
            }
            hints {
                a_hint_reaches_every_listener
                a_flood_of_hints_blocks_nobody_and_is_heard
            }
            maintain {
                a_database_that_answers_is_ready
                many_nodes_may_tend_at_once_and_again
                the_next_day_is_ready_before_it_comes
                keys_are_remembered_for_a_day_and_then_forgotten
            }
            observe {
                nothing_is_due_in_an_empty_store
                the_oldest_delivery_in_any_lane_says_since_when_it_is_due
                a_retry_is_due_when_its_time_has_come
                what_is_held_is_not_due
                a_due_delivery_behind_held_ones_is_seen
                what_waits_is_counted_by_state
                deleted_and_hidden_subscriptions_are_not_counted
                connections_are_counted
            }
            usage {
                quotas_are_kept_and_replaced_as_a_whole
                what_is_not_settled_is_pending_wherever_it_waits
                what_others_have_in_the_same_lane_is_not_counted
                no_more_than_asked_for_is_counted_of_what_waits
                bytes_are_summed_over_the_days_that_are_kept
                twenty_that_add_bytes_at_once_lose_none
                days_that_no_retention_reaches_are_forgotten
                what_came_before_as_a_whole_is_known
            }
            retention {
                what_arrived_is_gone_when_its_day_ends
                what_waits_outlives_its_day_and_is_still_delivered
                what_failed_again_after_its_day_waits_on_and_dies_as_always
                a_dead_letter_outlives_its_day_and_can_be_replayed
                a_dead_letter_goes_after_as_long_again
                only_the_deliveries_that_wait_or_are_dead_outlive_their_day
                what_outlives_its_day_can_be_withdrawn
                ending_days_again_changes_nothing
                pages_go_on_into_what_outlived_its_day
                nothing_is_replayed_in_its_last_hour
                accepting_and_settling_go_on_while_days_end
            }
        }
    };
}
