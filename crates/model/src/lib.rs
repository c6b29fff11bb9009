//! The protocol of `docs/protocol.md` as a model, and a checker that walks through every interleaving of it.
//!
//! Whoever changes the protocol changes the model first and lets the checker look. Nothing of the product uses this
//! crate, and it uses nothing of the product: it is the paper in a form that can be run.
//!
//! ```text
//!  checker    breadth first through all states of a model; the shortest way to a broken promise
//!  deletion   jobs, cleanups, rm, revocation, rechecks, healing, rewritten packs; traps H1-H13, H15, H16
//!  leader     which of several cleanups goes on; trap H14
//!  labels     labels of versions that are not published yet, and their fold; traps H17, H18
//! ```
//!
//! A trap is a sentence of the protocol left out. The tests show that the checker finds what each of them breaks, and
//! nothing when none is left out. A step of the model is one operation of the store.

pub mod bits;
pub mod checker;
pub mod deletion;
pub mod labels;
pub mod leader;
