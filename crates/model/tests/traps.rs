//! Each trap of `docs/protocol.md`: the sentence is left out, and the checker shows what it was there for.
//!
//! That nothing breaks in the same scenarios when no sentence is left out is shown in `protocol.rs`. A found way is
//! printed, so `cargo test --package backy2-model --test traps h9 -- --nocapture` tells the story of H9.

use backy_model::checker::{Model, walk, wander};
use backy_model::deletion::invariant::Watch;
use backy_model::deletion::scenario::Scenario;
use backy_model::deletion::trap::Trap;
use backy_model::deletion::{Deletion, cases};
use backy_model::labels::Labels;
use backy_model::leader::Leader;

const STATES_MAX: usize = 2_000_000;

/// Asserts that `scenario` does harm to a user when a sentence is left out, and which.
fn assert_harm(trap: Trap, scenario: Scenario, broken: &str) {
    assert_found(&Deletion { scenario, trap: Some(trap), watch: Watch::Harm }, broken);
}

fn assert_found<M: Model>(model: &M, broken: &str) {
    let outcome = walk(model, STATES_MAX);
    println!("{outcome}");
    let found = outcome.counterexample.map(|counterexample| counterexample.broken).unwrap_or_default();
    assert!(found.starts_with(broken), "nothing breaks, or another promise: {found:?}");
}

#[test]
fn h1_leases_listed_after_the_mark_lose_what_was_published_between() {
    assert_harm(Trap::LeasesAfterMark, cases::orphan(), "I1");
}

#[test]
fn h2_older_by_the_clock_misses_a_job_that_began_before_the_record_was_visible() {
    assert_harm(Trap::OlderByClock, cases::orphan(), "I1");
}

#[test]
fn h3_a_removed_version_deleted_at_once_was_the_base_of_a_job() {
    assert_harm(Trap::VersionsNotCondemned, cases::base(), "I1");
}

#[test]
fn h4_a_listed_manifest_that_is_gone_has_given_its_slots_to_another() {
    assert_harm(Trap::GoneManifestIgnored, cases::continued(), "I1");
}

#[test]
fn h5_a_slot_taken_off_the_list_is_on_the_sweep_list_of_another_cleanup() {
    assert_harm(Trap::Uncondemning, cases::void(), "I1");
}

#[test]
fn h6_two_records_of_one_name_hide_what_the_first_condemned() {
    assert_harm(Trap::RecordNameShared, cases::same_number(), "I2");
}

#[test]
fn h7_a_cursor_of_numbers_misses_a_late_record() {
    assert_harm(Trap::NumberCursor, cases::same_number(), "I1");
}

#[test]
fn h8_a_condemned_slot_comes_back_with_a_rebuilt_index() {
    assert_harm(Trap::DroppedOnce, cases::stale_index(), "I1");
}

#[test]
fn h9_a_recheck_finds_a_slot_that_is_about_to_be_swept() {
    assert_harm(Trap::RecheckWithoutLog, cases::void(), "I1");
}

#[test]
fn h10_a_pack_rewritten_to_the_live_slots_loses_one_that_a_job_uses() {
    assert_harm(Trap::RewriteTheLive, cases::half_dead_pack(), "I1");
}

#[test]
fn h11_without_its_revocation_a_dead_job_lives_again() {
    assert_harm(Trap::RevocationTidied, cases::void(), "I2");
}

#[test]
fn h12_a_revocation_comes_between_the_look_and_the_manifest() {
    assert_harm(Trap::RevocationBeforeManifest, cases::void_base(), "I1");
}

#[test]
fn h13_a_base_map_from_before_the_lease_protects_nothing() {
    assert_harm(Trap::BaseFromBeforeLease, cases::base(), "I1");
}

#[test]
fn h13_a_condemned_base_goes_away_under_a_job() {
    assert_harm(Trap::CondemnedBase, cases::base(), "I1");
}

#[test]
fn h13_a_mark_that_skips_void_versions_sweeps_what_a_recheck_makes_good() {
    assert_harm(Trap::MarkSkipsVoid, cases::void(), "I1");
}

#[test]
fn h13_slots_deleted_before_the_manifests_leave_broken_versions() {
    assert_harm(Trap::SlotsBeforeManifests, cases::base(), "I1");
}

#[test]
fn h14_the_lowest_id_is_not_alone() {
    assert_found(&Leader { lowest_wins: true }, "2 cleanups act at once");
}

#[test]
fn h15_two_rewriters_of_one_name_lose_the_good_copy() {
    assert_harm(Trap::GenerationNameShared, cases::two_rewriters(), "I1");
}

#[test]
fn h16_a_late_rewrite_hides_a_healed_slot() {
    assert_harm(Trap::HighestGenerationAlone, cases::healing(), "I1");
}

#[test]
fn h16_an_older_generation_deleted_unverified_was_the_last_good_one() {
    assert_harm(Trap::NotVerified, cases::two_rewriters(), "I1");
}

#[test]
fn h17_an_orphan_label_is_deleted_just_before_its_manifest_comes() {
    assert_found(&Labels { deletes_orphans: true, ..Labels::default() }, "a protection is lost");
}

#[test]
fn h18_the_newest_label_does_not_know_the_one_beside_it() {
    assert_found(&Labels { newest_wins: true, ..Labels::default() }, "a protection is lost");
}

#[test]
fn h18_a_removal_that_is_a_label_is_lost() {
    assert_found(&Labels { newest_wins: true, ..Labels::removal_and_note() }, "a removal is lost");
}

#[test]
fn h19_a_listing_that_takes_time_misses_both_the_base_and_what_was_built_on_it() {
    assert_harm(Trap::ListingIsOneMoment, cases::slow_listing(), "I1");
}

#[test]
fn h20_a_late_revocation_takes_back_a_reported_success() {
    assert_harm(Trap::NoMarkByTheJob, cases::orphan(), "I10");
}

#[test]
fn h20_a_mark_put_without_a_look_makes_a_void_version_good() {
    assert_harm(Trap::MarkWithoutLook, cases::orphan(), "I1");
}

#[test]
fn h21_two_jobs_that_publish_under_one_name_overwrite_the_good_version() {
    assert_harm(Trap::ManifestNameShared, cases::two_continue(), "I1");
}

#[test]
fn h22_a_repeated_put_brings_back_a_version_without_its_tombstone() {
    assert_harm(Trap::TombstoneTidied, cases::repeated_puts(), "I1");
}

#[test]
fn h23_a_lease_changed_without_a_look_gives_up_what_is_condemned() {
    assert_harm(Trap::ChangeWithoutLook, cases::renewal(), "I1");
    assert_harm(Trap::ChangeWithoutLook, cases::reader_renewal(), "I1");
}

#[test]
fn h23_an_old_lease_dropped_before_the_look_protected_what_is_condemned() {
    assert_harm(Trap::OldLeaseDroppedFirst, cases::renewal(), "I1");
    assert_harm(Trap::OldLeaseDroppedFirst, cases::reader_renewal(), "I1");
}

#[test]
fn who_wanders_through_everything_at_once_finds_traps_too() {
    let trap = Some(Trap::NotVerified);
    let model = Deletion { scenario: cases::everything(), trap, watch: Watch::Harm };
    let outcome = wander(&model, 1, 20_000, 200);
    println!("{outcome}");
    assert!(outcome.counterexample.is_some(), "nothing breaks although a sentence is left out");
}
