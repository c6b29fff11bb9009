//! Faults happen as they were ordered, and nothing else happens.

use backy_store::{MemoryStore, conformance};

use super::*;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn faulty() -> (FaultyStore, MemoryStore) {
    let memory = MemoryStore::new();
    (FaultyStore::new(Arc::new(memory.clone())), memory)
}

fn names(store: &dyn ObjectStore) -> Vec<String> {
    list_all(store, "").unwrap().into_iter().map(|object| object.name.to_string()).collect()
}

#[test]
fn without_trouble_it_conforms() {
    conformance::run(&|| Box::new(faulty().0));
}

#[test]
fn with_retries_and_passing_trouble_it_conforms() {
    let rates = FaultRates { before_permille: 50, after_permille: 50, repeated_permille: 50, ..FaultRates::default() };
    let policy = backy_store::layers::RetryPolicy {
        attempts_max: 30,
        patience: std::time::Duration::ZERO,
        pause_first: std::time::Duration::ZERO,
        pause_max: std::time::Duration::ZERO,
    };
    struct Still;
    impl backy_core::environment::Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }
        fn elapsed(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
        fn sleep(&self, _duration: std::time::Duration) {}
    }
    impl backy_core::environment::Random for Still {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }
    let environment = backy_core::environment::Environment { clock: Arc::new(Still), random: Arc::new(Still) };
    conformance::run(&|| {
        let store = FaultyStore::with_seed(Arc::new(MemoryStore::new()), 7, rates);
        Box::new(backy_store::layers::Retry::new(store, policy, environment.clone()))
    });
}

#[test]
fn failures_happen_before_or_after() {
    let (store, memory) = faulty();
    store.add_rule(Rule::once(Operation::Put, "a", Fault::Before(ErrorKind::Busy)));
    store.add_rule(Rule::once(Operation::Put, "b", Fault::After(ErrorKind::Unavailable)).after(1));
    assert_eq!(store.put(&name("a"), b"1").unwrap_err().kind(), ErrorKind::Busy);
    store.put(&name("b1"), b"2").unwrap();
    assert_eq!(store.put(&name("b2"), b"3").unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(names(&memory), ["b1", "b2"]);
    store.put(&name("a"), b"4").unwrap();
}

#[test]
fn torn_puts_are_visible_only_when_hostile() {
    let (store, memory) = faulty();
    store.add_rule(Rule::once(Operation::Put, "", Fault::Torn));
    store.add_rule(Rule::once(Operation::Put, "", Fault::TornVisible { kept_bytes: 2 }));
    assert!(store.put(&name("a"), b"1234").is_err());
    assert!(names(&memory).is_empty());
    assert!(store.put(&name("a"), b"1234").is_err());
    assert_eq!(memory.get(&name("a"), 10).unwrap(), b"12");
}

#[test]
fn a_full_store_says_so() {
    let (store, memory) = faulty();
    store.no_space_after(10);
    store.put(&name("a"), &[0; 6]).unwrap();
    assert_eq!(store.put(&name("b"), &[0; 5]).unwrap_err().kind(), ErrorKind::NoSpace);
    store.put(&name("c"), &[0; 4]).unwrap();
    assert_eq!(names(&memory), ["a", "c"]);
}

#[test]
fn a_crash_stops_everything_until_the_restart() {
    for (moment, expected) in [(CrashMoment::Before, vec!["a"]), (CrashMoment::After, vec!["a", "b"])] {
        let (store, memory) = faulty();
        store.crash_at_call(2, moment);
        store.put(&name("a"), b"").unwrap();
        assert!(is_crash(&store.put(&name("b"), b"").unwrap_err()));
        assert!(is_crash(&store.put(&name("c"), b"").unwrap_err()));
        assert!(is_crash(&store.delete(&name("a")).unwrap_err()));
        assert!(is_crash(&list_all(&store, "").unwrap_err()) && store.is_crashed());
        assert_eq!(names(&memory), expected);
        store.restart();
        assert_eq!(names(&store), expected);
    }
    let (store, _) = faulty();
    store.crash_after(1);
    store.put(&name("a"), b"").unwrap();
    assert!(is_crash(&store.get(&name("a"), 1).unwrap_err()));
}

#[test]
fn the_same_seed_fails_the_same_way() {
    let rates =
        FaultRates { before_permille: 200, after_permille: 200, repeated_permille: 200, ..FaultRates::default() };
    let log = |seed| {
        let store = FaultyStore::with_seed(Arc::new(MemoryStore::new()), seed, rates);
        for i in 0..100 {
            let _ = store.put(&name(&format!("{i}")), b"x");
            let _ = store.get(&name(&format!("{i}")), 1);
        }
        store.log()
    };
    assert_eq!(log(1), log(1));
    assert_ne!(log(1), log(2));
    let failures = log(1).iter().filter(|call| call.failure == Some(ErrorKind::Unavailable)).count();
    assert!((40..120).contains(&failures), "{failures}");
}

#[test]
fn the_log_tells_what_was_asked() {
    let (store, _) = faulty();
    store.put(&name("a"), b"123").unwrap();
    store.unavailable_for(1);
    assert!(store.get(&name("a"), 9).is_err());
    store.get_range(&name("a"), ObjectRange::Suffix { length_bytes: 2 }, &mut Vec::new()).unwrap();
    let call = |number, operation, bytes, failure| Call { number, operation, name: "a".to_owned(), bytes, failure };
    let expected = [
        call(1, Operation::Put, 3, None),
        call(2, Operation::Get, 0, Some(ErrorKind::Unavailable)),
        call(3, Operation::GetRange, 2, None),
    ];
    assert_eq!(store.log(), expected);
}

#[test]
fn objects_are_damaged_behind_the_back() {
    let (store, _) = faulty();
    let (a, b) = (name("a"), name("b"));
    store.put(&a, b"aaaa").unwrap();
    store.put(&b, b"bbbb").unwrap();
    store.flip_bit(&a, 1).unwrap();
    store.truncate(&b, 2).unwrap();
    store.swap(&a, &b).unwrap();
    assert_eq!((store.get(&a, 9).unwrap(), store.get(&b, 9).unwrap()), (b"bb".to_vec(), b"a`aa".to_vec()));
    store.hide(&a);
    assert_eq!(names(&store), ["b"]);
    store.get(&a, 9).unwrap();
    store.unhide(&a);
    store.lose(&b).unwrap();
    assert_eq!(names(&store), ["a"]);
    store.delay_listings(2);
    store.put(&name("c"), b"").unwrap();
    assert_eq!([names(&store).len(), names(&store).len(), names(&store).len()], [1, 1, 2]);
}

#[test]
fn late_puts_happen_when_they_are_let_and_not_before() {
    let (store, memory) = faulty();
    store.add_rule(Rule::once(Operation::Put, "a", Fault::Late(ErrorKind::Unavailable)));
    store.add_rule(Rule::once(Operation::Put, "b", Fault::RepeatedLate));
    assert_eq!(store.put(&name("a"), b"1").unwrap_err().kind(), ErrorKind::Unavailable);
    store.put(&name("b"), b"2").unwrap();
    store.delete(&name("b")).unwrap();
    store.crash_at_call(1, CrashMoment::Late);
    assert!(is_crash(&store.put(&name("c"), b"3").unwrap_err()));
    assert!(names(&memory).is_empty());
    assert_eq!((store.late_puts(), store.land(1).unwrap()), (3, name("b")));
    assert_eq!(memory.get(&name("b"), 9).unwrap(), b"2");
    store.land(1).unwrap();
    store.land(0).unwrap();
    assert_eq!(names(&memory), ["a", "b", "c"]);
    assert_eq!(store.late_puts(), 0);
    store.restart();
    store.crash_at_call(1, CrashMoment::Late);
    assert!(is_crash(&store.delete(&name("a")).unwrap_err()));
    assert_eq!((store.late_puts(), names(&memory).len()), (0, 3));
}
