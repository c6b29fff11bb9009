//! Real processes on one repository, from three hosts, killed at random moments: nothing that was published is lost.
//!
//! Backups (with hints and without, continued too), removals, cleanups, restores, checks, scrubs and leases that are given
//! up run at random beside each other. At the end the leases of the dead are given up, and then a cleanup must leave what
//! the versions need and nothing else. `BACKY2_SEED` repeats the plan; what happens when is up to the machine.
//! `BACKY2_TORTURE_SECONDS` says how long; `make torture` sets both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod disks;
mod siege;
mod support;

use std::time::Duration;

use disks::{is_long, seed};
use siege::Siege;

#[test]
fn nothing_published_is_lost_whatever_runs_and_dies_beside_it() {
    let given = std::env::var("BACKY2_TORTURE_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    let seconds = given.unwrap_or(if is_long() { 600 } else { 40 });
    let siege = Siege::new(seed());
    siege.run(Duration::from_secs(seconds));
    siege.tidy_up();
    siege.compare_all();
    siege.leave_nothing();
}
