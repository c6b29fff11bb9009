//! Whether a folder can be mounted on, and why not.

use std::io;
use std::path::{Path, PathBuf};

use backy_core::{Error, ErrorKind, Result};

/// The errno of a mount whose program is gone.
const NOT_CONNECTED: i32 = rustix::io::Errno::NOTCONN.raw_os_error();

/// Checks that `path` is an empty folder, and returns its full path.
///
/// # Errors
/// `NotFound`, `InvalidInput` if it is no folder, `Refused` if it is not empty, `Busy` if an earlier mount on it has died.
pub(super) fn check(path: &Path) -> Result<PathBuf> {
    let name = path.display();
    let failed = |error: io::Error| {
        if error.raw_os_error() == Some(NOT_CONNECTED) {
            let message =
                format!("{name} holds a mount whose program has died; `fusermount3 -u {name}` clears it away");
            return Error::new(ErrorKind::Busy, message);
        }
        Error::io(format!("mount on {name}"), error)
    };
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Err(Error::invalid(format!("mount on {name}: it is no folder")));
    }
    let full = path.canonicalize().map_err(failed)?;
    if std::fs::read_dir(&full).map_err(failed)?.next().is_some() {
        let message = format!("mount on {name}: the folder is not empty, and what is in it would be hidden");
        return Err(Error::new(ErrorKind::Refused, message));
    }
    Ok(full)
}

/// Says what it means that mounting has failed.
pub(super) fn explain(path: &Path, error: io::Error) -> Error {
    let doing = format!("mount on {}", path.display());
    let device = Path::new("/dev/fuse");
    if !device.exists() {
        let message =
            format!("{doing}: there is no /dev/fuse; `modprobe fuse` loads it, and a container needs it passed in");
        return Error::with_source(ErrorKind::Unsupported, message, error);
    }
    // The helper for users who are not root answers in words alone.
    if error.to_string().contains("user_allow_other") {
        let message = format!("{doing}: others are allowed only with `user_allow_other` in /etc/fuse.conf");
        return Error::with_source(ErrorKind::PermissionDenied, message, error);
    }
    if error.kind() == io::ErrorKind::NotFound {
        let message = format!("{doing}: users who are not root need fusermount3 (the package fuse3)");
        return Error::with_source(ErrorKind::Unsupported, message, error);
    }
    Error::io(doing, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_folder_is_mounted_on() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(folder.path()).unwrap(), folder.path().canonicalize().unwrap());
        let kind = |path: &Path| check(path).unwrap_err().kind();
        assert_eq!(kind(&folder.path().join("nothing")), ErrorKind::NotFound);
        std::fs::write(folder.path().join("file"), b"").unwrap();
        assert_eq!(kind(&folder.path().join("file")), ErrorKind::InvalidInput);
        assert_eq!(kind(folder.path()), ErrorKind::Refused);
    }
}
