//! The kind `s3://` against a small server in memory: the one suite, what servers do on a bad day, who we are to them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod s3_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backy_core::environment::Environment;
use backy_core::names::ObjectName;
use backy_core::{ErrorKind, Result};
use backy_s3_testserver::{BUCKET, SECRET_ACCESS_KEY, ServerOptions, TestServer};
use backy_store::layers::{Retry, RetryPolicy};
use backy_store::object_store::list_all;
use backy_store::s3::{Addressing, Credentials, Role, S3Options, Secret};
use backy_store::{ObjectRange, ObjectStore, S3Store, conformance};
use backy_testkit::clock::SimulatedClock;
use s3_support::{environment, keys, options};

fn server(more: impl FnOnce(&mut ServerOptions)) -> TestServer {
    let mut options = ServerOptions::default();
    more(&mut options);
    TestServer::start(options)
}

fn open(server: &TestServer) -> S3Store {
    S3Store::open(BUCKET, "p", &options(server), environment()).unwrap()
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Runs the suite below a new prefix for each store.
fn conforms(options: &S3Options) {
    let next = AtomicUsize::new(0);
    conformance::run(&|| {
        let prefix = format!("p/{}", next.fetch_add(1, Ordering::Relaxed));
        Box::new(S3Store::create(BUCKET, &prefix, options, environment()).unwrap())
    });
}

#[test]
fn a_bucket_conforms() {
    conforms(&options(&server(|_| {})));
}

#[test]
fn a_bucket_conforms_over_tls_with_tags_that_are_no_sums() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|options| {
        options.is_tls = true;
        options.has_md5_tags = false;
    });
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, server.ca_pem().unwrap()).unwrap();
    conforms(&S3Options { ca_file: Some(ca_file), ..options(&server) });
}

#[test]
fn a_server_that_our_authority_does_not_vouch_for_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (server(|options| options.is_tls = true), server(|options| options.is_tls = true));
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ours.ca_pem().unwrap()).unwrap();
    let options = S3Options { ca_file: Some(ca_file), ..options(&theirs) };
    let store = S3Store::open(BUCKET, "", &options, environment()).unwrap();
    let error = store.put(&name("a"), b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(theirs.requests(), 0);
}

#[test]
fn what_is_stored_otherwise_than_sent_is_found_and_sent_again() {
    for has_md5_tags in [true, false] {
        let server = server(|options| options.has_md5_tags = has_md5_tags);
        let store = open(&server);
        server.garble_puts(1);
        let error = store.put(&name("a"), b"body").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        store.put(&name("a"), b"body").unwrap();
        // Also when the server's tags are known to be none of ours: then the length shows it.
        server.garble_puts(1);
        assert_eq!(kind_of(store.put(&name("a"), b"body")), Some(ErrorKind::Unavailable));
        server.garble_puts(1);
        let store = Retry::new(store, RetryPolicy::default(), environment());
        store.put(&name("a"), b"body").unwrap();
        assert_eq!(store.get(&name("a"), 9).unwrap(), b"body");
    }
}

#[test]
fn a_put_is_one_request_where_tags_are_sums_and_two_elsewhere() {
    for (has_md5_tags, expected) in [(true, 1), (false, 2)] {
        let server = server(|options| options.has_md5_tags = has_md5_tags);
        let store = open(&server);
        store.put(&name("a"), b"first").unwrap();
        let before = server.requests();
        store.put(&name("b"), b"second").unwrap();
        assert_eq!(server.requests() - before, expected);
    }
}

#[test]
fn a_server_that_asks_to_slow_down_is_left_alone_as_long_as_it_wants() {
    let server = server(|_| {});
    let clock = Arc::new(SimulatedClock::default());
    let simulated = Environment { clock: clock.clone(), ..environment() };
    let store = S3Store::open(BUCKET, "", &options(&server), simulated.clone()).unwrap();
    server.slow_down(1, Duration::from_secs(100));
    let before = simulated.clock.elapsed();
    assert_eq!(kind_of(store.put(&name("a"), b"x")), Some(ErrorKind::Busy));
    store.put(&name("a"), b"x").unwrap();
    let waited = simulated.clock.elapsed() - before;
    assert!(waited >= Duration::from_secs(100), "{waited:?}");
    server.slow_down(5, Duration::from_secs(1));
    Retry::new(store, RetryPolicy::default(), simulated).put(&name("a"), b"x").unwrap();
}

#[test]
fn many_objects_are_deleted_with_few_requests_and_one_by_one_where_that_is_unknown() {
    for deletes_many in [true, false] {
        let server = server(|options| options.deletes_many = deletes_many);
        let store = open(&server);
        let names: Vec<ObjectName> = (0..1003).map(|i| name(&format!("packs/{i:04}"))).collect();
        for name in &names {
            server.plant(&format!("p/{name}"), b"x");
        }
        let before = server.requests();
        let outcomes = store.delete_many(&names);
        assert!(outcomes.len() == names.len() && outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(server.requests() - before, if deletes_many { 2 } else { 1004 });
        assert!(server.keys().is_empty());
    }
}

#[test]
fn what_is_locked_is_refused_and_keeps_nothing_else_from_being_deleted() {
    for deletes_many in [true, false] {
        let server = server(|options| {
            options.deletes_many = deletes_many;
            options.locked = Some("locked".to_owned());
        });
        let store = open(&server);
        let names = ["a", "locked-b", "c"].map(name);
        for name in &names {
            store.put(name, b"x").unwrap();
        }
        assert_eq!(kind_of(store.delete(&name("locked-b"))), Some(ErrorKind::Refused));
        let kinds: Vec<_> = store.delete_many(&names).into_iter().map(kind_of).collect();
        assert_eq!(kinds, [None, Some(ErrorKind::Refused), None]);
        assert_eq!(server.keys(), ["p/locked-b"]);
    }
}

#[test]
fn a_new_repository_wants_a_bucket_and_an_empty_place_in_it() {
    let server = server(|_| {});
    let create = |bucket, prefix| S3Store::create(bucket, prefix, &options(&server), environment()).map(|_| ());
    server.plant("ab/repository.json", b"{}");
    server.plant("a/probe-left-by-a-crash", b"x");
    create(BUCKET, "a").unwrap();
    create(BUCKET, "new").unwrap();
    assert_eq!(kind_of(create(BUCKET, "ab")), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind_of(create(BUCKET, "")), Some(ErrorKind::AlreadyExists));
    let error = create("elsewhere", "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("bucket"), "{error}");
}

#[test]
fn what_others_keep_in_the_bucket_is_passed_over() {
    let server = server(|_| {});
    for key in ["a", "p", "p/", "p0/b", "p/Upper", "p/own/x", "p/own/space in it", "q/c"] {
        server.plant(key, b"x");
    }
    let store = open(&server);
    let listed = list_all(&store, "").unwrap();
    assert_eq!(listed.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["own/x"]);
    assert_eq!(store.url(), format!("s3://{BUCKET}/p"));
}

#[test]
fn wrong_credentials_are_said_and_no_secret_with_them() {
    let server = server(|_| {});
    let secret = "wrong-but-secret-all-the-same";
    let credentials = Credentials::Keys {
        access_key_id: "TESTSERVERKEY".to_owned(),
        secret_access_key: Secret::new(secret),
        session_token: Some(Secret::new(secret)),
    };
    let options = S3Options { credentials, ..options(&server) };
    let store = S3Store::open(BUCKET, "", &options, environment()).unwrap();
    let error = store.put(&name("a"), b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let shown = format!("{error} {error:?} {options:?}");
    assert!(shown.contains("SignatureDoesNotMatch") && !shown.contains(secret), "{shown}");
    assert_eq!(kind_of(store.delete(&name("a"))), Some(ErrorKind::PermissionDenied));
}

#[test]
fn credentials_come_from_a_file_or_from_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let (server, machine) = (server(|_| {}), server(|_| {}));
    let path = folder.path().join("credentials");
    let text = format!("[x]\naws_access_key_id=TESTSERVERKEY\naws_secret_access_key={SECRET_ACCESS_KEY}\n");
    std::fs::write(&path, text).unwrap();
    let of_file = Credentials::File { path, profile: "x".to_owned() };
    let of_machine = Role { metadata_endpoint: Some(machine.endpoint()), ..Role::default() };
    for credentials in [of_file, Credentials::Role(of_machine)] {
        let options = S3Options { credentials, ..options(&server) };
        let store = S3Store::open(BUCKET, "", &options, environment()).unwrap();
        store.put(&name("a"), b"x").unwrap();
    }
    assert!(machine.requests() >= 3);
    machine.slow_down(1, Duration::ZERO);
    let nobody = Role { metadata_endpoint: Some(machine.endpoint()), ..Role::default() };
    let options = S3Options { credentials: Credentials::Role(nobody), ..options(&server) };
    let error = S3Store::open(BUCKET, "", &options, environment()).unwrap().get(&name("a"), 1).unwrap_err();
    assert!(error.to_string().contains("credentials"), "{error}");
}

#[test]
fn the_bucket_may_stand_in_the_host() {
    // The name resolves nowhere; that it was asked for is what the error shows.
    let options = S3Options {
        endpoint: Some("http://host.invalid:1".to_owned()),
        addressing: Addressing::Host,
        ..S3Options { credentials: keys(), ..S3Options::default() }
    };
    let store = S3Store::open("backups", "", &options, environment()).unwrap();
    assert_eq!(kind_of(store.get(&name("a"), 1)), Some(ErrorKind::Unavailable));
}

#[test]
fn parts_cost_one_request_each() {
    let server = server(|_| {});
    let store = open(&server);
    store.put(&name("a"), &[7; 10_000]).unwrap();
    let before = server.requests();
    let mut buffer = Vec::new();
    store.get_range(&name("a"), ObjectRange::Suffix { length_bytes: 100 }, &mut buffer).unwrap();
    store.get_range(&name("a"), ObjectRange::Exact { offset_bytes: 5, length_bytes: 7 }, &mut buffer).unwrap();
    store.get(&name("a"), 10_000).unwrap();
    assert_eq!(server.requests() - before, 3);
}
