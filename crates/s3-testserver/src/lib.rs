//! A small S3 server in memory, on loopback, for tests.
//!
//! The protocol (requests, XML, signatures) is that of the crate `s3s`, written by others than our client; the objects
//! are in a map. It can do on demand what servers do on a bad day: ask to slow down, store something else than what was
//! sent, refuse deletions, answer with other tags, and it can be the metadata service that hands out credentials.
//!
//! ```text
//!  bucket     the objects and the calls on them
//!  front      connections, TLS, throttling, the metadata service
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "for tests only: what fails here fails the test"
)]

mod bucket;
mod front;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Runtime;

use bucket::Bucket;
use front::Front;

/// The only bucket that is there.
pub const BUCKET: &str = "backups";
/// The name of the key that the server knows.
pub const ACCESS_KEY_ID: &str = "TESTSERVERKEY";
/// Its secret.
pub const SECRET_ACCESS_KEY: &str = "testserver/secret+that-must-not-be-shown";

/// What kind of server it is.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// How many objects a page of a listing has.
    pub page_size: usize,
    /// Whether it speaks TLS, with a certificate of an authority of its own.
    pub is_tls: bool,
    /// Whether entity tags are MD5 sums.
    pub has_md5_tags: bool,
    /// Whether it can delete several objects with one request.
    pub deletes_many: bool,
    /// Objects whose key contains this cannot be deleted.
    pub locked: Option<String>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions { page_size: 7, is_tls: false, has_md5_tags: true, deletes_many: true, locked: None }
    }
}

/// A running server; it ends when it is dropped.
pub struct TestServer {
    address: SocketAddr,
    ca_pem: Option<String>,
    bucket: Bucket,
    front: Arc<Front>,
    runtime: Option<Runtime>,
}

impl TestServer {
    /// Starts a server on a free port of 127.0.0.1.
    pub fn start(options: ServerOptions) -> TestServer {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let bucket = Bucket::new(options.clone());
        let (front, ca_pem) = Front::new(bucket.clone(), options.is_tls);
        let front = Arc::new(front);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(front.clone().serve(listener));
        TestServer { address, ca_pem, bucket, front, runtime: Some(runtime) }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its URL.
    pub fn endpoint(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns the certificate of the authority that vouches for it, if it speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Answers the next `count` requests with "slow down", and asks to stay away for `pause`.
    pub fn slow_down(&self, count: usize, pause: Duration) {
        self.front.slow_down(count, pause);
    }

    /// Stores something else than what is sent, for the next `count` puts.
    pub fn garble_puts(&self, count: usize) {
        self.bucket.garble_puts.store(count, Ordering::SeqCst);
    }

    /// Returns how many requests have come.
    pub fn requests(&self) -> usize {
        self.front.requests.load(Ordering::SeqCst)
    }

    /// Returns the keys of all objects, in order.
    pub fn keys(&self) -> Vec<String> {
        self.bucket.keys()
    }

    /// Puts an object, whatever its key.
    pub fn plant(&self, key: &str, body: &[u8]) {
        self.bucket.plant(key, body);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
