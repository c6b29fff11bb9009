//! The file that holds what was written to an overlay: a header, the map of its pages, and the pages in their places.
//!
//! ```text
//!  header   4 KiB      magic "BACKY2OV" | format 1 (4) | page bytes (4) | size bytes (8) | version uid (16)
//!                      | BLAKE3 of all before (32) | zeros
//!  map                 one bit for each page, the lowest bit first; in whole pages
//!  pages               each where it is on the disk; pages whose bit is not set hold anything
//! ```
//!
//! The file is sparse: it takes the room of what was written. Bits are only ever set, so a map of which a power cut has
//! written a part is right, and needs no checksum: a bit is set in the file after its page is durable.
//!
//! A file without a name is gone when it is closed, however the program ends; nothing of it needs to be durable.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind as Io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use backy_core::ids::VersionUid;
use backy_core::units::ByteRange;
use backy_core::{Error, ErrorKind, Result};
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::page_map::{CHUNK_BYTES, CHUNK_PAGES, PageMap};

/// What is in the overlay or not, as a whole, in bytes.
pub(crate) const PAGE_BYTES: u64 = 4096;

const MAGIC: &[u8; 8] = b"BACKY2OV";
const FORMAT: u32 = 1;
const HEADER_PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 72;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The file. See the module.
pub(crate) struct Scratch {
    file: File,
    name: String,
    size_bytes: u64,
    is_kept: bool,
}

impl Scratch {
    /// Makes a file without a name in `folder`.
    pub(crate) fn unnamed(folder: &Path, size_bytes: u64) -> Result<Scratch> {
        let name = format!("the scratch file in {}", folder.display());
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => unlinked(folder, &name)?,
            Err(errno) => return Err(Error::io(format!("make {name}"), errno.into())),
        };
        let scratch = Scratch { file, name, size_bytes, is_kept: false };
        scratch.file.set_len(scratch.end_bytes()).map_err(|error| scratch.failed("make", error))?;
        Ok(scratch)
    }

    /// Opens the file that keeps what is written to the disk of `uid`, or makes it; returns the map that is in it.
    ///
    /// # Errors
    /// `Refused` if it belongs to another version, `Busy` if somebody uses it, `InvalidInput` if it is something else.
    pub(crate) fn kept(path: &Path, size_bytes: u64, uid: VersionUid) -> Result<(Scratch, PageMap)> {
        let name = format!("the overlay {}", path.display());
        let mut options = OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| Error::io(format!("open {name}"), error))?;
        let scratch = Scratch { file, name, size_bytes, is_kept: true };
        match rustix::fs::flock(&scratch.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::new(ErrorKind::Busy, format!("{} is in use", scratch.name)));
            }
            Err(errno) => return Err(scratch.failed("lock", errno.into())),
        }
        let length = scratch.file.metadata().map_err(|error| scratch.failed("open", error))?.len();
        if length == 0 {
            scratch.begin(uid, path)?;
            return Ok((scratch, PageMap::default()));
        }
        scratch.check_header(uid)?;
        if length < scratch.end_bytes() {
            return Err(Error::damaged(format!("{} has been cut: it has only {length} bytes", scratch.name)));
        }
        let map = scratch.load_map()?;
        Ok((scratch, map))
    }

    /// Reads bytes of the disk that are in the file.
    pub(crate) fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(buffer, self.pages_start_bytes() + offset_bytes);
        read.map_err(|error| self.failed("read", error))
    }

    /// Writes bytes of the disk.
    pub(crate) fn write_at(&self, offset_bytes: u64, buffer: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(buffer, self.pages_start_bytes() + offset_bytes);
        written.map_err(|error| self.failed("write to", error))
    }

    /// Makes a range of the disk read as zero.
    pub(crate) fn zero_range(&self, range: ByteRange) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let start_bytes = self.pages_start_bytes() + range.offset_bytes;
        match rustix::fs::fallocate(&self.file, flags, start_bytes, range.length_bytes) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(errno) => return Err(self.failed("punch a hole into", errno.into())),
        }
        let mut position_bytes = range.offset_bytes;
        while position_bytes < range.end_bytes() {
            let length = usize::try_from(range.end_bytes() - position_bytes).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write_at(position_bytes, &ZEROS[..length])?;
            position_bytes += length as u64;
        }
        Ok(())
    }

    /// Returns the parts of a range of the disk that may hold data, in order.
    pub(crate) fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        let offset = self.pages_start_bytes();
        let mut data = Vec::new();
        let mut position_bytes = range.offset_bytes;
        while position_bytes < range.end_bytes() {
            let start_bytes = match rustix::fs::seek(&self.file, SeekFrom::Data(offset + position_bytes)) {
                Ok(start_bytes) => start_bytes - offset,
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => position_bytes,
                Err(errno) => return Err(self.failed("look for holes in", errno.into())),
            };
            let end_bytes = match rustix::fs::seek(&self.file, SeekFrom::Hole(offset + start_bytes)) {
                Ok(end_bytes) => end_bytes - offset,
                Err(_) => range.end_bytes(),
            };
            let found = ByteRange::between(start_bytes, end_bytes).intersection(range);
            if !found.is_empty() {
                data.push(found);
            }
            position_bytes = end_bytes.max(position_bytes + 1);
        }
        Ok(data)
    }

    /// Says whether the file outlives the program.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Returns when what was written before is durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| self.failed("sync", error))
    }

    /// Writes the bits of some chunks; not durable yet.
    pub(crate) fn write_map(&self, chunks: &[(u64, [u8; CHUNK_BYTES])]) -> Result<()> {
        for (number, bits) in chunks {
            let offset_bytes = PAGE_BYTES + number * CHUNK_BYTES as u64;
            self.file.write_all_at(bits, offset_bytes).map_err(|error| self.failed("write to", error))?;
        }
        Ok(())
    }

    fn begin(&self, uid: VersionUid, path: &Path) -> Result<()> {
        self.file.set_len(self.end_bytes()).map_err(|error| self.failed("make", error))?;
        let mut first_page = [0; HEADER_PAGE_BYTES];
        first_page[..HEADER_BYTES].copy_from_slice(&header(self.size_bytes, uid));
        self.file.write_all_at(&first_page, 0).map_err(|error| self.failed("write to", error))?;
        self.sync()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| self.failed("sync the folder of", error))
    }

    fn check_header(&self, uid: VersionUid) -> Result<()> {
        let mut found = [0; HEADER_BYTES];
        match self.file.read_exact_at(&mut found, 0) {
            Err(error) if error.kind() != Io::UnexpectedEof => return Err(self.failed("read", error)),
            _ => {}
        }
        if found[..8] != *MAGIC {
            return Err(Error::invalid(format!("{} is a file of another kind", self.name)));
        }
        if found[8..12] != FORMAT.to_le_bytes() {
            return Err(Error::new(ErrorKind::Unsupported, format!("{} is of a newer format", self.name)));
        }
        if found[40..] != *blake3::hash(&found[..40]).as_bytes() {
            return Err(Error::damaged(format!("the header of {} is damaged", self.name)));
        }
        if found != header(self.size_bytes, uid) {
            let message = format!("{} belongs to another version than {uid}", self.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        Ok(())
    }

    fn load_map(&self) -> Result<PageMap> {
        let mut map = PageMap::default();
        let end_bytes = self.pages_start_bytes();
        let mut position_bytes = PAGE_BYTES;
        while position_bytes < end_bytes {
            position_bytes = match rustix::fs::seek(&self.file, SeekFrom::Data(position_bytes)) {
                Ok(data_bytes) => data_bytes,
                Err(Errno::NXIO) => break,
                Err(_) => position_bytes,
            };
            let number = (position_bytes - PAGE_BYTES) / CHUNK_BYTES as u64;
            let start_bytes = PAGE_BYTES + number * CHUNK_BYTES as u64;
            if start_bytes >= end_bytes {
                break;
            }
            let mut bits = [0; CHUNK_BYTES];
            self.file.read_exact_at(&mut bits, start_bytes).map_err(|error| self.failed("read", error))?;
            map.load(number, &bits);
            position_bytes = start_bytes + CHUNK_BYTES as u64;
        }
        Ok(map)
    }

    /// Returns where in the file the first page of the disk is.
    fn pages_start_bytes(&self) -> u64 {
        let chunks = self.size_bytes.div_ceil(PAGE_BYTES * CHUNK_PAGES);
        PAGE_BYTES + (chunks * CHUNK_BYTES as u64).next_multiple_of(PAGE_BYTES)
    }

    fn end_bytes(&self) -> u64 {
        self.pages_start_bytes() + self.size_bytes
    }

    fn failed(&self, doing: &str, error: std::io::Error) -> Error {
        Error::io(format!("{doing} {}", self.name), error)
    }
}

fn header(size_bytes: u64, uid: VersionUid) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..16].copy_from_slice(&u32::try_from(PAGE_BYTES).unwrap_or_default().to_le_bytes());
    header[16..24].copy_from_slice(&size_bytes.to_le_bytes());
    header[24..40].copy_from_slice(uid.bytes());
    let hash = blake3::hash(&header[..40]);
    header[40..].copy_from_slice(hash.as_bytes());
    header
}

/// Makes a file and takes its name away: for file systems that cannot make one without.
fn unlinked(folder: &Path, name: &str) -> Result<File> {
    for number in 0..1000 {
        let path = folder.join(format!(".scratch-{}-{number}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path).map_err(|error| Error::io(format!("make {name}"), error))?;
                return Ok(file);
            }
            Err(error) if error.kind() == Io::AlreadyExists => {}
            Err(error) => return Err(Error::io(format!("make {name}"), error)),
        }
    }
    Err(Error::new(ErrorKind::AlreadyExists, format!("make {name}: every name is taken")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_it_was() {
        let header = header(10 << 30, VersionUid::from_bytes([7; 16]));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/overlay_header");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, header).unwrap();
        }
        assert_eq!(std::fs::read(path).unwrap(), header, "UPDATE=1 makes it anew; only with a new format number");
    }
}
