//! An NBD server: versions, and disks on top of them, for everything that speaks the protocol.
//!
//! ```text
//!  wire           the messages, as values
//!  export         what is offered: a disk and a name     versions    the versions of a repository as exports
//!  negotiate      which export, in which dialect
//!  transmit       requests and replies, until one side goes away
//!  stream tls     the connection, plain or encrypted
//!  listen         sockets, and a thread for each connection
//!  kernel         the connection to a /dev/nbdN of this machine
//! ```
//!
//! Whatever a client sends, at worst its own connection ends.

pub mod export;
pub mod kernel;
pub mod listen;
pub mod tls;
pub mod versions;
pub mod wire;

mod negotiate;
mod stream;
mod sys;
mod transmit;
