//! What every backend must do, as tests to run from a backend's own tests: [`contract_tests!`](crate::contract_tests)
//! makes one test of each function here. Also the fixtures they build on, and random batches to compare backends by.

#![expect(clippy::unwrap_used, reason = "test support")]
#![expect(clippy::missing_panics_doc, reason = "failing is what tests do")]

pub mod accounts;
pub mod delivery;
pub mod encryption;
pub mod fixture;
pub mod groups;
pub mod history;
pub mod log;
pub mod media;
pub mod memberships;
pub mod mimi;
pub mod mimi_deletion;
pub mod mimi_order;
pub mod mimi_policy;
pub mod mimi_reports;
pub mod mimi_users;
pub mod parked;
pub mod random;
pub mod replies;
pub mod transactions;

/// One `#[tokio::test]` per contract function. Takes the path of an `async fn() -> (S, G)`, where `S` is a fresh
/// [`Store`](crate::Store) and `G` keeps alive what it needs.
#[macro_export]
macro_rules! contract_tests {
    ($open:path) => {
        $crate::contract_tests! {
            @each $open:
            accounts::account_is_created_once,
            accounts::deleted_account_is_nobody_else_s,
            accounts::devices_are_listed_in_order,
            accounts::full_inbox_drops_the_oldest,
            accounts::full_list_of_pending_rooms_drops_the_oldest,
            accounts::inbox_answers_by_device,
            accounts::inbox_numbers_are_never_reused,
            accounts::pending_rooms_come_and_go,
            accounts::revoked_token_is_forgotten,
            accounts::token_leads_to_user_and_device,
            delivery::append_marks_open_intervals_dirty,
            delivery::backoff_is_remembered_until_confirmed,
            delivery::closed_interval_is_owed_nothing_more,
            delivery::confirm_moves_cursors_and_items_together,
            delivery::confirm_of_another_transaction_is_refused,
            delivery::delivery_of_a_closed_interval_clears_it,
            delivery::dirty_intervals_come_longest_waiting_first,
            delivery::destinations_with_work_are_found,
            delivery::full_outbox_refuses,
            delivery::interval_of_one_event_is_owed_that_event,
            delivery::only_one_request_is_in_flight,
            delivery::outbox_numbers_count_per_destination,
            delivery::partial_delivery_leaves_the_cursor_dirty,
            delivery::thawed_request_leaves_everything_owed,
            delivery::request_with_an_unknown_room_is_refused,
            delivery::server_that_returns_has_two_intervals,
            encryption::device_object_is_kept_and_replaced,
            encryption::expired_key_packages_are_dropped,
            encryption::key_package_is_claimed_once,
            encryption::key_packages_are_bounded_and_not_taken_twice,
            encryption::last_resort_comes_last_and_stays,
            encryption::new_key_forgets_key_packages,
            encryption::notice_replaces_the_one_before,
            encryption::remote_devices_are_bounded,
            encryption::remote_devices_come_and_go,
            encryption::removed_device_leaves_nothing,
            encryption::spent_key_packages_are_bounded,
            encryption::thousand_parallel_claims_share_no_package,
            groups::change_out_of_order_conflicts,
            groups::changes_are_kept_in_order,
            groups::checkpoint_of_an_older_epoch_conflicts,
            groups::checkpoint_replaces_the_changes,
            groups::rebase_forgets_the_group,
            history::backfill_goes_below_the_first_entry,
            history::backfill_at_a_moved_first_conflicts,
            history::checkpoint_shortens_the_tail,
            history::checkpoint_outside_the_log_conflicts,
            history::events_are_found_in_log_and_among_outliers,
            history::outlier_becomes_an_entry,
            history::redacted_copy_does_not_replace_the_event,
            history::prune_drops_messages_and_keeps_state,
            history::prune_waits_for_checkpoint_and_followers,
            history::rebase_leaves_a_gap,
            history::soft_failed_state_is_no_state,
            history::state_before_a_position,
            history::state_before_crosses_checkpoints_and_rebase,
            history::state_before_in_backfilled_history,
            log::append_grows_the_log,
            log::append_in_fifties_keeps_every_entry,
            log::append_with_a_gap_conflicts,
            log::append_with_known_event_conflicts,
            log::append_with_known_lpdu_conflicts,
            log::participant_keeps_two_events_of_one_lpdu,
            log::append_with_moved_head_conflicts,
            log::bytes_come_stretch_by_stretch,
            log::entry_is_found_by_event_id,
            log::event_in_another_room_does_not_collide,
            log::hole_may_be_filled_by_a_snapshot,
            log::hole_keeps_its_place_and_reason,
            log::known_lpdus_are_found,
            log::known_lpdus_of_many_rooms_are_found,
            log::room_is_created_once,
            log::rooms_are_listed,
            log::snapshot_is_loaded_back,
            log::unknown_room_is_refused,
            media::bytes_of_a_day_and_in_all_are_bounded,
            media::file_is_forgotten_with_its_last_uploader,
            media::file_of_another_server_is_found_by_its_name,
            media::forgotten_file_leaves_nothing,
            media::oldest_files_of_other_servers_go_first,
            media::same_file_of_two_users_is_one_file,
            memberships::history_tells_every_step,
            memberships::prepended_history_does_not_change_the_present,
            memberships::rebase_forgets_who_is_gone,
            memberships::rooms_of_a_user,
            memberships::servers_sharing_rooms,
            memberships::users_sharing_rooms,
            mimi::appends_to_mimi_that_do_not_fit_conflict,
            mimi::checkpoint_of_a_mimi_group_replaces_its_changes,
            mimi::failures_of_a_follower_are_remembered,
            mimi::fetched_key_packages_are_remembered,
            mimi::fetched_key_packages_are_for_a_room,
            mimi::followers_of_mimi_are_owed_what_comes,
            mimi::log_of_mimi_grows,
            mimi::log_of_mimi_is_read_within_bytes,
            mimi::one_notification_of_a_follower_is_in_flight,
            mimi::proposals_since_the_newest_commit_are_loaded,
            mimi::room_of_mimi_is_founded_once,
            mimi_order::delivered_messages_are_known_again,
            mimi_order::old_messages_are_dropped_and_positions_stay,
            mimi_order::forwarded_requests_are_kept_until_their_verdict,
            mimi_order::messages_wait_for_their_epoch,
            mimi_order::readers_read_what_came_while_they_were_there,
            mimi_order::withheld_messages_are_not_read,
            mimi_policy::child_rooms_are_due,
            mimi_policy::join_links_keep_their_terms,
            mimi_policy::one_room_has_fixed_members,
            mimi_reports::reports_are_kept_once_and_decided,
            mimi_reports::open_reports_of_a_provider_are_counted,
            mimi_deletion::nothing_is_kept_for_a_user_who_is_deleted,
            mimi_users::a_profile_is_put_in_place_of_the_one_that_was_read,
            mimi_users::messages_for_local_users_come_in_order,
            mimi_users::same_body_is_delivered_once,
            mimi_users::local_users_read_rooms_from_where_they_came_in,
            mimi_users::shown_join_codes_are_remembered,
            mimi_users::mimi_key_package_is_claimed_once,
            mimi_users::last_resort_mimi_key_package_stays,
            mimi_users::mimi_key_package_is_issued_for_a_room,
            mimi_users::what_is_issued_for_a_hub_pushes_out_its_own,
            mimi_users::mimi_key_packages_on_offer_are_listed,
            mimi_users::parallel_claims_share_no_mimi_key_package,
            mimi_users::consent_is_told_by_scope,
            mimi_users::requests_for_consent_come_and_go,
            mimi_users::users_are_found_by_their_profiles,
            mimi_users::what_is_heard_of_consent_is_bounded,
            mimi_users::granted_key_packages_are_taken_once,
            parked::due_events_come_longest_due_first,
            parked::parking_again_keeps_the_place,
            parked::parking_again_does_not_start_anew,
            parked::unparked_event_is_gone,
            replies::first_reply_stays,
            replies::key_sets_are_few,
            replies::key_sets_are_kept_apart,
            replies::old_replies_expire,
            replies::replies_are_found_together,
            replies::reply_is_kept_by_key,
            transactions::appends_to_many_rooms_are_made_together,
            transactions::batch_sees_its_own_writes,
            transactions::one_refused_append_of_many_undoes_all,
            transactions::refused_batch_leaves_no_trace,
            transactions::refused_batch_does_not_stop_the_others,
            transactions::room_appended_to_twice_in_a_batch,
            transactions::second_event_of_an_lpdu_among_many_rooms,
            transactions::two_appends_of_one_commit_follow_each_other,
        }
    };
    (@each $open:path: $($module:ident::$case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let (store, _keep) = $open().await;
                $crate::contract::$module::$case(&store).await;
            }
        )*
    };
}
