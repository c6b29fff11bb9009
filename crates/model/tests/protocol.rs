//! With no sentence left out, nothing breaks: I1 to I10 of `docs/protocol.md` in every state of every scenario.
//!
//! The large scenarios are left out of the normal tests; `make model` runs them. `BACKY2_MODEL_STATES_MAX` says how
//! many states each may have, 40 million unless told. A state takes some 20 bytes, and the widest level some 200 bytes
//! a state.

use std::hash::{BuildHasher, RandomState};

use backy_model::checker::{Model, walk, wander};
use backy_model::deletion::invariant::Watch;
use backy_model::deletion::scenario::Scenario;
use backy_model::deletion::{Deletion, cases};
use backy_model::labels::Labels;
use backy_model::leader::Leader;

fn assert_nothing_breaks<M: Model>(model: &M) {
    let outcome = walk(model, 2_000_000);
    println!("{outcome}");
    assert!(outcome.counterexample.is_none() && outcome.is_complete, "{outcome}");
}

fn assert_kept(scenario: Scenario) {
    assert_nothing_breaks(&Deletion { scenario, trap: None, watch: Watch::All });
}

#[test]
fn an_orphan_is_swept_or_used_never_both() {
    assert_kept(cases::orphan());
}

#[test]
fn a_stale_catalog_is_harmless() {
    assert_kept(cases::stale_index());
}

#[test]
fn cleanups_that_give_their_records_one_number_are_harmless() {
    assert_kept(cases::same_number());
}

#[test]
fn a_base_outlives_the_jobs_that_build_on_it() {
    assert_kept(cases::base());
}

#[test]
fn a_checkpoint_outlives_the_jobs_that_go_on_from_it() {
    assert_kept(cases::continued());
}

#[test]
fn a_void_version_becomes_good_only_by_a_recheck() {
    assert_kept(cases::void());
}

#[test]
fn a_job_builds_on_a_void_version_only_what_stays() {
    assert_kept(cases::void_base());
}

#[test]
fn a_pack_is_rewritten_beside_a_job_that_uses_it() {
    assert_kept(cases::half_dead_pack());
}

#[test]
fn two_cleanups_rewrite_one_pack_and_copies_fail() {
    assert_kept(cases::two_rewriters());
}

#[test]
fn a_pack_is_healed_while_it_is_rewritten() {
    assert_kept(cases::healing());
}

#[test]
fn a_job_of_many_hours_takes_a_new_lease() {
    assert_kept(cases::renewal());
}

#[test]
fn a_reader_of_many_hours_takes_a_new_lease() {
    assert_kept(cases::reader_renewal());
}

#[test]
fn puts_that_are_done_twice_are_harmless() {
    assert_kept(cases::repeated_puts());
}

#[test]
fn a_listing_that_takes_time_is_done_again_when_something_moved() {
    assert_kept(cases::slow_listing());
}

#[test]
fn a_lease_may_be_changed_while_leases_are_listed() {
    assert_kept(cases::slow_listing_of_leases());
}

#[test]
fn two_jobs_go_on_from_one_checkpoint() {
    assert_kept(cases::two_continue());
}

#[test]
fn one_cleanup_acts_at_a_time_and_one_acts() {
    assert_nothing_breaks(&Leader { lowest_wins: false });
}

#[test]
fn no_change_of_a_label_is_lost() {
    assert_nothing_breaks(&Labels::default());
}

#[test]
fn wandering_through_everything_at_once_breaks_nothing() {
    let seed = fresh_seed();
    println!("seed {seed}");
    let model = Deletion { scenario: cases::everything(), trap: None, watch: Watch::All };
    let outcome = wander(&model, seed, 3_000, 200);
    println!("{outcome}");
    assert!(outcome.counterexample.is_none(), "seed {seed}: {outcome}");
}

#[test]
#[ignore = "takes tens of millions of steps"]
fn long_wandering_through_everything_at_once() {
    let seed = fresh_seed();
    let model = Deletion { scenario: cases::everything(), trap: None, watch: Watch::All };
    let begin = std::time::Instant::now();
    let outcome = wander(&model, seed, 500_000, 200);
    println!("wandering through everything, seed {seed}: {outcome}; {} s", begin.elapsed().as_secs());
    assert!(outcome.counterexample.is_none(), "seed {seed}: {outcome}");
}

/// Returns another seed for each run, or the one that BACKY2_MODEL_SEED tells.
fn fresh_seed() -> u64 {
    let told = std::env::var("BACKY2_MODEL_SEED").ok().and_then(|text| text.parse().ok());
    told.unwrap_or_else(|| RandomState::new().hash_one(0))
}

/// Walks as far as it may, and says how far that was.
fn assert_kept_as_far_as_seen(name: &str, scenario: Scenario) {
    let states_max = std::env::var("BACKY2_MODEL_STATES_MAX").ok().and_then(|text| text.parse().ok());
    let begin = std::time::Instant::now();
    let outcome = walk(&Deletion { scenario, trap: None, watch: Watch::All }, states_max.unwrap_or(40_000_000));
    println!("{name}: {outcome}; {} s", begin.elapsed().as_secs());
    assert!(outcome.counterexample.is_none(), "{outcome}");
}

#[test]
#[ignore = "walks through millions of states"]
fn long_two_jobs_and_a_cleanup() {
    assert_kept_as_far_as_seen("two jobs, one cleanup", cases::two_jobs());
}

#[test]
#[ignore = "walks through millions of states"]
fn long_one_job_and_two_cleanups() {
    assert_kept_as_far_as_seen("one job, two cleanups", cases::two_cleanups());
}

#[test]
#[ignore = "walks through millions of states"]
fn long_two_jobs_and_two_cleanups() {
    assert_kept_as_far_as_seen("two jobs, two cleanups", cases::two_and_two());
}

#[test]
#[ignore = "walks through millions of states"]
fn long_a_job_beside_two_rewriters() {
    assert_kept_as_far_as_seen("a job, two rewriters, healing", cases::rewriting());
}

#[test]
#[ignore = "walks through millions of states"]
fn long_a_new_lease_beside_two_cleanups() {
    assert_kept_as_far_as_seen("a new lease, two cleanups", cases::long_renewal());
}

#[test]
#[ignore = "walks through millions of states"]
fn long_a_reader_with_a_new_lease_beside_two_cleanups() {
    let name = "a reader with a new lease, two cleanups, listings that take time";
    assert_kept_as_far_as_seen(name, cases::reader_renewal_beside_slow_listings());
}

#[test]
#[ignore = "walks through millions of states"]
fn long_a_listing_that_takes_time_beside_two_jobs() {
    assert_kept_as_far_as_seen("two jobs, a slow listing", cases::slow_listing_of_a_chain());
}
