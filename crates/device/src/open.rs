//! The one table from URL scheme to implementation.
//!
//! `file://PATH`, or a path alone, is a regular file or block device; every character of the path stands for itself.
//! `null://SIZE` is generated data, or a drain. Whatever else is a scheme is refused with a list of what there is.

use backy_core::{Error, ErrorKind, Result};

use crate::device::{Source, Target};
use crate::file::{FileSource, FileTarget};
use crate::null::{NullSource, NullTarget};

/// How a device is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Whether reads may go around the page cache, where that works. What they leave in the cache is the same.
    pub uses_direct_io: bool,
}

impl Default for DeviceOptions {
    fn default() -> DeviceOptions {
        DeviceOptions { uses_direct_io: true }
    }
}

/// What is wanted of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRequest {
    /// How many bytes it must hold; a new file gets this size.
    pub size_bytes: u64,
    /// Whether something that is there already may be written over (`--force`).
    pub may_overwrite: bool,
    /// How it is used.
    pub options: DeviceOptions,
}

/// Opens what `url` names for reading.
///
/// # Errors
/// `NotFound` if nothing is there, `Unsupported` for an unknown scheme, `InvalidInput` for what is not a device.
pub fn open_source(url: &str, options: &DeviceOptions) -> Result<Box<dyn Source>> {
    match split(url) {
        ("file", path) => Ok(Box::new(FileSource::open(path, options)?)),
        ("null", rest) => Ok(Box::new(NullSource::open(rest)?)),
        (scheme, _) => Err(unknown_scheme(scheme)),
    }
}

/// Opens what `url` names for writing, and makes it if it is a file that is not there.
///
/// # Errors
/// `AlreadyExists` if something is there and may not be overwritten, `InvalidInput` if it is too small or no device,
/// `Busy` if it is a block device in use, `Unsupported` for an unknown scheme.
pub fn open_target(url: &str, request: &TargetRequest) -> Result<Box<dyn Target>> {
    match split(url) {
        ("file", path) => Ok(Box::new(FileTarget::open(path, request)?)),
        ("null", rest) => Ok(Box::new(NullTarget::open(rest, request)?)),
        (scheme, _) => Err(unknown_scheme(scheme)),
    }
}

/// Returns the scheme and what follows it; what has no scheme is the path of a file.
fn split(url: &str) -> (&str, &str) {
    let is_scheme = |name: &str| {
        name.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    };
    match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        _ => ("file", url),
    }
}

fn unknown_scheme(scheme: &str) -> Error {
    let known = "it knows file://PATH (or a path alone) and null://SIZE";
    let message = match scheme {
        "rbd" => format!("this build does not read rbd:// yet; map the image and name its /dev/rbd device; {known}"),
        "nbd" => format!("this build does not read nbd:// yet; connect it and name its /dev/nbd device; {known}"),
        _ => format!("this build does not know {scheme}://; {known}"),
    };
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_literally_with_and_without_scheme() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["plain", "a;b?c#d%20e", "x y", "rbd:y", "ü"] {
            let path = folder.path().join(name);
            std::fs::write(&path, name).unwrap();
            let path = path.to_str().unwrap();
            for url in [path.to_owned(), format!("file://{path}")] {
                let source = open_source(&url, &DeviceOptions::default()).unwrap();
                assert_eq!(source.size_bytes(), name.len() as u64);
                assert_eq!(source.url(), format!("file://{path}"));
            }
        }
    }

    #[test]
    fn a_folder_whose_name_looks_like_a_scheme_can_be_reached() {
        assert_eq!(split("./odd://x"), ("file", "./odd://x"));
        assert_eq!(split("file://odd://x"), ("file", "odd://x"));
        assert_eq!(split("://x"), ("file", "://x"));
    }

    #[test]
    fn unknown_schemes_are_refused_with_what_there_is() {
        for url in ["rbd://pool/image", "nbd://host/export", "s3://bucket", "FILE:///x"] {
            let request = TargetRequest { size_bytes: 1, may_overwrite: true, options: DeviceOptions::default() };
            let errors =
                [open_source(url, &DeviceOptions::default()).err().unwrap(), open_target(url, &request).err().unwrap()];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{url}");
                assert!(error.to_string().contains("file://PATH"), "{error}");
            }
        }
    }
}
