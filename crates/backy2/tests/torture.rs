//! Real processes on one repository, from three hosts, killed at random moments: nothing that was published is lost.
//!
//! Backups (with hints and without, continued too), removals, cleanups, restores, checks, scrubs and leases that are given
//! up run at random beside each other. At the end the leases of the dead are given up, and then a cleanup must leave what
//! the versions need and nothing else. `BACKY2_SEED` repeats the plan; what happens when is up to the machine.
//! `BACKY2_TORTURE_SECONDS` says how long; `make torture` sets both.
//!
//! The same in a bucket, behind a network that cuts, resets, truncates and delays: `make test-s3` runs it for a minute against
//! a real Ceph RGW, and for ten with `--long`; without a real server it runs for a shorter time against the small one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod buckets;
mod disks;
mod siege;
mod support;

use std::time::Duration;

use disks::{is_long, seed};
use siege::{Ground, Siege};

fn time(usual_seconds: u64) -> Duration {
    let given = std::env::var("BACKY2_TORTURE_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    Duration::from_secs(given.unwrap_or(usual_seconds))
}

#[test]
fn nothing_published_is_lost_whatever_runs_and_dies_beside_it() {
    Siege::new(seed(), Ground::Folder).withstand(time(if is_long() { 600 } else { 40 }));
}

#[test]
fn nothing_published_is_lost_in_a_bucket_whatever_runs_and_dies_beside_it() {
    let is_real = std::env::var_os("BACKY2_TEST_S3_ENDPOINT").is_some();
    let usual_seconds = match (is_real, is_long()) {
        (true, true) => 600,
        (true, false) | (false, true) => 60,
        (false, false) => 20,
    };
    let seed = seed();
    Siege::new(seed, Ground::bucket(seed)).withstand(time(usual_seconds));
}
