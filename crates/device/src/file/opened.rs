//! What was opened: which file, how big it is, whether it is still the same, where its holes are.
//!
//! Only regular files and block devices get this far. The kind is looked at before opening, because opening a FIFO waits
//! and opening a character device may do something (rewind a tape), and again afterwards, on what was really opened.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use backy_core::units::ByteRange;
use backy_core::{Error, ErrorKind, Result};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::device::check_bounds;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file: it may have holes, and can be replaced by another under its name.
    Regular,
    /// A block device.
    Block,
}

impl FileKind {
    /// Fails with `InvalidInput` for what is neither a regular file nor a block device.
    pub fn of(metadata: &Metadata, path: &Path) -> Result<FileKind> {
        let file_type = metadata.file_type();
        let what = if file_type.is_file() {
            return Ok(FileKind::Regular);
        } else if file_type.is_block_device() {
            return Ok(FileKind::Block);
        } else if file_type.is_dir() {
            "a directory"
        } else if file_type.is_fifo() {
            "a FIFO"
        } else if file_type.is_socket() {
            "a socket"
        } else if file_type.is_char_device() {
            "a character device"
        } else {
            "of unknown type"
        };
        let path = path.display();
        Err(Error::invalid(format!("{path} is {what}, and neither a regular file nor a block device")))
    }
}

/// An open file with what was known of it when it was opened.
pub struct Opened {
    /// The file, read and written through the page cache.
    pub file: File,
    /// Where it was found.
    pub path: PathBuf,
    /// What kind of file it is.
    pub kind: FileKind,
    /// Its size when it was opened.
    pub size_bytes: u64,
    identity: (u64, u64),
}

impl Opened {
    /// Looks at what was opened.
    pub fn new(file: File, path: &Path) -> Result<Opened> {
        let doing = || format!("open {}", path.display());
        let metadata = file.metadata().map_err(|error| Error::io(doing(), error))?;
        let kind = FileKind::of(&metadata, path)?;
        let size_bytes = size_of(&file).map_err(|error| Error::io(doing(), error))?;
        Ok(Opened { identity: identity_of(&metadata, kind), path: path.to_owned(), file, kind, size_bytes })
    }

    /// Says whether `other` is the same file.
    pub fn is_same_file(&self, other: &File) -> bool {
        other.metadata().is_ok_and(|metadata| identity_of(&metadata, self.kind) == self.identity)
    }

    /// Returns what it is called, as a URL with an absolute path.
    pub fn url(&self) -> String {
        let path = std::path::absolute(&self.path);
        format!("file://{}", path.as_ref().unwrap_or(&self.path).display())
    }

    /// Fails with `InvalidInput` unless all of the bytes lie within the file.
    pub fn check_bounds(&self, offset_bytes: u64, length_bytes: u64) -> Result<()> {
        check_bounds(ByteRange { offset_bytes, length_bytes }, self.size_bytes, &self.path.to_string_lossy())
    }

    /// Fails with `SourceChanged` if the size is another one now, or another file has its name.
    pub fn check_unchanged(&self) -> Result<()> {
        let path = self.path.display();
        let changed = |message: String| Err(Error::new(ErrorKind::SourceChanged, message));
        let size_bytes = size_of(&self.file).map_err(|error| Error::io(format!("check {path}"), error))?;
        if size_bytes != self.size_bytes {
            return changed(format!("{path} had {} bytes and now has {size_bytes}", self.size_bytes));
        }
        match std::fs::metadata(&self.path) {
            Ok(metadata) if identity_of(&metadata, self.kind) == self.identity => Ok(()),
            Ok(_) => changed(format!("{path} is not the file any more that was opened")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => changed(format!("{path} was removed")),
            Err(error) => Err(Error::io(format!("check {path}"), error)),
        }
    }

    /// Returns where `range` may hold data; all of it if the file system does not tell.
    pub fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        let range = range.intersection(ByteRange::between(0, self.size_bytes));
        let mut found = Vec::new();
        if range.is_empty() {
            return Ok(found);
        }
        if self.kind == FileKind::Block {
            return Ok(vec![range]);
        }
        let mut at_bytes = range.offset_bytes;
        while at_bytes < range.end_bytes() {
            let start_bytes = match seek(&self.file, SeekFrom::Data(at_bytes)) {
                Ok(start_bytes) => start_bytes,
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(vec![range]),
                Err(error) => return Err(self.holes_failed(error)),
            };
            if start_bytes >= range.end_bytes() {
                break;
            }
            let end_bytes = match seek(&self.file, SeekFrom::Hole(start_bytes)) {
                Ok(end_bytes) => end_bytes,
                Err(Errno::NXIO) => break,
                Err(error) => return Err(self.holes_failed(error)),
            };
            push_joined(&mut found, ByteRange::between(start_bytes, end_bytes).intersection(range));
            // A hole that begins where the data does would be a fault of the file system; go on all the same.
            at_bytes = end_bytes.max(start_bytes.saturating_add(1));
        }
        Ok(found)
    }

    fn holes_failed(&self, error: Errno) -> Error {
        Error::io(format!("look for holes in {}", self.path.display()), error.into())
    }
}

/// Adds `range` behind `ranges`, as a part of the last one if they touch.
fn push_joined(ranges: &mut Vec<ByteRange>, range: ByteRange) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end_bytes() >= range.offset_bytes => {
            *last = ByteRange::between(last.offset_bytes, range.end_bytes());
        }
        _ => ranges.push(range),
    }
}

/// Returns the size in bytes, of block devices too. Nothing else uses the position in the file.
fn size_of(file: &File) -> io::Result<u64> {
    Ok(seek(file, SeekFrom::End(0))?)
}

/// Returns what tells a file from all others: for a block device the device, whatever node names it.
fn identity_of(metadata: &Metadata, kind: FileKind) -> (u64, u64) {
    match kind {
        FileKind::Regular => (metadata.dev(), metadata.ino()),
        FileKind::Block => (u64::MAX, metadata.rdev()),
    }
}
