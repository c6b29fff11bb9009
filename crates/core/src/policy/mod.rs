//! The decisions, as functions of facts: no device, no store, no clock.
//!
//! ```text
//!  hints      byte ranges that changed  -> blocks to read, blocks that are zero
//!  audit      what hints call unchanged -> runs to read all the same
//!  read_plan  all of it                 -> what a backup does with each block
//!  removal    a version's label and age -> may it be removed
//!  gc         log, leases, mark         -> what to condemn, what to delete
//! ```

pub mod audit;
pub mod gc;
pub mod hints;
pub mod read_plan;
pub mod removal;
