//! What others say about a volume: these bytes changed, those are gone.
//!
//! Parsing and checking only; what to read because of it is decided in `backy_core::policy`.

pub mod rbd_diff;
