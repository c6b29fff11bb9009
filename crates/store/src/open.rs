//! The one table from the scheme of a URL to the kind of store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backy_core::environment::Environment;
use backy_core::{Error, ErrorKind, Result};

use crate::directory::DirectoryStore;
use crate::layers::{Counters, Limit, Observe, Retry, RetryPolicy, Throttle};
use crate::object_store::ObjectStore;

/// Whether a store is made or must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenHow {
    /// For a new repository: it is made, and must be empty if it is there.
    Create,
    /// It must be there.
    Existing,
}

/// How much may be asked of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// How many reads at the same time, at least 1.
    pub simultaneous_reads: usize,
    /// How many writes at the same time, at least 1.
    pub simultaneous_writes: usize,
    /// How many bytes are read per second at most; no limit if there is none.
    pub read_bytes_per_second: Option<u64>,
    /// How many bytes are written per second at most; no limit if there is none.
    pub write_bytes_per_second: Option<u64>,
}

/// Eight reads and three writes at the same time, at any speed.
impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            simultaneous_reads: 8,
            simultaneous_writes: 3,
            read_bytes_per_second: None,
            write_bytes_per_second: None,
        }
    }
}

/// Opens the store at `url`: a path, or `file://` and an absolute path, which is taken literally.
///
/// # Errors
/// `NotFound` and `AlreadyExists` as `how` demands; `Unsupported` for a scheme that this build does not know.
pub fn open(
    url: &str,
    how: OpenHow,
    options: &StoreOptions,
    environment: &Environment,
) -> Result<Arc<dyn ObjectStore>> {
    open_counted(url, how, options, environment, Arc::default())
}

/// Opens the store at `url` like [`open`]; the requests that reach the store are counted in `counters`.
pub fn open_counted(
    url: &str,
    how: OpenHow,
    options: &StoreOptions,
    environment: &Environment,
    counters: Arc<Counters>,
) -> Result<Arc<dyn ObjectStore>> {
    check(options)?;
    let store: Box<dyn ObjectStore> = match locate(url)? {
        Location::Directory(path) => Box::new(open_directory(&path, how)?),
    };
    let store = Observe::new(store, counters);
    let store = Limit::new(store, options.simultaneous_reads, options.simultaneous_writes);
    let (reads, writes) = (options.read_bytes_per_second, options.write_bytes_per_second);
    let store = Throttle::new(store, reads, writes, &environment.clock);
    Ok(Arc::new(Retry::new(store, RetryPolicy::default(), environment.clone())))
}

/// What a URL means.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    Directory(PathBuf),
}

fn locate(url: &str) -> Result<Location> {
    let path = match url.split_once("://") {
        None => url,
        Some(("file", path)) if path.starts_with('/') => path,
        Some(("file", _)) => {
            return Err(Error::invalid(format!("{url:?}: after file:// comes an absolute path, as in file:///backup")));
        }
        Some((scheme, _)) => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("this build does not know {scheme}:// yet; it knows directories, as file:///backup or /backup"),
            ));
        }
    };
    if path.is_empty() || path.contains('\0') {
        return Err(Error::invalid(format!("{url:?} does not say where the repository is")));
    }
    Ok(Location::Directory(PathBuf::from(path)))
}

fn open_directory(path: &Path, how: OpenHow) -> Result<DirectoryStore> {
    match how {
        OpenHow::Create => DirectoryStore::create(path),
        OpenHow::Existing => DirectoryStore::open(path),
    }
}

fn check(options: &StoreOptions) -> Result<()> {
    let is_possible = options.simultaneous_reads > 0
        && options.simultaneous_writes > 0
        && options.read_bytes_per_second != Some(0)
        && options.write_bytes_per_second != Some(0);
    if is_possible {
        return Ok(());
    }
    Err(Error::invalid("simultaneous reads and writes of a store, and their bytes per second, are at least 1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::test_environment::environment;
    use crate::probe::probe;

    #[test]
    fn urls_mean_what_they_say() {
        for (url, path) in [("file:///a b%20c", "/a b%20c"), ("/a", "/a"), ("a/b", "a/b"), ("./s3:x", "./s3:x")] {
            assert_eq!(locate(url).unwrap(), Location::Directory(PathBuf::from(path)), "{url}");
        }
        for url in ["", "file://", "file://host/path", "a\0b"] {
            assert_eq!(locate(url).unwrap_err().kind(), ErrorKind::InvalidInput, "{url}");
        }
        for url in ["s3://bucket", "http://host/"] {
            assert_eq!(locate(url).unwrap_err().kind(), ErrorKind::Unsupported, "{url}");
        }
        assert!(locate("s3://bucket").unwrap_err().to_string().contains("this build does not know s3:// yet"));
    }

    #[test]
    fn a_store_is_created_once_and_opened_with_all_layers() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/new", folder.path().display());
        let (options, environment) = (StoreOptions::default(), environment());
        let kind = |how| open(&url, how, &options, &environment).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(kind(OpenHow::Existing), Err(ErrorKind::NotFound));
        let counters = Arc::new(Counters::default());
        let store = open_counted(&url, OpenHow::Create, &options, &environment, counters.clone()).unwrap();
        probe(&store).unwrap();
        assert!(counters.counts().puts > 0);
        assert_eq!(store.url(), url);
        assert_eq!(kind(OpenHow::Create), Ok(()), "an empty one may be created again");
        store.put(&backy_core::names::repository(), b"{}").unwrap();
        assert_eq!(kind(OpenHow::Create), Err(ErrorKind::AlreadyExists));
        assert_eq!(kind(OpenHow::Existing), Ok(()));
    }

    #[test]
    fn options_that_would_stop_everything_are_refused() {
        let options = StoreOptions { write_bytes_per_second: Some(0), ..StoreOptions::default() };
        let error = open("/nowhere", OpenHow::Existing, &options, &environment()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
