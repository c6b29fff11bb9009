//! The kind `s3://` behind a bad network: whatever it does, what was put is there, and what is read is right.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod s3_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backy_core::ErrorKind;
use backy_core::names::ObjectName;
use backy_s3_testserver::{BUCKET, ServerOptions, TestServer};
use backy_store::layers::{Retry, RetryPolicy};
use backy_store::s3::S3Options;
use backy_store::{ObjectStore, S3Store, conformance};
use backy_testkit::proxy::{Proxy, Trouble};
use s3_support::{environment, options};

fn seed() -> u64 {
    let seed = std::env::var("BACKY2_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("BACKY2_SEED={seed}");
    seed
}

fn behind(proxy: &Proxy, server: &TestServer, timeout: Duration) -> S3Options {
    S3Options { endpoint: Some(format!("http://{}", proxy.address())), timeout, ..options(server) }
}

fn retried(options: &S3Options, prefix: &str) -> Retry<S3Store> {
    let policy = RetryPolicy { attempts_max: 200, ..RetryPolicy::default() };
    Retry::new(S3Store::open(BUCKET, prefix, options, environment()).unwrap(), policy, environment())
}

#[test]
fn a_bucket_behind_a_bad_network_conforms() {
    let server = TestServer::start(ServerOptions::default());
    let proxy = Proxy::start(server.address(), seed()).unwrap();
    let all = [Trouble::Cut, Trouble::Reset, Trouble::Truncate, Trouble::Delay, Trouble::Stall];
    proxy.trouble(300, &all);
    let options = behind(&proxy, &server, Duration::from_millis(500));
    let next = AtomicUsize::new(0);
    conformance::run(&|| Box::new(retried(&options, &next.fetch_add(1, Ordering::Relaxed).to_string())));
    let (connections, troubled) = proxy.counts();
    println!("{troubled} of {connections} connections had trouble");
    assert!(troubled > 10);
}

#[test]
fn a_connection_on_which_nothing_moves_is_given_up() {
    let server = TestServer::start(ServerOptions::default());
    let proxy = Proxy::start(server.address(), 1).unwrap();
    proxy.trouble(1000, &[Trouble::Stall]);
    let store = S3Store::open(BUCKET, "", &behind(&proxy, &server, Duration::from_millis(300)), environment()).unwrap();
    let error = store.put(&ObjectName::new("a").unwrap(), &vec![7; 8 << 20]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no byte has moved"), "{error}");
}

#[test]
fn an_outage_is_waited_out_by_all_who_were_at_work() {
    let server = TestServer::start(ServerOptions::default());
    let proxy = Proxy::start(server.address(), 1).unwrap();
    let options = behind(&proxy, &server, Duration::from_secs(5));
    let policy = RetryPolicy { patience: Duration::from_secs(60), ..RetryPolicy::default() };
    let store = S3Store::open(BUCKET, "", &options, environment()).unwrap();
    let store = Arc::new(Retry::new(store, policy, environment()));
    store.put(&ObjectName::new("before").unwrap(), b"x").unwrap();
    std::thread::scope(|scope| {
        proxy.set_down(true);
        for thread in 0..4_u8 {
            let store = store.clone();
            scope.spawn(move || {
                let name = ObjectName::new(format!("during/{thread}")).unwrap();
                store.put(&name, &vec![thread; 3 << 20]).unwrap();
                assert!(store.get(&name, u64::MAX).unwrap() == vec![thread; 3 << 20]);
            });
        }
        // Until some have failed, with connections refused and broken.
        while proxy.counts().0 < 20 {
            std::thread::yield_now();
        }
        proxy.set_down(false);
    });
    assert_eq!(server.keys().len(), 5);
}
