//! Objects in a bucket of S3 or of what speaks like it: Ceph RGW, Garage, MinIO.
//!
//! ```text
//!  store          the kind: each call of the seam, in one or a few requests
//!  verify         is what the server stored what was sent?
//!  network        a small runtime of its own: from blocking calls to futures, and how long they may take
//!  transport      one request over HTTP: notes what was answered, and when the last byte moved
//!  answer         from what was answered to our kinds of errors
//!  client         puts the client together
//!  options credentials
//! ```
//!
//! Asynchronous code stays in this folder. Requests are not tried again here but by the layer [`Retry`], which asks
//! for bandwidth and slots anew each time. No request is conditional: some servers ignore the conditions, some race.
//!
//! [`Retry`]: crate::layers::Retry

mod answer;
mod client;
mod credentials;
mod network;
mod options;
mod store;
mod transport;
mod verify;

pub use options::{Addressing, Credentials, Role, S3Options, Secret};
pub use store::S3Store;
