//! How the tests reach the small server.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use backy_core::environment::{Clock, Environment, Random, Timestamp};
use backy_s3_testserver::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, TestServer};
use backy_store::s3::{Credentials, S3Options, Secret};

pub fn keys() -> Credentials {
    Credentials::Keys {
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key: Secret::new(SECRET_ACCESS_KEY),
        session_token: None,
    }
}

pub fn options(server: &TestServer) -> S3Options {
    S3Options { endpoint: Some(server.endpoint()), credentials: keys(), ..S3Options::default() }
}

/// Time that passes for real, as it does on a network, but pauses are a hundredth of what they were to be.
struct HastyClock(Instant);

impl Clock for HastyClock {
    fn now(&self) -> Timestamp {
        Timestamp::default().plus(self.0.elapsed())
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration / 100);
    }
}

impl Random for HastyClock {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0x77);
    }
}

pub fn environment() -> Environment {
    let clock = Arc::new(HastyClock(Instant::now()));
    Environment { clock: clock.clone(), random: clock }
}
