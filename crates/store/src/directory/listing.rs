//! Lists the objects below a folder in the order of their full names, as S3 does.
//!
//! The order is that of the bytes of the whole name: `a-b` comes before `a/b`, because `-` comes before `/`. So a
//! folder takes its place among its neighbours as if its name ended in a slash.
//!
//! The system promises that a listing shows what is there from its beginning to its end, but some file systems lose
//! sight of a file that is replaced meanwhile (btrfs gives it a new place). A folder that changed while it was read is
//! therefore read again, and what either reading saw counts, if it still exists when its turn comes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use backy_core::names::ObjectName;
use backy_core::{Error, ErrorKind, Result};

use super::folders;
use crate::object_store::ObjectInfo;

/// How often a folder is read that changes under our eyes.
const READINGS_MAX: usize = 4;

/// Calls `visit` for the objects below `folder`, whose path is empty or ends in a slash, that begin with `prefix`.
pub(super) fn list(
    folder: &OwnedFd,
    path: &str,
    prefix: &str,
    visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
) -> Result<()> {
    for (key, part) in read_stable(folder, path, prefix)? {
        if key.ends_with('/') {
            match folders::open_child(folder, &part) {
                Ok(child) => list(&child, &key, prefix, visit)?,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(folders::error(format!("list {key}"), errno)),
            }
        } else if let Some(size_bytes) = size_of_file(folder, &part, &key)? {
            visit(ObjectInfo { name: ObjectName::new(key)?, size_bytes })?;
        }
    }
    Ok(())
}

/// Returns the names that match, each with its last part; those of folders end in a slash.
fn read_stable(folder: &OwnedFd, path: &str, prefix: &str) -> Result<BTreeMap<String, String>> {
    let failed = |errno| folders::error(format!("list {path:?}"), errno);
    let mut entries = BTreeMap::new();
    for _ in 0..READINGS_MAX {
        let before = last_change(folder).map_err(failed)?;
        read(folder, path, prefix, &mut entries).map_err(failed)?;
        if path.is_empty() && rustix::fs::fstat(folder).map_err(failed)?.st_nlink == 0 {
            // A folder that was removed reads as empty; to say that of the whole repository would be a lie.
            return Err(Error::new(ErrorKind::Unavailable, "the repository's directory has been removed"));
        }
        if last_change(folder).map_err(failed)? == before {
            break;
        }
    }
    Ok(entries)
}

fn read(folder: &OwnedFd, path: &str, prefix: &str, entries: &mut BTreeMap<String, String>) -> Result<(), Errno> {
    let mut directory = Dir::read_from(folder)?;
    while let Some(entry) = directory.read() {
        let entry = entry?;
        let Ok(part) = entry.file_name().to_str() else { continue };
        if part.starts_with('.') {
            continue;
        }
        let mut key = format!("{path}{part}");
        if ObjectName::new(key.as_str()).is_err() {
            continue;
        }
        let file_type = match entry.file_type() {
            FileType::Unknown => match rustix::fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            },
            known => known,
        };
        match file_type {
            FileType::Directory => key.push('/'),
            FileType::RegularFile => {}
            // To pass over a link to a folder of packs would be to say that there are none.
            FileType::Symlink if key.starts_with(prefix) || prefix.starts_with(&key) => return Err(Errno::LOOP),
            _ => continue,
        }
        if key.starts_with(prefix) || (key.ends_with('/') && prefix.starts_with(&key)) {
            entries.insert(key, part.to_owned());
        }
    }
    Ok(())
}

/// Returns the size of a file; none if it has gone meanwhile.
fn size_of_file(folder: &OwnedFd, part: &str, key: &str) -> Result<Option<u64>> {
    match rustix::fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            Ok(Some(u64::try_from(stat.st_size).unwrap_or_default()))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(folders::error(format!("list {key}"), errno)),
    }
}

/// Returns when entries of the folder last changed, in the units of the file system.
fn last_change(folder: &impl AsFd) -> Result<(i64, u64), Errno> {
    let stat = rustix::fs::fstat(folder)?;
    #[expect(clippy::useless_conversion, reason = "the type differs between architectures")]
    Ok((i64::from(stat.st_mtime), u64::from(stat.st_mtime_nsec)))
}
