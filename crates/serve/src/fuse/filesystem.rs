//! The questions of the kernel, each one function: here they only go to where they are answered.
//!
//! The kernel keeps pages of `data`, for nothing changes behind its back; small files it asks for each time. Names and
//! attributes it keeps for [`KERNEL_LIFETIME`].

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::errno;
use super::handles::Handle;
use super::mounted::MountedVersions;

/// How long the kernel keeps names and attributes without asking again.
const KERNEL_LIFETIME: Duration = Duration::from_secs(1);
/// The largest read or write in one piece, in bytes. Each thread keeps as much memory.
const PIECE_BYTES_MAX: u32 = 1 << 20;
/// How many reads ahead and writes behind the kernel has under way.
const BACKGROUND_MAX: u16 = 32;

thread_local! {
    /// What a thread reads into.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Filesystem for MountedVersions {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What an older kernel does not know it does without.
        for wanted in [InitFlags::FUSE_ASYNC_DIO, InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_ATOMIC_O_TRUNC] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_write(PIECE_BYTES_MAX);
        if let Err(most) = config.set_max_readahead(PIECE_BYTES_MAX) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn destroy(&mut self) {
        for disk in self.handles.close() {
            if let Err(error) = disk.flush() {
                tracing::error!("what was written may not be kept: {error}");
            }
        }
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok(attributes) => reply.entry(&KERNEL_LIFETIME, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match Self::node(inode).and_then(|node| self.attributes(node)) {
            Ok(attributes) => reply.attr(&KERNEL_LIFETIME, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    /// Sizes, owners and modes are what they are; times may be set, to no effect.
    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let attributes = Self::node(inode).and_then(|node| self.attributes(node));
        match attributes {
            Ok(attributes) if size.is_some_and(|size| size != attributes.size) => reply.error(Errno::EPERM),
            Ok(_) if mode.is_some() || uid.is_some() || gid.is_some() => reply.error(Errno::EPERM),
            Ok(attributes) => reply.attr(&KERNEL_LIFETIME, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        let target = Self::node(inode).and_then(|node| self.tree()?.link_target(node).ok_or(Errno::EINVAL));
        match target {
            Ok(target) => reply.data(target.as_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(inode, flags) {
            Ok((handle, flags)) => reply.opened(handle, flags),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let buffer = buffer.get_mut(..size).unwrap_or_default();
            match self.read_into(handle, offset, buffer) {
                Ok(length) => reply.data(buffer.get(..length).unwrap_or_default()),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = match self.handles.get(handle) {
            Some(Handle::Disk(disk)) => self.write_disk(&disk, offset, data),
            Some(Handle::Info(content)) => self.write_info(inode, &content, offset, data),
            _ => Err(Errno::EBADF),
        };
        match written {
            Ok(length) => reply.written(u32::try_from(length).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let removed = self.handles.remove(handle);
        reply.ok();
        if matches!(removed, Some(Handle::Disk(_))) {
            // The version may be in use no longer, and the store be told so. If too many wait for it, this one does here.
            let _ = self.patience.begin(move || drop(removed));
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.handles.get(handle) {
            Some(Handle::Disk(disk)) => match disk.flush() {
                Ok(()) => reply.ok(),
                Err(error) => {
                    self.complain("make durable what was written", &error);
                    reply.error(errno::of_content(&error));
                }
            },
            Some(_) => reply.ok(),
            None => reply.error(Errno::EBADF),
        }
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.children(inode) {
            Ok(children) => {
                reply.opened(self.handles.add(Handle::Folder(Arc::new(children))), FopenFlags::empty());
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(Handle::Folder(children)) = self.handles.get(handle) else { return reply.error(Errno::EBADF) };
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (place, (name, node)) in children.iter().enumerate().skip(skipped) {
            if reply.add(node.inode(), place as u64 + 1, node.kind(), name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        drop(self.handles.remove(handle));
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match self.disk(handle).and_then(|disk| self.allocate(&disk, offset, length, mode)) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn lseek(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        match self.disk(handle).and_then(|disk| self.seek(&disk, offset, whence)) {
            Ok(offset) => reply.offset(offset),
            Err(errno) => reply.error(errno),
        }
    }

    // Nothing is made, renamed or removed here.

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EPERM);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn rename(&self, _: &Request, _: INodeNo, _: &OsStr, _: INodeNo, _: &OsStr, _: RenameFlags, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }
}
