//! The traps that the protocol between jobs was once caught in, as fixed schedules on the real engine. Each was a wording
//! that loses data; the numbers are those of the protocol's paper.
//!
//! Where a trap lies between two calls of a job, the test stops that job before *each* of its calls in turn, lets the other
//! do its work there, and goes on: so a change of the order anywhere in the job is met, not only at the place where the
//! trap once was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails may panic")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

mod cleaners;
mod jobs;
mod late;
mod marks;
mod serving;
mod stage;
