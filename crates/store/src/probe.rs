//! Asks a store whether it keeps its promises, before data is entrusted to it.
//!
//! `init` calls this on a new repository. It finds gateways without suffix ranges, mounts that truncate, caches that
//! list what is gone. It cannot find a store that loses data in a power cut.

use backy_core::names::ObjectName;
use backy_core::{Error, ErrorKind, Result, ResultExt};

use crate::object_store::{ObjectRange, ObjectStore, list_all};

/// What the names of the scratch objects begin with. No object of a repository does.
pub const SCRATCH_PREFIX: &str = "probe-";

/// The size of the large scratch object in bytes: not a multiple of anything.
const LARGE_BYTES: u32 = 200_003;

/// Tries all that is asked of a store with scratch objects, which it removes again.
///
/// # Errors
/// `Unsupported` names the promise that was broken. Any other kind means that the store could not be asked.
pub fn probe(store: &dyn ObjectStore) -> Result<()> {
    clear(store).context(|| format!("probe {}", store.url()))?;
    let outcome = ask(store).context(|| format!("probe {}", store.url()));
    let cleared = clear(store).context(|| format!("probe {}", store.url()));
    outcome.and(cleared)
}

fn ask(store: &dyn ObjectStore) -> Result<()> {
    let large = scratch("large")?;
    let small = scratch("large.small")?;
    let empty = scratch("large-empty")?;
    let body: Vec<u8> = (0..LARGE_BYTES).map(|i| i.wrapping_mul(0x9e37_79b9).to_be_bytes()[0]).collect();

    is_missing(store, &large)?;
    store.put(&large, &body)?;
    check(store.get(&large, u64::from(LARGE_BYTES))? == body, "an object that was put is read back the same")?;
    store.put(&small, b"first")?;
    store.put(&empty, b"")?;
    check(store.get(&empty, 0)?.is_empty(), "an object may be empty")?;
    check_ranges(store, &large, &body)?;

    store.put(&small, b"second")?;
    check(store.get(&small, 100)? == b"second", "an object that was replaced reads as the new one at once")?;
    let sizes: Vec<_> = list_all(store, SCRATCH_PREFIX)?.into_iter().map(|o| (o.name, o.size_bytes)).collect();
    let expected = [(large.clone(), u64::from(LARGE_BYTES)), (empty.clone(), 0), (small.clone(), 6)];
    check(sizes == expected, "all objects are listed at once, by the bytes of their names, with their sizes")?;
    let listed = list_all(store, small.as_str())?;
    check(listed.len() == 1, "a listing is cut to a prefix that ends within a name")?;

    for name in [&large, &small, &empty] {
        store.delete(name)?;
        is_missing(store, name)?;
        store.delete(name).context(|| "deleting an object that is gone succeeds")?;
    }
    check(list_all(store, SCRATCH_PREFIX)?.is_empty(), "an object that was deleted is not listed any more")
}

fn check_ranges(store: &dyn ObjectStore, name: &ObjectName, body: &[u8]) -> Result<()> {
    let size_bytes = body.len() as u64;
    let mut buffer = vec![1, 2, 3];
    for (start, end) in [(0, 10), (4095, 4098), (70_001, 199_999), (body.len() - 1, body.len())] {
        let range = ObjectRange::Exact { offset_bytes: start as u64, length_bytes: (end - start) as u64 };
        store.get_range(name, range, &mut buffer)?;
        check(body.get(start..end) == Some(&buffer), "a part of an object is read exactly")?;
    }
    for length in [1, 1000, body.len(), body.len() + 1000] {
        store.get_range(name, ObjectRange::Suffix { length_bytes: length as u64 }, &mut buffer)?;
        check(body.ends_with(&buffer) && buffer.len() == length.min(body.len()), "the end of an object is read alone")?;
    }
    let beyond = ObjectRange::Exact { offset_bytes: size_bytes - 1, length_bytes: 2 };
    let is_refused = store.get_range(name, beyond, &mut buffer).is_err_and(|e| e.kind() == ErrorKind::Damaged);
    check(is_refused, "a read beyond the end of an object is refused")
}

fn is_missing(store: &dyn ObjectStore, name: &ObjectName) -> Result<()> {
    match store.get(name, u64::from(LARGE_BYTES)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => check(false, "an object that was never put or was deleted is not there"),
    }
}

fn check(is_kept: bool, promise: &str) -> Result<()> {
    if is_kept {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("this store breaks a promise that backups depend on and cannot be used: {promise}"),
    ))
}

fn clear(store: &dyn ObjectStore) -> Result<()> {
    list_all(store, SCRATCH_PREFIX)?.iter().try_for_each(|object| store.delete(&object.name))
}

fn scratch(name: &str) -> Result<ObjectName> {
    ObjectName::new(format!("{SCRATCH_PREFIX}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use crate::object_store::ObjectInfo;

    #[test]
    fn an_honest_store_passes_and_is_left_as_it_was() {
        let store = MemoryStore::new();
        store.put(&scratch("left-by-a-crash").unwrap(), b"x").unwrap();
        probe(&store).unwrap();
        assert!(list_all(&store, "").unwrap().is_empty());
    }

    /// A store that breaks one promise.
    struct Liar {
        inner: MemoryStore,
        lie: Lie,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Lie {
        IgnoresSuffix,
        Truncates,
        KeepsFirst,
        ListsNothing,
        ListsBackwards,
        DeletesNothing,
    }

    impl ObjectStore for Liar {
        fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
            match self.lie {
                Lie::Truncates => self.inner.put(name, &body[..body.len().min(65536)]),
                Lie::KeepsFirst if self.inner.get(name, u64::MAX).is_ok() => Ok(()),
                _ => self.inner.put(name, body),
            }
        }
        fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
            self.inner.get(name, size_bytes_max)
        }
        fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
            let range = match range {
                ObjectRange::Suffix { .. } if self.lie == Lie::IgnoresSuffix => {
                    ObjectRange::Suffix { length_bytes: u64::MAX }
                }
                range => range,
            };
            self.inner.get_range(name, range, buffer)
        }
        fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
            let mut objects = list_all(&self.inner, prefix)?;
            match self.lie {
                Lie::ListsNothing => objects.clear(),
                Lie::ListsBackwards => objects.reverse(),
                _ => {}
            }
            objects.into_iter().try_for_each(visit)
        }
        fn delete(&self, name: &ObjectName) -> Result<()> {
            if self.lie == Lie::DeletesNothing { Ok(()) } else { self.inner.delete(name) }
        }
        fn url(&self) -> String {
            "liar:".to_owned()
        }
    }

    #[test]
    fn a_store_that_breaks_a_promise_is_refused_with_that_promise() {
        for (lie, words) in [
            (Lie::IgnoresSuffix, "the end of an object is read alone"),
            (Lie::Truncates, "read back the same"),
            (Lie::KeepsFirst, "reads as the new one at once"),
            (Lie::ListsNothing, "all objects are listed"),
            (Lie::ListsBackwards, "by the bytes of their names"),
            (Lie::DeletesNothing, "was deleted is not there"),
        ] {
            let error = probe(&Liar { inner: MemoryStore::new(), lie }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
