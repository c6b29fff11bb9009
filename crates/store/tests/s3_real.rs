//! The kind `s3://` against the server that `make test-s3` starts, or any other one that the environment names.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod s3_support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backy_core::names::ObjectName;
use backy_store::layers::{Retry, RetryPolicy};
use backy_store::object_store::list_all;
use backy_store::s3::{Credentials, S3Options, Secret};
use backy_store::{ObjectStore, S3Store, conformance};
use backy_testkit::proxy::{Proxy, Trouble};
use s3_support::environment;

/// Returns the bucket, and how it is reached; nothing if there is none.
fn real() -> Option<(String, S3Options)> {
    let variable = |name: &str| std::env::var(format!("BACKY2_TEST_S3_{name}")).ok();
    let Some(endpoint) = variable("ENDPOINT") else {
        println!("skipped: needs a real S3 server; make test-s3 starts one");
        return None;
    };
    let credentials = Credentials::Keys {
        access_key_id: variable("ACCESS_KEY_ID").unwrap(),
        secret_access_key: Secret::new(variable("SECRET_ACCESS_KEY").unwrap()),
        session_token: None,
    };
    let options = S3Options { endpoint: Some(endpoint), credentials, ..S3Options::default() };
    Some((variable("BUCKET").unwrap(), options))
}

fn prefix() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("test-{since}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn a_real_bucket_conforms() {
    let Some((bucket, options)) = real() else { return };
    conformance::run(&|| Box::new(S3Store::create(&bucket, &prefix(), &options, environment()).unwrap()));
}

#[test]
fn a_real_bucket_behind_a_bad_network_conforms() {
    let Some((bucket, options)) = real() else { return };
    let target: SocketAddr = options.endpoint.as_ref().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = Proxy::start(target, 1).unwrap();
    proxy.trouble(100, &[Trouble::Cut, Trouble::Reset, Trouble::Truncate, Trouble::Delay, Trouble::Stall]);
    let endpoint = Some(format!("http://{}", proxy.address()));
    let options = S3Options { endpoint, timeout: Duration::from_secs(5), ..options };
    let policy = RetryPolicy { attempts_max: 200, ..RetryPolicy::default() };
    conformance::run(&|| {
        let store = S3Store::open(&bucket, &prefix(), &options, environment()).unwrap();
        Box::new(Retry::new(store, policy, environment()))
    });
}

#[test]
fn more_objects_than_a_page_are_listed_and_deleted() {
    let Some((bucket, options)) = real() else { return };
    let store = S3Store::create(&bucket, &prefix(), &options, environment()).unwrap();
    let names: Vec<ObjectName> = (0..1234).map(|i| ObjectName::new(format!("packs/{i:04}")).unwrap()).collect();
    std::thread::scope(|scope| {
        for part in names.chunks(400) {
            let store = &store;
            scope.spawn(move || part.iter().for_each(|name| store.put(name, b"x").unwrap()));
        }
    });
    let listed: Vec<ObjectName> = list_all(&store, "packs/").unwrap().into_iter().map(|object| object.name).collect();
    assert!(listed == names);
    assert!(store.delete_many(&names).iter().all(Result::is_ok));
    assert!(list_all(&store, "").unwrap().is_empty());
}
