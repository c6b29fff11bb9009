//! What can be asked of the mount, answered with what is there or the number of an error.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, PoisonError};

use backy_core::environment::Timestamp;
use backy_core::units::ByteRange;
use backy_core::{Error, ErrorKind};
use backy_engine::label;
use backy_engine::repository::versions::VersionSpec;
use fuser::{Errno, FileAttr, FileHandle, FopenFlags, INodeNo, OpenAccMode, OpenFlags};
use rustix::fs::{FallocateFlags, OFlags};

use super::Scratch;
use super::attributes::{self, Owner};
use super::disk::Disk;
use super::errno::{self, Complaints};
use super::handles::{Handle, Handles};
use super::infos::INFOS;
use super::listing::Listing;
use super::node::Node;
use super::patience::Patience;
use super::tree::Tree;
use crate::{VersionView, ViewCache};

/// The largest small file, in bytes.
const INFO_BYTES_MAX: u64 = 64 << 10;
/// `lseek`: to the next data, to the next hole.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// The mount. See the module.
pub(super) struct MountedVersions {
    pub(super) cache: Arc<ViewCache>,
    pub(super) listing: Arc<Listing>,
    pub(super) handles: Handles,
    pub(super) patience: Patience,
    pub(super) owner: Owner,
    pub(super) scratch: Scratch,
    pub(super) complaints: Complaints,
}

impl MountedVersions {
    fn now(&self) -> Timestamp {
        self.cache.repository().environment().clock.now()
    }

    /// Logs an error.
    pub(super) fn complain(&self, doing: &str, error: &Error) {
        self.complaints.note(doing, error, self.cache.repository().environment().clock.elapsed());
    }

    /// Returns what there is.
    pub(super) fn tree(&self) -> Result<Arc<Tree>, Errno> {
        self.listing.tree().map_err(|error| errno::of_request(&error))
    }

    /// Returns what has a number.
    pub(super) fn node(inode: INodeNo) -> Result<Node, Errno> {
        Node::of_inode(inode).ok_or(Errno::ENOENT)
    }

    /// Returns what `stat` says.
    pub(super) fn attributes(&self, node: Node) -> Result<FileAttr, Errno> {
        let disk = if let Node::Data(index) = node { self.handles.disk(index) } else { None };
        let tree = match self.tree() {
            Ok(tree) => tree,
            Err(_) if disk.is_some() => Arc::default(),
            Err(errno) => return Err(errno),
        };
        attributes::of_node(node, &tree, disk.as_deref(), self.owner).ok_or(Errno::ENOENT)
    }

    /// Finds a name in a folder.
    pub(super) fn find(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let name = name.to_str().ok_or(Errno::ENOENT)?;
        let node = self.tree()?.find(Self::node(parent)?, name).ok_or(Errno::ENOENT)?;
        self.attributes(node)
    }

    /// Opens a file.
    pub(super) fn open_file(&self, inode: INodeNo, flags: OpenFlags) -> Result<(FileHandle, FopenFlags), Errno> {
        let node = Self::node(inode)?;
        let flags = (flags.acc_mode(), OFlags::from_bits_retain(flags.0.cast_unsigned()));
        match node {
            Node::Data(_) if flags.1.contains(OFlags::TRUNC) => Err(Errno::EPERM),
            Node::Data(index) => {
                let opened = self.handles.open_disk(index, || self.open_disk(node));
                let handle = opened.map_err(|error| {
                    self.complain("open a version", &error);
                    errno::of_request(&error)
                })?;
                Ok((handle, FopenFlags::FOPEN_KEEP_CACHE))
            }
            Node::Info(_, place) => {
                let info = INFOS.get(place).ok_or(Errno::ENOENT)?;
                if flags.0 != OpenAccMode::O_RDONLY && !info.is_writable() {
                    return Err(Errno::EACCES);
                }
                let tree = self.tree()?;
                let content = info.content(tree.version(node).ok_or(Errno::ENOENT)?);
                let content = if flags.1.contains(OFlags::TRUNC) { Vec::new() } else { content.into_bytes() };
                let handle = self.handles.add(Handle::Info(Arc::new(Mutex::new(content))));
                Ok((handle, FopenFlags::FOPEN_DIRECT_IO))
            }
            _ => Err(Errno::EISDIR),
        }
    }

    fn open_disk(&self, node: Node) -> backy_core::Result<Disk> {
        let tree = self.listing.tree()?;
        let gone = || Error::new(ErrorKind::NotFound, "the version is not there any more");
        let uid = tree.version(node).ok_or_else(gone)?.manifest.uid;
        let cache = self.cache.clone();
        let view = self.patience.wait_for(move || VersionView::open(&cache, uid))?;
        let Node::Data(index) = node else { return Err(gone()) };
        Ok(Disk::new(index, view, self.scratch.clone()))
    }

    /// Returns the content that is open under a number.
    pub(super) fn disk(&self, handle: FileHandle) -> Result<Arc<Disk>, Errno> {
        match self.handles.get(handle) {
            Some(Handle::Disk(disk)) => Ok(disk),
            _ => Err(Errno::EBADF),
        }
    }

    /// Reads `buffer`, or what there is of it before the end; returns how much that is.
    pub(super) fn read_into(&self, handle: FileHandle, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self.handles.get(handle) {
            Some(Handle::Disk(disk)) => {
                let length = clipped(offset, buffer.len() as u64, disk.size_bytes());
                let buffer = buffer.get_mut(..length).unwrap_or_default();
                disk.read(offset, buffer).map(|()| length).map_err(|error| {
                    self.complain("read", &error);
                    errno::of_content(&error)
                })
            }
            Some(Handle::Info(content)) => {
                let content = content.lock().unwrap_or_else(PoisonError::into_inner);
                let length = clipped(offset, buffer.len() as u64, content.len() as u64);
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = content.get(start..start.saturating_add(length)).unwrap_or_default();
                buffer.get_mut(..part.len()).unwrap_or_default().copy_from_slice(part);
                Ok(part.len())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// Writes content; what lies behind the end is not written.
    pub(super) fn write_disk(&self, disk: &Disk, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        // As of a block device: what is behind the end has no room.
        let length = clipped(offset, data.len() as u64, disk.size_bytes());
        if length == 0 && !data.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let data = data.get(..length).unwrap_or_default();
        disk.write(offset, data, self.now()).map(|()| length).map_err(|error| {
            self.complain("write", &error);
            errno::of_content(&error)
        })
    }

    /// Writes a small file, and changes the version's label by what it holds then.
    pub(super) fn write_info(
        &self,
        inode: INodeNo,
        content: &Mutex<Vec<u8>>,
        offset: u64,
        data: &[u8],
    ) -> Result<usize, Errno> {
        let node = Self::node(inode)?;
        let Node::Info(_, place) = node else { return Err(Errno::EBADF) };
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= INFO_BYTES_MAX).ok_or(Errno::EFBIG)?;
        let start = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let end = usize::try_from(end).map_err(|_| Errno::EFBIG)?;
        let mut content = content.lock().unwrap_or_else(PoisonError::into_inner);
        if start == 0 {
            content.clear();
        }
        if content.len() < end {
            content.resize(end, b' ');
        }
        content.get_mut(start..end).unwrap_or_default().copy_from_slice(data);
        let tree = self.tree()?;
        let entry = tree.version(node).ok_or(Errno::ENOENT)?;
        let info = INFOS.get(place).ok_or(Errno::ENOENT)?;
        let change = info.parse(&content, &entry.label).map_err(|error| errno::of_request(&error))?;
        let (repository, spec) = (self.cache.repository().clone(), VersionSpec::Uid(entry.manifest.uid.to_string()));
        let changed = self.patience.wait_for(move || label::run(&repository, &spec, &change));
        self.listing.expire();
        changed.map(|_| data.len()).map_err(|error| {
            self.complain("change a version's label", &error);
            errno::of_request(&error)
        })
    }

    /// Makes zero what `fallocate` says; nothing else can be done with it.
    pub(super) fn allocate(&self, disk: &Disk, offset: u64, length: u64, mode: i32) -> Result<(), Errno> {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let punches = mode == FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zeroes = mode.difference(FallocateFlags::KEEP_SIZE) == FallocateFlags::ZERO_RANGE;
        if !punches && !zeroes {
            return Err(Errno::EOPNOTSUPP);
        }
        let keeps_size = mode.contains(FallocateFlags::KEEP_SIZE);
        let is_inside = offset.checked_add(length).is_some_and(|end| end <= disk.size_bytes());
        if !keeps_size && !is_inside {
            return Err(Errno::EPERM);
        }
        let end = offset.saturating_add(length).min(disk.size_bytes());
        disk.zero(ByteRange::between(offset, end), self.now()).map_err(|error| {
            self.complain("zero", &error);
            errno::of_content(&error)
        })
    }

    /// Finds the next data or the next hole.
    pub(super) fn seek(&self, disk: &Arc<Disk>, offset: i64, whence: i32) -> Result<i64, Errno> {
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        if offset >= disk.size_bytes() {
            return Err(Errno::ENXIO);
        }
        let disk = disk.clone();
        let found = match whence {
            SEEK_DATA => self.patience.wait_for(move || disk.next_data(offset)),
            SEEK_HOLE => self.patience.wait_for(move || disk.next_hole(offset).map(Some)),
            _ => return Err(Errno::EINVAL),
        };
        let found = found.map_err(|error| {
            self.complain("look for data", &error);
            errno::of_content(&error)
        })?;
        i64::try_from(found.ok_or(Errno::ENXIO)?).map_err(|_| Errno::EOVERFLOW)
    }

    /// Returns what is in a folder, with `.` and `..`.
    pub(super) fn children(&self, inode: INodeNo) -> Result<Vec<(String, Node)>, Errno> {
        let folder = Self::node(inode)?;
        let children = self.tree()?.children(folder).ok_or(Errno::ENOTDIR)?;
        let dots = [(".".to_owned(), folder), ("..".to_owned(), Tree::parent(folder))];
        Ok(dots.into_iter().chain(children).collect())
    }
}

/// Returns how many of `length` bytes at `offset` lie before the end.
fn clipped(offset: u64, length: u64, size: u64) -> usize {
    usize::try_from(length.min(size.saturating_sub(offset))).unwrap_or(usize::MAX)
}
