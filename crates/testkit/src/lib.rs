//! Devices, stores, networks and clocks that fail on demand, for the tests of backy2.
//!
//! Everything follows from seeds, so that a failing test can be repeated.

pub mod clock;
pub mod device;
pub mod gate;
pub mod pattern;
pub mod proxy;
pub mod random;
pub mod store;

pub use random::environment;
