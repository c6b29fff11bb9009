//! The seam to where objects are kept.
//!
//! An implementation promises four things; `conformance` checks them, and a store that cannot keep them is refused:
//!
//! 1. **Atomic, durable put.** When `put` has returned, the whole object outlives a power cut; before, readers see
//!    nothing or the whole object, never a part. (A put that failed may still have happened.)
//! 2. **Read after write.** An object that was put is read, in full and in ranges, by everybody at once.
//! 3. **List after write.** It is also listed at once; a deleted one is not.
//! 4. **Delete** is final when it has returned, and succeeds if there is nothing to delete. A store may refuse to delete
//!    an object for now, because a rule protects it (retention, an append-only policy): that is `Refused`, and no other
//!    error is. Who deletes keeps such an object on its list and tries again another day.
//!
//! No conditional put, no rename, no append, no time is asked of a store. Names are never used twice, with one
//! exception (a lease is renewed in place), so `put` replaces what is there.

use std::sync::Arc;

use backy_core::environment::Timestamp;
use backy_core::names::ObjectName;
use backy_core::{Error, Result};

/// Which bytes of an object to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectRange {
    /// From `offset_bytes`, exactly `length_bytes`. Fails with `Damaged` if the object ends before.
    Exact {
        /// Where to begin.
        offset_bytes: u64,
        /// How many bytes.
        length_bytes: u64,
    },
    /// The last `length_bytes`, or the whole object if it is shorter.
    Suffix {
        /// How many bytes at most.
        length_bytes: u64,
    },
}

impl ObjectRange {
    /// Returns the offset and length, in bytes, of this part of an object of `size_bytes`.
    ///
    /// Fails with `Damaged` if the object ends before the range does.
    pub fn within(self, name: &ObjectName, size_bytes: u64) -> Result<(u64, u64)> {
        match self {
            ObjectRange::Exact { offset_bytes, length_bytes } => {
                let is_within = offset_bytes.checked_add(length_bytes).is_some_and(|end_bytes| end_bytes <= size_bytes);
                if is_within {
                    return Ok((offset_bytes, length_bytes));
                }
                Err(Error::damaged(format!(
                    "read {name}: it ends at {size_bytes}, before {length_bytes} bytes at {offset_bytes}"
                )))
            }
            ObjectRange::Suffix { length_bytes } => {
                let length_bytes = length_bytes.min(size_bytes);
                Ok((size_bytes - length_bytes, length_bytes))
            }
        }
    }
}

/// What a listing says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The object's name.
    pub name: ObjectName,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// A place that keeps objects. See the module for what it promises.
pub trait ObjectStore: Send + Sync {
    /// Stores `body` under `name`; durable when it returns.
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()>;

    /// Reads a whole object of at most `size_bytes_max`; `NotFound` if it is not there, `Damaged` if it is larger.
    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>>;

    /// Reads a part of an object into `buffer`, which is cleared first.
    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()>;

    /// Calls `visit` for each object whose name begins with `prefix`, in the order of their names.
    ///
    /// `prefix` ends anywhere in a name, also in the middle of a part. What is not an object of a repository (temporary
    /// files, names that break the rules) is passed over.
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()>;

    /// Deletes an object; no error if it is not there, `Refused` if it may not be deleted now.
    fn delete(&self, name: &ObjectName) -> Result<()>;

    /// Deletes several objects with as few requests as possible; returns for each, in their order, how it went.
    ///
    /// One that cannot be deleted keeps no other one from it.
    fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
        names.iter().map(|name| self.delete(name)).collect()
    }

    /// Returns how many bytes are worth reading with one request, as far as memory allows: more where each request costs
    /// time, whatever its size. Good advice, not a limit.
    fn piece_bytes(&self) -> u32 {
        4 << 20
    }

    /// Returns where this is, as a URL without secrets.
    fn url(&self) -> String;

    /// Removes what crashed puts have left behind and nobody has touched since `before`; returns how many pieces.
    ///
    /// Such leftovers are invisible and only take room. `before` must lie longer ago than any put can take, plus the
    /// difference between the clocks; a put that loses its temporary file fails.
    fn remove_stale_temporaries(&self, before: Timestamp) -> Result<u64> {
        let _ = before;
        Ok(0)
    }
}

/// Lists the objects whose names begin with `prefix` into a vector, in order.
pub fn list_all(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<ObjectInfo>> {
    let mut objects = Vec::new();
    store.list(prefix, &mut |object| {
        objects.push(object);
        Ok(())
    })?;
    Ok(objects)
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<S: ObjectStore + ?Sized> ObjectStore for $pointer {
            fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
                (**self).put(name, body)
            }
            fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
                (**self).get(name, size_bytes_max)
            }
            fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
                (**self).get_range(name, range, buffer)
            }
            fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
                (**self).list(prefix, visit)
            }
            fn delete(&self, name: &ObjectName) -> Result<()> {
                (**self).delete(name)
            }
            fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
                (**self).delete_many(names)
            }
            fn piece_bytes(&self) -> u32 {
                (**self).piece_bytes()
            }
            fn url(&self) -> String {
                (**self).url()
            }
            fn remove_stale_temporaries(&self, before: Timestamp) -> Result<u64> {
                (**self).remove_stale_temporaries(before)
            }
        }
    )*};
}

// So that a layer goes around a store of any kind, and several layers share one.
forward!(Box<S>, Arc<S>);
