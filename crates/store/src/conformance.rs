//! One suite that every kind of store and every layer passes: the promises of [`object_store`](crate::object_store).
//!
//! [`run`] panics with what did not hold; it is for tests, and is public so that tests of other crates can use it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a suite of tests")]

use backy_core::ErrorKind;
use backy_core::names::ObjectName;

use crate::object_store::{ObjectRange, ObjectStore, list_all};
use crate::probe::probe;

/// Runs the suite on stores that `make` makes; each must be empty and its own.
pub fn run(make: &dyn Fn() -> Box<dyn ObjectStore>) {
    bodies_of_all_sizes_come_back(&*make());
    what_is_not_there_is_not_found(&*make());
    objects_larger_than_allowed_are_refused(&*make());
    ranges_are_exact(&*make());
    listings_are_in_the_order_of_names(&*make());
    listings_end_when_the_visitor_fails(&*make());
    put_replaces(&*make());
    delete_is_final_and_may_be_repeated(&*make());
    names_at_the_limit_are_kept(&*make());
    many_threads_work_at_once(&*make());
    readers_see_whole_objects_while_they_are_replaced(&*make());
    folders_come_and_go_under_puts(&*make());
    probe(&*make()).unwrap();
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// Returns bytes that differ between seeds and repeat nowhere near.
fn body(seed: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) << 1 | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn listed(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    list_all(store, prefix).unwrap().into_iter().map(|object| object.name.to_string()).collect()
}

fn bodies_of_all_sizes_come_back(store: &dyn ObjectStore) {
    let sizes = [0, 1, 511, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20, (4 << 20) + 4096, (9 << 20) + 77];
    for (seed, size) in (0..).zip(sizes) {
        let expected = body(seed, size);
        let name = name(&format!("packs/0190f3/{size}"));
        store.put(&name, &expected).unwrap();
        assert!(store.get(&name, size as u64).unwrap() == expected, "{size} bytes come back");
        assert!(store.get(&name, size as u64).unwrap() == expected, "{size} bytes come back twice");
    }
    let found: u64 = list_all(store, "packs/").unwrap().iter().map(|object| object.size_bytes).sum();
    assert_eq!(found, sizes.iter().sum::<usize>() as u64);
}

fn what_is_not_there_is_not_found(store: &dyn ObjectStore) {
    let mut buffer = Vec::new();
    store.put(&name("a/b/c"), b"x").unwrap();
    for missing in ["b", "a/c", "a/b/d", "a/b-", "x/y/z", "a/b", "a"] {
        assert_eq!(store.get(&name(missing), 10).unwrap_err().kind(), ErrorKind::NotFound, "{missing}");
        let range = ObjectRange::Suffix { length_bytes: 1 };
        let error = store.get_range(&name(missing), range, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{missing}");
    }
    let error = store.get(&name("x/y/z"), 10).unwrap_err();
    assert!(error.to_string().contains("x/y/z"), "{error}");
}

fn objects_larger_than_allowed_are_refused(store: &dyn ObjectStore) {
    store.put(&name("a"), &[7; 100]).unwrap();
    assert_eq!(store.get(&name("a"), 99).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(store.get(&name("a"), 100).unwrap().len(), 100);
    assert_eq!(store.get(&name("a"), u64::MAX).unwrap().len(), 100);
}

fn ranges_are_exact(store: &dyn ObjectStore) {
    for size in [0_usize, 10, 70_000, (5 << 20) + 13] {
        let whole = body(1, size);
        store.put(&name("a/b"), &whole).unwrap();
        let mut buffer = vec![9; 5];
        for start in [0, 1, 9, 10, 4095, 65536, (4 << 20) - 1, size.saturating_sub(1), size] {
            for length in [0, 1, 2, 4096, 65536, 100_000, (4 << 20) + 1, size] {
                let range = ObjectRange::Exact { offset_bytes: start as u64, length_bytes: length as u64 };
                let outcome = store.get_range(&name("a/b"), range, &mut buffer);
                match whole.get(start..start + length) {
                    Some(expected) => assert!(outcome.is_ok() && buffer == expected, "{length} at {start} of {size}"),
                    None => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Damaged, "{length} at {start}"),
                }
            }
        }
        for length in [0, 1, 10, 4097, size, size + 1] {
            let range = ObjectRange::Suffix { length_bytes: length as u64 };
            store.get_range(&name("a/b"), range, &mut buffer).unwrap();
            assert!(buffer == whole[size - length.min(size)..], "the last {length} of {size}");
        }
        let range = ObjectRange::Suffix { length_bytes: u64::MAX };
        store.get_range(&name("a/b"), range, &mut buffer).unwrap();
        assert!(buffer == whole);
        let range = ObjectRange::Exact { offset_bytes: u64::MAX, length_bytes: u64::MAX };
        assert_eq!(store.get_range(&name("a/b"), range, &mut buffer).unwrap_err().kind(), ErrorKind::Damaged);
        assert!(buffer.is_empty(), "nothing old is left in the buffer of a failed read");
    }
}

fn listings_are_in_the_order_of_names(store: &dyn ObjectStore) {
    let mut all =
        ["a-b", "a.b", "a/b", "a/b-c", "a/b0/c", "a/b1", "a0", "a_b", "b/c/d/e", "b/c/d-e", "b/c.d", "ab", "z", "0/1"];
    for text in all.iter().rev() {
        store.put(&name(text), text.as_bytes()).unwrap();
    }
    all.sort_unstable();
    let prefixes = [
        "", "a", "a/", "a/b", "a/b/", "a/b0", "a/b0/", "a/b0/c", "a/b0/cd", "b", "b/c", "b/c/", "b/c/d/", "b/c.", "z",
        "zz", "0/", "c", "/", "a//", "../", ".", "A",
    ];
    for prefix in prefixes {
        let expected: Vec<_> = all.into_iter().filter(|text| text.starts_with(prefix)).collect();
        assert_eq!(listed(store, prefix), expected, "prefix {prefix:?}");
    }
    for object in list_all(store, "").unwrap() {
        assert_eq!(object.size_bytes, object.name.as_str().len() as u64);
    }
}

fn listings_end_when_the_visitor_fails(store: &dyn ObjectStore) {
    for text in ["a", "b", "c"] {
        store.put(&name(text), b"").unwrap();
    }
    let mut visits = 0;
    let outcome = store.list("", &mut |_| {
        visits += 1;
        if visits == 2 { Err(backy_core::Error::invalid("enough")) } else { Ok(()) }
    });
    assert_eq!((visits, outcome.unwrap_err().to_string().as_str()), (2, "enough"));
}

fn put_replaces(store: &dyn ObjectStore) {
    for (seed, size) in [(1, 100), (2, 70_000), (3, 10), (4, 0), (5, 70_001)] {
        store.put(&name("leases/a"), &body(seed, size)).unwrap();
        assert!(store.get(&name("leases/a"), u64::MAX).unwrap() == body(seed, size));
        assert_eq!(listed(store, ""), ["leases/a"]);
    }
}

fn delete_is_final_and_may_be_repeated(store: &dyn ObjectStore) {
    for text in ["a", "packs/1/a", "packs/1/b"] {
        store.put(&name(text), b"x").unwrap();
    }
    for text in ["a", "packs/1/a", "packs/1/a", "packs/1/b", "packs/1/b", "never/was", "a"] {
        store.delete(&name(text)).unwrap();
        assert_eq!(store.get(&name(text), 10).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!listed(store, "").contains(&text.to_owned()));
    }
    assert!(listed(store, "").is_empty());
    store.put(&name("packs/1/a"), b"again").unwrap();
    assert_eq!(store.get(&name("packs/1/a"), 10).unwrap(), b"again");
}

fn names_at_the_limit_are_kept(store: &dyn ObjectStore) {
    let mut deep = "a/".repeat(ObjectName::LENGTH_MAX / 2 - 1);
    deep.push_str("bc");
    for text in [deep, "b".repeat(ObjectName::LENGTH_MAX), "c._-0".to_owned()] {
        store.put(&name(&text), text.as_bytes()).unwrap();
        assert_eq!(store.get(&name(&text), 1000).unwrap(), text.as_bytes());
        assert_eq!(listed(store, &text), [text.as_str()]);
        store.delete(&name(&text)).unwrap();
    }
    assert!(listed(store, "").is_empty());
}

fn many_threads_work_at_once(store: &dyn ObjectStore) {
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            scope.spawn(move || {
                for i in 0..6 {
                    let name = name(&format!("packs/{i}/{thread}"));
                    let expected = body(thread, 1000 * (i + 1) * (thread as usize * 10 + 1));
                    store.put(&name, &expected).unwrap();
                    assert!(store.get(&name, u64::MAX).unwrap() == expected);
                    assert!(listed(store, &format!("packs/{i}/")).contains(&name.to_string()));
                    if i % 2 == 0 {
                        store.delete(&name).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(listed(store, "").len(), 12);
}

fn readers_see_whole_objects_while_they_are_replaced(store: &dyn ObjectStore) {
    let lease = name("leases/a");
    store.put(&lease, &[0; 5000]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for fill in 1..40_u8 {
                store.put(&lease, &vec![fill; 5000 + usize::from(fill) * 10]).unwrap();
            }
        });
        for _ in 0..40 {
            let found = store.get(&lease, 10_000).unwrap();
            let fill = found[0];
            assert!(found.iter().all(|b| *b == fill) && found.len() == 5000 + usize::from(fill) * 10);
            assert_eq!(listed(store, "leases/"), ["leases/a"]);
        }
    });
}

fn folders_come_and_go_under_puts(store: &dyn ObjectStore) {
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                let name = name(&format!("packs/shared/{thread}"));
                for _ in 0..15 {
                    store.put(&name, b"x").unwrap();
                    assert_eq!(store.get(&name, 1).unwrap(), b"x");
                    store.delete(&name).unwrap();
                }
            });
        }
    });
    assert!(listed(store, "").is_empty());
}
