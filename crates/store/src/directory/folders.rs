//! The folders of a directory store: found without following links, created durably, removed when empty.
//!
//! Every path is walked part by part from the opened root. A symbolic link in the way is an error, and if the disk is
//! unmounted by force while a job runs, the job does not go on in the mount point below.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use backy_core::{Error, ErrorKind, Result};

/// The permissions of new folders, before the umask takes from them.
const FOLDER_MODE: Mode = Mode::RWXU;

/// How many folders are remembered as durable; beyond that we forget all and sync their parents once more.
const KNOWN_MAX: usize = 10_000;

/// Which file or folder something is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// The folders below a root.
pub(super) struct Folders {
    root: OwnedFd,
    root_path: PathBuf,
    /// The folders whose entry in their parent is known to outlive a power cut.
    known: Mutex<HashMap<String, Identity>>,
}

impl Folders {
    /// Opens the root, which may be reached through a symbolic link.
    pub(super) fn open(root_path: PathBuf) -> std::io::Result<Folders> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| rustix::fs::open(&root_path, flags, Mode::empty()))?;
        Ok(Folders { root, root_path, known: Mutex::default() })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    pub(super) fn root_path(&self) -> &Path {
        &self.root_path
    }

    /// Opens the folder at `path` below the root; the root itself if `path` is empty.
    pub(super) fn open_folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut folder = open_self(&self.root)?;
        for part in parts(path) {
            folder = open_child(&folder, part)?;
        }
        Ok(folder)
    }

    /// Opens the folder at `path`, and creates what is missing of it.
    ///
    /// When it returns, the folder's entry in its parent is durable, and so on up to the root, whoever made them.
    /// `NOENT` means that somebody removed a folder again at the same time.
    pub(super) fn open_or_create(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut folder = open_self(&self.root)?;
        let mut walked = String::with_capacity(path.len());
        for part in parts(path) {
            if !walked.is_empty() {
                walked.push('/');
            }
            walked.push_str(part);
            let (child, is_new) = match open_child(&folder, part) {
                Ok(child) => (child, false),
                Err(Errno::NOENT) => {
                    create_child(&folder, part)?;
                    (open_child(&folder, part)?, true)
                }
                Err(errno) => return Err(errno),
            };
            let identity = identity(&child)?;
            if is_new || !self.is_known(&walked, identity) {
                sync(&folder)?;
                self.remember(&walked, identity);
            }
            folder = child;
        }
        Ok(folder)
    }

    /// Syncs the folder at `path`, or the nearest one above that is there.
    pub(super) fn sync_nearest(&self, path: &str) -> Result<(), Errno> {
        let mut folder = open_self(&self.root)?;
        for part in parts(path) {
            match open_child(&folder, part) {
                Ok(child) => folder = child,
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(errno),
            }
        }
        sync(&folder)
    }

    /// Removes the folder at `path` if it is empty and lies in another folder than the root.
    ///
    /// A courtesy: nothing depends on it, so it does not say whether it did.
    pub(super) fn remove_if_empty(&self, path: &str) {
        let Some((parent, part)) = path.rsplit_once('/') else { return };
        if let Ok(parent) = self.open_folder(parent) {
            let _ = rustix::fs::unlinkat(&parent, part, AtFlags::REMOVEDIR);
        }
    }

    fn is_known(&self, path: &str, identity: Identity) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(path) == Some(&identity)
    }

    fn remember(&self, path: &str, identity: Identity) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(path.to_owned(), identity);
    }
}

/// Creates the folder `path` unless it is there, durably; its parent must exist.
pub(super) fn create_root(path: &Path) -> std::io::Result<()> {
    match rustix::fs::mkdir(path, FOLDER_MODE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => return Ok(()),
    };
    match File::open(parent) {
        Ok(parent) => parent.sync_all(),
        // A folder that was made ready by somebody else, in one that we may not read.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens the folder `part` in `folder`; a symbolic link is `NOTDIR`.
pub(super) fn open_child(folder: &impl AsFd, part: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(folder, part, flags, Mode::empty()))
}

/// Makes what happened in `folder` outlive a power cut.
pub(super) fn sync(folder: &impl AsFd) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::fsync(folder))
}

/// Returns which file or folder `file` is.
pub(super) fn identity(file: &impl AsFd) -> Result<Identity, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok(Identity { device: stat.st_dev, inode: stat.st_ino })
}

/// Returns which file `part` in `folder` is; none if there is none.
pub(super) fn identity_at(folder: &impl AsFd, part: &str) -> Result<Option<Identity>, Errno> {
    match rustix::fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Identity { device: stat.st_dev, inode: stat.st_ino })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Divides the name of an object into its folder, which may be empty, and the rest.
pub(super) fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// Makes an error of what the system answered while `doing`.
pub(super) fn error(doing: impl Into<String>, errno: Errno) -> Error {
    match errno {
        Errno::LOOP | Errno::NOTDIR => Error::with_source(
            ErrorKind::Unsupported,
            format!("{}: a link or file is in the way; links inside a repository are not followed", doing.into()),
            std::io::Error::from(errno),
        ),
        errno => Error::io(doing, errno.into()),
    }
}

fn open_self(folder: &OwnedFd) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| rustix::io::fcntl_dupfd_cloexec(folder, 0))
}

fn create_child(folder: &OwnedFd, part: &str) -> Result<(), Errno> {
    match rustix::fs::mkdirat(folder, part, FOLDER_MODE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}
