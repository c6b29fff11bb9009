//! Buckets for the tests: in the small server, or in the one that `make test-s3` starts and names in the environment.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use backy_s3_testserver::{ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY, ServerOptions, TestServer};
use backy_store::S3Store;
use backy_store::object_store::list_all;
use backy_store::s3::{Credentials, S3Options, Secret};
use backy_testkit::environment;

use crate::support::Place;

/// A bucket and who may use it; the small server ends with it.
pub struct Bucket {
    server: Option<TestServer>,
    pub endpoint: String,
    pub name: String,
    access_key_id: String,
    pub secret_access_key: String,
    prefix: String,
}

impl Bucket {
    /// Returns the bucket of the environment, or else a new small server.
    pub fn new() -> Bucket {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let variable = |name: &str| std::env::var(format!("BACKY2_TEST_S3_{name}")).ok();
        let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let prefix = format!("test-{since}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match variable("ENDPOINT") {
            Some(endpoint) => Bucket {
                server: None,
                endpoint,
                name: variable("BUCKET").unwrap(),
                access_key_id: variable("ACCESS_KEY_ID").unwrap(),
                secret_access_key: variable("SECRET_ACCESS_KEY").unwrap(),
                prefix,
            },
            None => {
                let server = TestServer::start(ServerOptions { page_size: 50, ..ServerOptions::default() });
                Bucket {
                    endpoint: server.endpoint(),
                    server: Some(server),
                    name: BUCKET.to_owned(),
                    access_key_id: ACCESS_KEY_ID.to_owned(),
                    secret_access_key: SECRET_ACCESS_KEY.to_owned(),
                    prefix,
                }
            }
        }
    }

    pub fn url(&self) -> String {
        format!("s3://{}/{}", self.name, self.prefix)
    }

    /// Returns where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Makes a place below `folder` whose repository is to be in this bucket, at `endpoint`; it is not made yet.
    pub fn place_in(&self, folder: &Path, endpoint: &str, more: &str) -> Place {
        let place = Place { folder: tempfile::tempdir_in(folder).unwrap() };
        let passphrase = place.write("passphrase", b"open sesame\n");
        std::fs::set_permissions(passphrase, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        place.configure(more);
        let text = String::from_utf8(place.read("backy2.toml")).unwrap();
        let directory = format!("repository = {:?}\n", place.path("repository").display().to_string());
        assert!(text.contains(&directory), "{text}");
        place.write("backy2.toml", text.replace(&directory, &self.lines(endpoint)).as_bytes());
        place
    }

    /// Returns the lines of a configuration that say where the repository is, and how it is reached.
    pub fn lines(&self, endpoint: &str) -> String {
        format!(
            "repository = {:?}\ns3_endpoint = {endpoint:?}\ns3_access_key_id = {:?}\ns3_secret_access_key = {:?}\n",
            self.url(),
            self.access_key_id,
            self.secret_access_key
        )
    }

    /// Returns the names of all objects of the repository below a prefix.
    pub fn objects(&self, prefix: &str) -> Vec<String> {
        let credentials = Credentials::Keys {
            access_key_id: self.access_key_id.clone(),
            secret_access_key: Secret::new(&self.secret_access_key),
            session_token: None,
        };
        let options = S3Options { endpoint: Some(self.endpoint.clone()), credentials, ..S3Options::default() };
        let store = S3Store::open(&self.name, &self.prefix, &options, environment(1)).unwrap();
        list_all(&store, prefix).unwrap().into_iter().map(|object| object.name.to_string()).collect()
    }
}
