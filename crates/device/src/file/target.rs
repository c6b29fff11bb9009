//! A regular file or block device that is written.
//!
//! A new file is made for its owner alone (mode 0600), sparse, with the size that was asked for. What is there already is
//! only written with permission, is never truncated or grown, and must be large enough: a larger one keeps its size, and
//! what lies behind the size asked for stays as it is. A block device counts as being there already, and is refused
//! while something else (a mounted file system, LVM, RAID) has it.
//!
//! A restore that fails leaves its file: it can be continued.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use backy_core::units::ByteRange;
use backy_core::{Error, ErrorKind, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::opened::{FileKind, Opened};
use super::read::Reader;
use super::source::{read_at, reader_of};
use super::write::WriteBehind;
use super::zero;
use crate::device::{Source, Target};
use crate::open::TargetRequest;

/// A regular file or block device, opened for writing.
pub struct FileTarget {
    opened: Opened,
    reader: Reader,
    behind: WriteBehind,
    /// The folder of a file that is new: it must be flushed too, or the name may be gone after a power cut.
    folder_of_new: Option<File>,
}

impl FileTarget {
    /// Opens the file at `path`, or makes it.
    ///
    /// # Errors
    /// `AlreadyExists` if it is there and may not be overwritten, `InvalidInput` if it is too small or no device, `Busy`
    /// if it is a block device in use.
    pub fn open(path: impl AsRef<Path>, request: &TargetRequest) -> Result<FileTarget> {
        let path = path.as_ref();
        let (opened, folder_of_new) = match std::fs::metadata(path) {
            Ok(metadata) => (open_existing(path, FileKind::of(&metadata, path)?, request)?, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (opened, folder) = create(path, request.size_bytes)?;
                (opened, Some(folder))
            }
            Err(error) => return Err(Error::io(format!("open {}", path.display()), error)),
        };
        let reader = reader_of(&opened, &request.options);
        Ok(FileTarget { opened, reader, behind: WriteBehind::default(), folder_of_new })
    }

    fn write(&self, offset_bytes: u64, buffer: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        self.opened.file.write_all_at(buffer, offset_bytes)?;
        self.behind.wrote(&self.opened.file, ByteRange { offset_bytes, length_bytes: buffer.len() as u64 })
    }
}

/// Makes a new sparse file; returns its folder too.
fn create(path: &Path, size_bytes: u64) -> Result<(Opened, File)> {
    let doing = || format!("create {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder).map_err(|error| Error::io(doing(), error))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::io(doing(), error))?;
    if let Err(error) = file.set_len(size_bytes) {
        // It is ours, new and empty: nobody can miss it.
        let _ = std::fs::remove_file(path);
        return Err(Error::io(format!("{} with {size_bytes} bytes", doing()), error));
    }
    Ok((Opened::new(file, path)?, folder))
}

/// Opens what is there, if it may be overwritten and is large enough.
fn open_existing(path: &Path, kind: FileKind, request: &TargetRequest) -> Result<Opened> {
    let shown = path.display();
    if !request.may_overwrite {
        let what = if kind == FileKind::Block { "is a block device" } else { "exists already" };
        let message = format!("{shown} {what}; use --force to overwrite what it holds");
        return Err(Error::new(ErrorKind::AlreadyExists, message));
    }
    // Without O_CREAT, O_EXCL on a block device means: nobody else uses it.
    let flags = if kind == FileKind::Block { OFlags::EXCL } else { OFlags::empty() };
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(|error| {
        if Errno::from_io_error(&error) == Some(Errno::BUSY) {
            let message = format!("{shown} is in use: mounted, or part of LVM, RAID or swap; release it first");
            return Error::with_source(ErrorKind::Busy, message, error);
        }
        Error::io(format!("open {shown} for writing"), error)
    })?;
    let opened = Opened::new(file, path)?;
    if opened.kind != kind {
        return Err(Error::new(ErrorKind::Busy, format!("{shown} was replaced while it was opened")));
    }
    if opened.size_bytes < request.size_bytes {
        let (has, needs) = (opened.size_bytes, request.size_bytes);
        return Err(Error::invalid(format!("{shown} is too small: it has {has} bytes, and {needs} are needed")));
    }
    Ok(opened)
}

impl Source for FileTarget {
    fn size_bytes(&self) -> u64 {
        self.opened.size_bytes
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        read_at(&self.opened, &self.reader, offset_bytes, buffer)
    }

    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        self.opened.data_ranges(range)
    }

    fn check_unchanged(&self) -> Result<()> {
        self.opened.check_unchanged()
    }

    fn url(&self) -> String {
        self.opened.url()
    }
}

impl Target for FileTarget {
    fn write_at(&self, offset_bytes: u64, buffer: &[u8]) -> Result<()> {
        let length_bytes = buffer.len() as u64;
        self.opened.check_bounds(offset_bytes, length_bytes)?;
        self.write(offset_bytes, buffer).map_err(|error| {
            let path = self.opened.path.display();
            Error::io(format!("write {length_bytes} bytes at {offset_bytes} of {path}"), error)
        })
    }

    fn zero_range(&self, range: ByteRange) -> Result<()> {
        self.opened.check_bounds(range.offset_bytes, range.length_bytes)?;
        for data in self.opened.data_ranges(range)? {
            zero::zero(&self.opened.file, data, |offset_bytes, buffer| self.write(offset_bytes, buffer)).map_err(
                |error| {
                    let path = self.opened.path.display();
                    Error::io(format!("zero {} bytes at {} of {path}", data.length_bytes, data.offset_bytes), error)
                },
            )?;
        }
        Ok(())
    }

    fn is_known_zero(&self) -> bool {
        self.folder_of_new.is_some()
    }

    fn flush(&self) -> Result<()> {
        let failed = |error| Error::io(format!("flush {}", self.opened.path.display()), error);
        self.behind.flush(&self.opened.file).map_err(failed)?;
        self.folder_of_new.as_ref().map_or(Ok(()), File::sync_all).map_err(failed)
    }
}
