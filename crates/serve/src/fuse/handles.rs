//! What is open: disks by version, and everything by the number that the kernel names it by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use backy_core::Result;
use fuser::FileHandle;

use super::disk::Disk;
use super::node::{Index, Node};

/// Something open.
#[derive(Clone)]
pub(super) enum Handle {
    /// The content of a version.
    Disk(Arc<Disk>),
    /// A small file, as it was when it was opened, and as it was written since.
    Info(Arc<Mutex<Vec<u8>>>),
    /// A folder, as it was when it was opened.
    Folder(Arc<Vec<(String, Node)>>),
}

/// Everything that is open.
#[derive(Default)]
pub(super) struct Handles {
    open: RwLock<HashMap<u64, Handle>>,
    last: AtomicU64,
    disks: Mutex<HashMap<Index, (Arc<Disk>, usize)>>,
}

impl Handles {
    /// Keeps something open, and returns its number.
    pub(super) fn add(&self, handle: Handle) -> FileHandle {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(number, handle);
        FileHandle(number)
    }

    /// Returns what is open under a number.
    pub(super) fn get(&self, number: FileHandle) -> Option<Handle> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&number.0).cloned()
    }

    /// Closes what is open under a number. A disk that nobody has written to ends with its last handle: it is returned, for
    /// whoever drops it may have to wait for the store.
    #[must_use]
    pub(super) fn remove(&self, number: FileHandle) -> Option<Handle> {
        let removed = self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&number.0);
        if let Some(Handle::Disk(disk)) = &removed {
            self.let_go(disk);
        }
        removed
    }

    /// Opens the disk of a version, with `open` if it is not open yet.
    pub(super) fn open_disk(&self, index: Index, open: impl FnOnce() -> Result<Disk>) -> Result<FileHandle> {
        let is_open = |disks: &mut HashMap<Index, (Arc<Disk>, usize)>| {
            let (disk, count) = disks.get_mut(&index)?;
            *count += 1;
            Some(disk.clone())
        };
        let found = is_open(&mut self.lock_disks());
        let disk = match found {
            Some(disk) => disk,
            None => {
                // Without a lock: it may take long. Perhaps somebody else is faster; then this one is dropped.
                let new = Arc::new(open()?);
                let mut disks = self.lock_disks();
                is_open(&mut disks).unwrap_or_else(|| {
                    disks.insert(index, (new.clone(), 1));
                    new
                })
            }
        };
        if let Err(error) = disk.take_up_kept() {
            self.let_go(&disk);
            return Err(error);
        }
        Ok(self.add(Handle::Disk(disk)))
    }

    /// Returns the disk of a version if it is open.
    pub(super) fn disk(&self, index: Index) -> Option<Arc<Disk>> {
        self.lock_disks().get(&index).map(|(disk, _)| disk.clone())
    }

    /// Returns all disks, and forgets everything.
    pub(super) fn close(&self) -> Vec<Arc<Disk>> {
        self.open.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.lock_disks().drain().map(|(_, (disk, _))| disk).collect()
    }

    fn let_go(&self, disk: &Disk) {
        let mut disks = self.lock_disks();
        if let Some((_, count)) = disks.get_mut(&disk.index()) {
            *count = count.saturating_sub(1);
            if *count == 0 && !disk.has_overlay() {
                disks.remove(&disk.index());
            }
        }
    }

    fn lock_disks(&self) -> MutexGuard<'_, HashMap<Index, (Arc<Disk>, usize)>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
