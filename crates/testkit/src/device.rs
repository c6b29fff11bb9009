//! A block device in memory that fails on demand.
//!
//! All clones are the same device: the test keeps one in its hand while a job uses the other. Only pages that were
//! written take memory, so that a device of many terabytes is fine. Faults are set while the device is in use.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use backy_core::units::ByteRange;
use backy_core::{Error, ErrorKind, Result};
use backy_device::device::check_bounds;
use backy_device::{Source, Target};

const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// What goes wrong with a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFaults {
    /// Reads that touch one of these fail with `Unreadable`.
    pub unreadable: Vec<ByteRange>,
    /// After so many reads (of the whole life of the device) it has only this many bytes.
    pub shrinks: Option<Shrink>,
    /// Writing and zeroing fail with `Io` after so many of them (of the whole life of the device).
    pub writes_max: Option<u64>,
    /// Writing fails with `NoSpace` where it would take more bytes than this (of the whole life of the device).
    pub written_bytes_max: Option<u64>,
    /// Flushing fails with `Io`.
    pub flush_fails: bool,
}

/// How a device becomes shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shrink {
    /// How many reads still find it as it was.
    pub after_reads: u64,
    /// The size then.
    pub size_bytes: u64,
}

/// What a device was asked to do since it was made, by all its clones; what was refused does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounts {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Ranges zeroed.
    pub zeroings: u64,
    /// Bytes zeroed.
    pub zeroed_bytes: u64,
    /// Flushes.
    pub flushes: u64,
}

/// A block device in memory.
#[derive(Clone)]
pub struct MemoryDevice {
    shared: Arc<Shared>,
}

struct Shared {
    size_bytes: u64,
    tells_holes: bool,
    is_known_zero: AtomicBool,
    pages: RwLock<BTreeMap<u64, Box<Page>>>,
    faults: RwLock<DeviceFaults>,
    counts: Counters,
}

#[derive(Default)]
struct Counters {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    zeroings: AtomicU64,
    zeroed_bytes: AtomicU64,
    flushes: AtomicU64,
}

impl MemoryDevice {
    /// Makes a device of zeros that tells where its holes are.
    pub fn new(size_bytes: u64) -> MemoryDevice {
        MemoryDevice::make(size_bytes, true)
    }

    /// Makes a device of zeros that says that everything is data, as block devices do.
    pub fn without_holes(size_bytes: u64) -> MemoryDevice {
        MemoryDevice::make(size_bytes, false)
    }

    /// Makes a device that holds `bytes`.
    pub fn with_bytes(bytes: &[u8]) -> MemoryDevice {
        let device = MemoryDevice::new(bytes.len() as u64);
        device.store(0, bytes);
        device
    }

    fn make(size_bytes: u64, tells_holes: bool) -> MemoryDevice {
        let (is_known_zero, pages, faults, counts) = Default::default();
        MemoryDevice { shared: Arc::new(Shared { size_bytes, tells_holes, is_known_zero, pages, faults, counts }) }
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: DeviceFaults) {
        *self.shared.faults.write().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Sets whether it says of itself that it is new and reads as zero; at first it does not.
    pub fn set_known_zero(&self, is_known_zero: bool) {
        self.shared.is_known_zero.store(is_known_zero, Ordering::SeqCst);
    }

    /// Returns what the device was asked to do.
    pub fn counts(&self) -> DeviceCounts {
        let counts = &self.shared.counts;
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        DeviceCounts {
            reads: get(&counts.reads),
            read_bytes: get(&counts.read_bytes),
            writes: get(&counts.writes),
            written_bytes: get(&counts.written_bytes),
            zeroings: get(&counts.zeroings),
            zeroed_bytes: get(&counts.zeroed_bytes),
            flushes: get(&counts.flushes),
        }
    }

    /// Returns what the device holds in `range`, past all faults and counts.
    pub fn bytes(&self, range: ByteRange) -> Vec<u8> {
        let range = range.intersection(ByteRange::between(0, self.shared.size_bytes));
        let mut bytes = vec![0; usize::try_from(range.length_bytes).unwrap_or(usize::MAX)];
        self.load(range.offset_bytes, &mut bytes);
        bytes
    }

    fn pages(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Box<Page>>> {
        self.shared.pages.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn pages_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Box<Page>>> {
        self.shared.pages.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> RwLockReadGuard<'_, DeviceFaults> {
        self.shared.faults.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, range: ByteRange) -> Result<()> {
        check_bounds(range, self.shared.size_bytes, &self.url())
    }

    /// Returns the size that is left after all the reads so far.
    fn size_now_bytes(&self) -> u64 {
        let reads = self.shared.counts.reads.load(Ordering::SeqCst);
        match self.faults().shrinks {
            Some(shrink) if reads >= shrink.after_reads => shrink.size_bytes.min(self.shared.size_bytes),
            _ => self.shared.size_bytes,
        }
    }

    fn check_write_count(&self) -> Result<()> {
        let counts = self.counts();
        match self.faults().writes_max {
            Some(writes_max) if counts.writes + counts.zeroings >= writes_max => {
                Err(Error::new(ErrorKind::Io, format!("write to {}: it fails on demand", self.url())))
            }
            _ => Ok(()),
        }
    }

    fn load(&self, offset_bytes: u64, buffer: &mut [u8]) {
        let pages = self.pages();
        for part in parts(offset_bytes, buffer.len()) {
            let into = &mut buffer[part.in_buffer..part.in_buffer + part.length];
            match pages.get(&part.page) {
                Some(page) => into.copy_from_slice(&page[part.in_page..part.in_page + part.length]),
                None => into.fill(0),
            }
        }
    }

    fn store(&self, offset_bytes: u64, buffer: &[u8]) {
        let mut pages = self.pages_mut();
        for part in parts(offset_bytes, buffer.len()) {
            let page = pages.entry(part.page).or_insert_with(|| Box::new([0; PAGE_BYTES]));
            let from = &buffer[part.in_buffer..part.in_buffer + part.length];
            page[part.in_page..part.in_page + part.length].copy_from_slice(from);
        }
    }
}

/// The part of a buffer that lies in one page.
struct Part {
    page: u64,
    in_page: usize,
    in_buffer: usize,
    length: usize,
}

fn parts(offset_bytes: u64, length: usize) -> impl Iterator<Item = Part> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at_bytes = offset_bytes + done as u64;
        let in_page = usize::try_from(at_bytes % PAGE_BYTES as u64).unwrap_or(0);
        let part = Part {
            page: at_bytes / PAGE_BYTES as u64,
            in_page,
            in_buffer: done,
            length: (PAGE_BYTES - in_page).min(length - done),
        };
        done += part.length;
        (part.length > 0).then_some(part)
    })
}

fn count(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::SeqCst);
}

impl Source for MemoryDevice {
    fn size_bytes(&self) -> u64 {
        self.shared.size_bytes
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        let range = ByteRange { offset_bytes, length_bytes: buffer.len() as u64 };
        self.check(range)?;
        let size_now_bytes = self.size_now_bytes();
        count(&self.shared.counts.reads, 1);
        let doing = || format!("read {} bytes at {offset_bytes} of {}", range.length_bytes, self.url());
        if range.end_bytes() > size_now_bytes {
            return Err(Error::new(ErrorKind::SourceChanged, format!("{}: it has become shorter", doing())));
        }
        if self.faults().unreadable.iter().any(|bad| !bad.intersection(range).is_empty()) {
            return Err(Error::new(ErrorKind::Unreadable, format!("{}: unreadable on demand", doing())));
        }
        count(&self.shared.counts.read_bytes, range.length_bytes);
        self.load(offset_bytes, buffer);
        Ok(())
    }

    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        let range = range.intersection(ByteRange::between(0, self.shared.size_bytes));
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if !self.shared.tells_holes {
            return Ok(vec![range]);
        }
        let page_bytes = PAGE_BYTES as u64;
        let mut found: Vec<ByteRange> = Vec::new();
        for (page, _) in self.pages().range(range.offset_bytes / page_bytes..range.end_bytes().div_ceil(page_bytes)) {
            let data = ByteRange { offset_bytes: page * page_bytes, length_bytes: page_bytes }.intersection(range);
            match found.last_mut() {
                Some(last) if last.end_bytes() == data.offset_bytes => last.length_bytes += data.length_bytes,
                _ => found.push(data),
            }
        }
        Ok(found)
    }

    fn check_unchanged(&self) -> Result<()> {
        let (had, has) = (self.shared.size_bytes, self.size_now_bytes());
        if has == had {
            return Ok(());
        }
        Err(Error::new(ErrorKind::SourceChanged, format!("{} had {had} bytes and now has {has}", self.url())))
    }

    fn url(&self) -> String {
        "memory://".to_owned()
    }
}

impl Target for MemoryDevice {
    fn write_at(&self, offset_bytes: u64, buffer: &[u8]) -> Result<()> {
        let length_bytes = buffer.len() as u64;
        self.check(ByteRange { offset_bytes, length_bytes })?;
        self.check_write_count()?;
        let written_bytes = self.shared.counts.written_bytes.load(Ordering::SeqCst);
        if self.faults().written_bytes_max.is_some_and(|bytes_max| written_bytes + length_bytes > bytes_max) {
            return Err(Error::new(ErrorKind::NoSpace, format!("write to {}: it is full on demand", self.url())));
        }
        count(&self.shared.counts.writes, 1);
        count(&self.shared.counts.written_bytes, length_bytes);
        self.store(offset_bytes, buffer);
        Ok(())
    }

    fn zero_range(&self, range: ByteRange) -> Result<()> {
        self.check(range)?;
        self.check_write_count()?;
        count(&self.shared.counts.zeroings, 1);
        count(&self.shared.counts.zeroed_bytes, range.length_bytes);
        let page_bytes = PAGE_BYTES as u64;
        let mut pages = self.pages_mut();
        let touched = range.offset_bytes / page_bytes..range.end_bytes().div_ceil(page_bytes);
        let touched: Vec<u64> = pages.range(touched).map(|(page, _)| *page).collect();
        for page in touched {
            let whole = ByteRange { offset_bytes: page * page_bytes, length_bytes: page_bytes };
            let inside = whole.intersection(range);
            if inside == whole {
                pages.remove(&page);
            } else if let Some(bytes) = pages.get_mut(&page) {
                let start = usize::try_from(inside.offset_bytes - whole.offset_bytes).unwrap_or(0);
                let length = usize::try_from(inside.length_bytes).unwrap_or(0);
                bytes[start..start + length].fill(0);
            }
        }
        Ok(())
    }

    fn is_known_zero(&self) -> bool {
        self.shared.is_known_zero.load(Ordering::SeqCst)
    }

    fn flush(&self) -> Result<()> {
        if self.faults().flush_fails {
            return Err(Error::new(ErrorKind::Io, format!("flush {}: it fails on demand", self.url())));
        }
        count(&self.shared.counts.flushes, 1);
        Ok(())
    }
}

impl fmt::Debug for MemoryDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDevice").field("size_bytes", &self.shared.size_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backy_device::conformance::{check_source, check_target};

    #[test]
    fn the_device_passes_what_every_device_must_pass() {
        for device in [MemoryDevice::new(300_001), MemoryDevice::without_holes(300_001)] {
            let bytes = check_target(&device);
            assert!(device.bytes(ByteRange::between(0, 300_001)) == bytes);
        }
        check_source(&MemoryDevice::with_bytes(&[7; 5000]), &[7; 5000]);
        check_source(&MemoryDevice::new(0), &[]);
        let new = MemoryDevice::new(100_000);
        new.set_known_zero(true);
        check_target(&new);
    }

    #[test]
    fn unwritten_parts_of_a_large_device_are_holes() {
        let device = MemoryDevice::new(200 << 40);
        device.write_at(100 << 40, &[1; 10]).unwrap();
        let data = device.data_ranges(ByteRange::between(0, 200 << 40)).unwrap();
        assert_eq!(data, [ByteRange { offset_bytes: 100 << 40, length_bytes: 4096 }]);
        let all = ByteRange::between(0, 100);
        assert_eq!(MemoryDevice::without_holes(100).data_ranges(all).unwrap(), [all]);
    }

    #[test]
    fn bad_ranges_are_unreadable_and_others_are_fine() {
        let device = MemoryDevice::new(10_000);
        let unreadable = vec![ByteRange::between(5000, 5001)];
        device.set_faults(DeviceFaults { unreadable, ..DeviceFaults::default() });
        assert_eq!(device.read_at(4000, &mut [0; 2000]).unwrap_err().kind(), ErrorKind::Unreadable);
        device.read_at(4000, &mut [0; 1000]).unwrap();
        device.read_at(5001, &mut [0; 1000]).unwrap();
        assert_eq!(device.counts(), DeviceCounts { reads: 3, read_bytes: 2000, ..DeviceCounts::default() });
    }

    #[test]
    fn it_shrinks_after_some_reads() {
        let device = MemoryDevice::new(10_000);
        let shrinks = Some(Shrink { after_reads: 2, size_bytes: 5000 });
        device.set_faults(DeviceFaults { shrinks, ..DeviceFaults::default() });
        for _ in 0..2 {
            device.check_unchanged().unwrap();
            device.read_at(9000, &mut [0; 1000]).unwrap();
        }
        assert_eq!(device.read_at(4001, &mut [0; 1000]).unwrap_err().kind(), ErrorKind::SourceChanged);
        device.read_at(4000, &mut [0; 1000]).unwrap();
        assert_eq!(device.check_unchanged().unwrap_err().kind(), ErrorKind::SourceChanged);
        assert_eq!(device.size_bytes(), 10_000);
    }

    #[test]
    fn writes_fail_on_demand_and_change_nothing() {
        let device = MemoryDevice::new(10_000);
        let clone = device.clone();
        device.set_faults(DeviceFaults { written_bytes_max: Some(1000), ..DeviceFaults::default() });
        clone.write_at(0, &[1; 1000]).unwrap();
        assert_eq!(clone.write_at(1000, &[1]).unwrap_err().kind(), ErrorKind::NoSpace);
        device.set_faults(DeviceFaults { writes_max: Some(2), flush_fails: true, ..DeviceFaults::default() });
        clone.zero_range(ByteRange::between(0, 10)).unwrap();
        assert_eq!(clone.write_at(1000, &[1]).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(clone.zero_range(ByteRange::between(10, 20)).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(clone.flush().unwrap_err().kind(), ErrorKind::Io);
        let mut expected = vec![0; 10_000];
        expected[10..1000].fill(1);
        assert!(device.bytes(ByteRange::between(0, 10_000)) == expected);
    }
}
