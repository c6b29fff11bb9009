//! Models of the protocol between jobs, and a checker that walks through every interleaving of one.
//!
//! Nothing of the product uses this crate, and it uses nothing of the product.

pub mod bits;
pub mod checker;
