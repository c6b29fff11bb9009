//! The one table from the scheme of a URL to the kind of store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backy_core::environment::Environment;
use backy_core::{Error, ErrorKind, Result};

use crate::directory::DirectoryStore;
use crate::layers::{Counters, Limit, Observe, Retry, RetryPolicy, Throttle};
use crate::object_store::ObjectStore;
use crate::s3::{S3Options, S3Store};

/// The longest prefix in a bucket, in bytes: keys have 1024 at most, and names of objects need some of them.
const PREFIX_LENGTH_MAX: usize = 700;

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
    /// How long requests to a store that has answered before are tried again.
    pub patience: Duration,
    /// How buckets are reached.
    pub s3: S3Options,
}

/// Eight reads and three writes at the same time, at any speed.
impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            simultaneous_reads: 8,
            simultaneous_writes: 3,
            read_bytes_per_second: None,
            write_bytes_per_second: None,
            patience: Duration::from_secs(600),
            s3: S3Options::default(),
        }
    }
}

/// Opens the store at `url`: a path; `file://` and an absolute path, which is taken literally; or `s3://BUCKET/PREFIX`.
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
        Location::Bucket { name, prefix } => {
            let open = match how {
                OpenHow::Create => S3Store::create,
                OpenHow::Existing => S3Store::open,
            };
            Box::new(open(&name, &prefix, &options.s3, environment.clone())?)
        }
    };
    let store = Observe::new(store, counters);
    let store = Limit::new(store, options.simultaneous_reads, options.simultaneous_writes);
    let (reads, writes) = (options.read_bytes_per_second, options.write_bytes_per_second);
    let store = Throttle::new(store, reads, writes, &environment.clock);
    let policy = RetryPolicy { patience: options.patience, ..RetryPolicy::default() };
    Ok(Arc::new(Retry::new(store, policy, environment.clone())))
}

/// What a URL means.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    Directory(PathBuf),
    Bucket { name: String, prefix: String },
}

fn locate(url: &str) -> Result<Location> {
    let path = match url.split_once("://") {
        None => url,
        Some(("file", path)) if path.starts_with('/') => path,
        Some(("file", _)) => {
            return Err(Error::invalid(format!("{url:?}: after file:// comes an absolute path, as in file:///backup")));
        }
        Some(("s3", rest)) => return locate_bucket(url, rest),
        Some((scheme, _)) => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("this build does not know {scheme}:// yet; it knows file:///backup and s3://BUCKET/PREFIX"),
            ));
        }
    };
    if path.is_empty() || path.contains('\0') {
        return Err(Error::invalid(format!("{url:?} does not say where the repository is")));
    }
    Ok(Location::Directory(PathBuf::from(path)))
}

fn locate_bucket(url: &str, rest: &str) -> Result<Location> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let is_of = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    let is_bucket = !name.is_empty() && name.len() <= 255 && is_of(name, ".-_") && !name.starts_with(['.', '-']);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && is_of(part, ".-_=+");
    if is_bucket && (prefix.is_empty() || prefix.split('/').all(is_part)) && prefix.len() <= PREFIX_LENGTH_MAX {
        return Ok(Location::Bucket { name: name.to_owned(), prefix: prefix.to_owned() });
    }
    Err(Error::invalid(format!(
        "{url:?} is no s3://BUCKET/PREFIX; both are of letters, digits, dots, dashes and underscores, and hold no password"
    )))
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
        for url in ["gs://bucket", "http://host/"] {
            assert_eq!(locate(url).unwrap_err().kind(), ErrorKind::Unsupported, "{url}");
        }
        assert!(locate("gs://bucket").unwrap_err().to_string().contains("this build does not know gs:// yet"));
        for (url, name, prefix) in [
            ("s3://bucket", "bucket", ""),
            ("s3://my.bucket/", "my.bucket", ""),
            ("s3://Old_Bucket/a/b-c/", "Old_Bucket", "a/b-c"),
        ] {
            let expected = Location::Bucket { name: name.to_owned(), prefix: prefix.to_owned() };
            assert_eq!(locate(url).unwrap(), expected, "{url}");
        }
        for url in ["s3://", "s3:///a", "s3://id:secret@bucket", "s3://b/a//b", "s3://b/../c", "s3://b/a b", "s3://b?x"]
        {
            assert_eq!(locate(url).unwrap_err().kind(), ErrorKind::InvalidInput, "{url}");
        }
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
