//! A regular file or block device that is read.

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
use crate::device::Source;
use crate::open::DeviceOptions;

/// A regular file or block device, opened for reading.
pub struct FileSource {
    opened: Opened,
    reader: Reader,
}

impl FileSource {
    /// Opens the file at `path`; symbolic links are followed.
    ///
    /// # Errors
    /// `NotFound` if nothing is there, `InvalidInput` for a directory, FIFO, socket or character device.
    pub fn open(path: impl AsRef<Path>, options: &DeviceOptions) -> Result<FileSource> {
        let path = path.as_ref();
        let doing = || format!("open {}", path.display());
        let metadata = std::fs::metadata(path).map_err(|error| Error::io(doing(), error))?;
        FileKind::of(&metadata, path)?;
        let file = File::open(path).map_err(|error| Error::io(doing(), error))?;
        let opened = Opened::new(file, path)?;
        let reader = reader_of(&opened, options);
        Ok(FileSource { opened, reader })
    }
}

/// Makes the reader for a file that was opened.
pub(super) fn reader_of(opened: &Opened, options: &DeviceOptions) -> Reader {
    let direct = options.uses_direct_io.then(|| open_direct(opened)).flatten();
    Reader::new(&opened.file, direct)
}

/// Opens the same file once more, around the page cache; `None` where that does not work.
fn open_direct(opened: &Opened) -> Option<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    let direct = OpenOptions::new().read(true).custom_flags(flags).open(&opened.path).ok()?;
    opened.is_same_file(&direct).then_some(direct)
}

/// Reads from a file that was opened.
pub(super) fn read_at(opened: &Opened, reader: &Reader, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
    let length_bytes = buffer.len() as u64;
    opened.check_bounds(offset_bytes, length_bytes)?;
    reader.read_exact_at(&opened.file, offset_bytes, buffer).map_err(|error| {
        read_failed(error, format!("read {length_bytes} bytes at {offset_bytes} of {}", opened.path.display()))
    })
}

fn read_failed(error: io::Error, doing: String) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::new(ErrorKind::SourceChanged, format!("{doing}: it has become shorter"));
    }
    let is_unreadable = is_medium_error(&error);
    let error = Error::io(doing, error);
    if is_unreadable { error.with_kind(ErrorKind::Unreadable) } else { error }
}

/// Says whether the medium could not give the bytes, so that others may still be fine.
fn is_medium_error(error: &io::Error) -> bool {
    let medium_errors = [Errno::IO, Errno::NODATA, Errno::ILSEQ, Errno::REMOTEIO, Errno::BADMSG, Errno::UCLEAN];
    Errno::from_io_error(error).is_some_and(|errno| medium_errors.contains(&errno))
}

impl Source for FileSource {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_that_fails_is_told_from_a_system_that_refuses() {
        let failures = [
            (Errno::IO, ErrorKind::Unreadable),
            (Errno::NODATA, ErrorKind::Unreadable),
            (Errno::BADMSG, ErrorKind::Unreadable),
            (Errno::NXIO, ErrorKind::Io),
            (Errno::ACCESS, ErrorKind::PermissionDenied),
        ];
        for (errno, kind) in failures {
            let error = read_failed(errno.into(), "read 512 bytes at 1024 of /dev/x".to_owned());
            assert_eq!(error.kind(), kind, "{errno}");
            assert!(error.to_string().contains("1024 of /dev/x"), "{error}");
        }
    }
}
