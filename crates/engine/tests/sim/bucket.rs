//! A bucket for the simulation: in the small server, or in the one that `make test-s3` starts and names in the environment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use backy_s3_testserver::{ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY, ServerOptions, TestServer};
use backy_store::layers::{Retry, RetryPolicy};
use backy_store::s3::{Credentials, S3Options, Secret};
use backy_store::{ObjectStore, S3Store};
use backy_testkit::environment;

pub struct Bucket {
    server: Option<TestServer>,
    name: String,
    options: S3Options,
    number: AtomicU64,
}

impl Bucket {
    pub fn new() -> Bucket {
        let variable = |name: &str| std::env::var(format!("BACKY2_TEST_S3_{name}")).ok();
        let endpoint = variable("ENDPOINT");
        let server = match endpoint {
            Some(_) => None,
            None => Some(TestServer::start(ServerOptions { page_size: 50, ..ServerOptions::default() })),
        };
        let given = |name: &str, small: &str| variable(name).unwrap_or_else(|| small.to_owned());
        let credentials = Credentials::Keys {
            access_key_id: given("ACCESS_KEY_ID", ACCESS_KEY_ID),
            secret_access_key: Secret::new(given("SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)),
            session_token: None,
        };
        let endpoint = endpoint.or(server.as_ref().map(TestServer::endpoint));
        let options = S3Options { endpoint, credentials, ..S3Options::default() };
        Bucket { server, name: given("BUCKET", BUCKET), options, number: AtomicU64::new(0) }
    }

    /// Says whether it is not that of the small server.
    pub fn is_real(&self) -> bool {
        self.server.is_none()
    }

    pub fn url(&self) -> String {
        format!("s3://{}", self.name)
    }

    /// Returns a place in the bucket where nothing is yet. What passes is tried again: faults are the simulation's to make.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let since = UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let prefix = format!("test-sim-{since}-{}-{number}", std::process::id());
        let store = S3Store::create(&self.name, &prefix, &self.options, environment(number)).unwrap();
        Arc::new(Retry::new(store, RetryPolicy::default(), environment(number)))
    }
}
