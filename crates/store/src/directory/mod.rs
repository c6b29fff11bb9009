//! A store in a directory: a local disk, NFS, CephFS, a USB disk.
//!
//! ```text
//!  <root>/packs/0190f3/0190f3...    an object is a file, its name the path below the root
//!  <root>/.tmp/<process>-<number>   an object that is being put; never listed
//!
//!  folders   walk, create durably, remove when empty
//!  content   write and read without flooding the page cache
//!  listing   list in the order of full names
//! ```
//!
//! A put writes a temporary file, syncs it, renames it over the object's name and syncs the folder; folders on the way
//! are durable before that, whoever created them. If it fails, the temporary file is removed again. What a crash leaves
//! in `.tmp` is invisible, and removed by `remove_stale_temporaries`.
//!
//! Files have mode 0600 and folders 0700, less what the umask takes: all hosts write as the same user. The root may be
//! a symbolic link; below it none is followed.

mod content;
mod folders;
mod listing;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use backy_core::environment::Timestamp;
use backy_core::names::ObjectName;
use backy_core::{Error, ErrorKind, Result};

use self::folders::Folders;
use crate::object_store::{ObjectInfo, ObjectRange, ObjectStore};
use crate::probe::SCRATCH_PREFIX;

/// The folder of the files that are being written.
const TEMPORARIES: &str = ".tmp";

/// The permissions of new files, before the umask takes from them.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// How often a put creates a folder anew that somebody else removed as empty at the same time.
const PUBLISH_ATTEMPTS_MAX: usize = 8;

/// How many names a put tries for its temporary file.
const TEMPORARY_NAMES_MAX: usize = 10_000;

/// A store in a directory. See the module for its layout.
pub struct DirectoryStore {
    folders: Folders,
}

impl DirectoryStore {
    /// Creates the directory `path` for a new repository; one that is there must be empty. Its parent must exist.
    ///
    /// A file system's own `lost+found`, and what an interrupted attempt left, do not count.
    pub fn create(path: &Path) -> Result<DirectoryStore> {
        let doing = || format!("create the directory {}", path.display());
        folders::create_root(path).map_err(|error| Error::io(doing(), error))?;
        let store = DirectoryStore::open(path)?;
        for entry in std::fs::read_dir(path).map_err(|error| Error::io(doing(), error))? {
            let name = entry.map_err(|error| Error::io(doing(), error))?.file_name();
            let name = name.to_string_lossy();
            if name != TEMPORARIES && name != "lost+found" && !name.starts_with(SCRATCH_PREFIX) {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("{}: the directory is not empty: it holds {name:?}", doing()),
                ));
            }
        }
        store.folders.open_or_create(TEMPORARIES).map_err(|errno| folders::error(doing(), errno))?;
        Ok(store)
    }

    /// Opens the directory `path`, which must exist; nothing is written.
    pub fn open(path: &Path) -> Result<DirectoryStore> {
        let doing = || format!("open the directory {}", path.display());
        let path_absolute = std::path::absolute(path).map_err(|error| Error::io(doing(), error))?;
        let folders = Folders::open(path_absolute).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::io(format!("{}: it does not exist; perhaps its disk is not mounted", doing()), error)
            }
            std::io::ErrorKind::NotADirectory => {
                Error::io(format!("{}: it is no directory", doing()), error).with_kind(ErrorKind::InvalidInput)
            }
            _ => Error::io(doing(), error),
        })?;
        Ok(DirectoryStore { folders })
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> PathBuf {
        self.folders.root_path().to_owned()
    }

    /// Gives the synced `temporary` its name.
    fn publish(&self, temporary: &mut Temporary, name: &ObjectName) -> Result<()> {
        let failed = |errno| folders::error(format!("put {name}"), errno);
        let (path, part) = folders::split(name.as_str());
        for _ in 0..PUBLISH_ATTEMPTS_MAX {
            let folder = match self.folders.open_or_create(path) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            if !temporary.is_in_place().map_err(failed)? {
                // Either somebody removed it, or it was renamed and the answer got lost (NFS).
                if folders::identity_at(&folder, part).map_err(failed)? != Some(temporary.identity) {
                    let message = format!("put {name}: somebody removed its temporary file");
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            } else {
                match rustix::fs::renameat(&temporary.folder, &temporary.part, &folder, part) {
                    Ok(()) => {}
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(failed(errno)),
                }
            }
            temporary.is_published = true;
            return folders::sync(&folder).map_err(failed);
        }
        Err(Error::new(ErrorKind::Busy, format!("put {name}: its folder is removed again and again")))
    }

    /// Opens an object and returns its size in bytes.
    fn open_object(&self, name: &ObjectName) -> Result<(OwnedFd, u64)> {
        let failed = |errno| folders::error(format!("read {name}"), errno);
        let (path, part) = folders::split(name.as_str());
        let folder = self.folders.open_folder(path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = retry_on_intr(|| rustix::fs::openat(&folder, part, flags, Mode::empty())).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new(ErrorKind::NotFound, format!("read {name}: it is no file")));
        }
        Ok((file, u64::try_from(stat.st_size).unwrap_or_default()))
    }
}

impl ObjectStore for DirectoryStore {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        let failed = |errno| folders::error(format!("put {name} of {} bytes", body.len()), errno);
        let mut temporary = Temporary::create(&self.folders).map_err(|errno| match errno {
            Errno::NOENT => {
                failed(errno).context("the repository's directory has been removed").with_kind(ErrorKind::Unavailable)
            }
            errno => failed(errno),
        })?;
        content::write(&temporary.file, body).map_err(failed)?;
        self.publish(&mut temporary, name)
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        let (file, size_bytes) = self.open_object(name)?;
        if size_bytes > size_bytes_max {
            return Err(Error::damaged(format!(
                "read {name}: it has {size_bytes} bytes, more than the {size_bytes_max} that are possible"
            )));
        }
        let mut body = Vec::new();
        read_exactly(name, &file, size_bytes, (0, size_bytes), &mut body)?;
        Ok(body)
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        let outcome = self.open_object(name).and_then(|(file, size_bytes)| {
            let range = range.within(name, size_bytes)?;
            read_exactly(name, &file, size_bytes, range, buffer)
        });
        outcome.inspect_err(|_| buffer.clear())
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        listing::list(self.folders.root(), "", prefix, visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let failed = |errno| folders::error(format!("delete {name}"), errno);
        let (path, part) = folders::split(name.as_str());
        let folder = match self.folders.open_folder(path) {
            Ok(folder) => folder,
            // What somebody else removed is not gone for good before its folder is synced.
            Err(Errno::NOENT) => return self.folders.sync_nearest(path).map_err(failed),
            Err(errno) => return Err(failed(errno)),
        };
        match rustix::fs::unlinkat(&folder, part, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // The file is immutable or append-only (chattr(1), write-once storage).
            Err(Errno::PERM) => return Err(failed(Errno::PERM).with_kind(ErrorKind::Refused)),
            Err(errno) => return Err(failed(errno)),
        }
        folders::sync(&folder).map_err(failed)?;
        self.folders.remove_if_empty(path);
        Ok(())
    }

    fn url(&self) -> String {
        format!("file://{}", self.folders.root_path().display())
    }

    fn remove_stale_temporaries(&self, before: Timestamp) -> Result<u64> {
        let failed = |errno| folders::error("remove stale temporary files", errno);
        let folder = match self.folders.open_folder(TEMPORARIES) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(0),
            Err(errno) => return Err(failed(errno)),
        };
        let mut removed_count = 0;
        let mut directory = Dir::read_from(&folder).map_err(failed)?;
        while let Some(entry) = directory.read() {
            let entry = entry.map_err(failed)?;
            match remove_stale(&folder, entry.file_name(), before) {
                Ok(is_removed) => removed_count += u64::from(is_removed),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(removed_count)
    }
}

/// A file that is being written; removed again when it is dropped without being published.
struct Temporary {
    folder: OwnedFd,
    part: String,
    file: OwnedFd,
    identity: folders::Identity,
    is_published: bool,
}

impl Temporary {
    fn create(folders: &Folders) -> Result<Temporary, Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = folders.open_or_create(TEMPORARIES)?;
        let process = std::process::id();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A name may be taken, by another host or by a process that crashed; the file is ours only if we created it.
        for _ in 0..TEMPORARY_NAMES_MAX {
            let part = format!("{process}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
            match retry_on_intr(|| rustix::fs::openat(&folder, part.as_str(), flags, FILE_MODE)) {
                Ok(file) => {
                    let identity = folders::identity(&file)?;
                    return Ok(Temporary { folder, part, file, identity, is_published: false });
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EXIST)
    }

    /// Says whether the name still means our file: a process that slept for days may have lost it to a cleanup.
    fn is_in_place(&self) -> Result<bool, Errno> {
        Ok(folders::identity_at(&self.folder, &self.part)? == Some(self.identity))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_published && self.is_in_place().unwrap_or_default() {
            let _ = rustix::fs::unlinkat(&self.folder, &self.part, AtFlags::empty());
        }
    }
}

/// Reads `(offset_bytes, length_bytes)`, which lies within the file, in the place of what `buffer` holds.
fn read_exactly(
    name: &ObjectName,
    file: &OwnedFd,
    size_bytes: u64,
    (offset_bytes, length_bytes): (u64, u64),
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let doing = || format!("read {name} at {offset_bytes}");
    let length = usize::try_from(length_bytes).map_err(|_| Error::invalid(format!("{}: too much", doing())))?;
    // Not cleared before: to zero a large buffer that is used again and again costs as much as to fill it.
    buffer.resize(length, 0);
    let read_bytes =
        content::read(file, size_bytes, offset_bytes, buffer).map_err(|errno| read_error(file, doing(), errno))?;
    if read_bytes < length {
        return Err(Error::damaged(format!("{}: it became shorter while it was read", doing())));
    }
    Ok(())
}

/// A disk that cannot read a sector says EIO: that is about these bytes, and the rest can be had. A server that has gone
/// says so too; but then it does not answer when it is asked about the file.
fn read_error(file: &OwnedFd, doing: String, errno: Errno) -> Error {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    let answers = || rustix::fs::statx(file, "", flags, StatxFlags::BASIC_STATS).is_ok();
    let error = folders::error(doing, errno);
    if errno == Errno::IO && answers() { error.with_kind(ErrorKind::Unreadable) } else { error }
}

fn remove_stale(folder: &OwnedFd, part: &std::ffi::CStr, before: Timestamp) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW)?;
    let modified_seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
    let is_stale = modified_seconds.saturating_add(1).saturating_mul(1000) < before.milliseconds;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !is_stale {
        return Ok(false);
    }
    rustix::fs::unlinkat(folder, part, AtFlags::empty())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_that_cannot_be_read_is_about_its_bytes() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        assert_eq!(read_error(&file, "read".to_owned(), Errno::IO).kind(), ErrorKind::Unreadable);
        assert_eq!(read_error(&file, "read".to_owned(), Errno::TIMEDOUT).kind(), ErrorKind::Unavailable);
    }
}
