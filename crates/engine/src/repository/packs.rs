//! Slots, read from whatever generation of their pack has them.
//!
//! A pack's slots are the union over its generations. The catalog knows where a pack was last seen; a pack that is not
//! there, or does not have the slot, is looked for in the store, from the highest generation down. A slot is damaged only
//! if no generation has it good.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backy_catalog::PackFact;
use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::{PackId, SlotAddress, SlotNumber};
use backy_core::names::{self, PackName};
use backy_core::pack::{Directory, SUFFIX_BYTES, SlotKind, SlotOpener, SuffixRead, read_directory, read_fingerprints};
use backy_core::units::ByteRange;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::ObjectRange;
use backy_store::object_store::{ObjectInfo, list_all};
use tracing::warn;

use super::Repository;

/// How many directories are kept; each takes about 100 kB.
const DIRECTORIES_MAX: usize = 64;
/// How many packs are kept of one listing of neighbours, and of how many listings; each takes 100 bytes.
const NEIGHBOURS_MAX: usize = 4096;
const NEIGHBOURHOODS_MAX: usize = 16;
/// How often generations are listed anew because one of them was gone when it was read: it was rewritten meanwhile.
const LISTINGS_MAX: u32 = 8;
/// The largest end of a pack that is read to find its directory.
const SUFFIX_BYTES_MAX: u64 = 4 << 20;

/// The directories that were used last.
#[derive(Default)]
pub(crate) struct DirectoryCache {
    entries: Mutex<Vec<Arc<Directory>>>,
}

impl DirectoryCache {
    fn get(&self, pack: PackId) -> Option<Arc<Directory>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let position = entries.iter().rposition(|directory| directory.name().id == pack)?;
        let directory = entries.remove(position);
        entries.push(directory.clone());
        Some(directory)
    }

    fn insert(&self, directory: Arc<Directory>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.name().id != directory.name().id);
        if entries.len() >= DIRECTORIES_MAX {
            entries.remove(0);
        }
        entries.push(directory);
    }

    fn remove(&self, pack: PackId) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.name().id != pack);
    }
}

/// The names of packs as they were last listed, together with those that were written at about the same time: who reads one
/// of them reads the others too.
#[derive(Default)]
pub(crate) struct Neighbours {
    listed: Mutex<VecDeque<(String, BTreeMap<PackId, PackName>)>>,
}

impl Neighbours {
    /// Returns the highest generation of a pack that was listed; none if its neighbours were listed and it was not there,
    /// or has been forgotten since. `list` lists what begins with a prefix.
    fn find(
        &self,
        pack: PackId,
        list: impl Fn(&str, &mut dyn FnMut(PackName)) -> Result<()>,
    ) -> Result<Option<PackName>> {
        let prefix = names::neighbours_prefix(pack);
        if let Some((_, packs)) = self.lock().iter().find(|(listed, _)| *listed == prefix) {
            return Ok(packs.get(&pack).copied());
        }
        let mut packs: BTreeMap<PackId, PackName> = BTreeMap::new();
        list(&prefix, &mut |name| {
            if packs.len() < NEIGHBOURS_MAX || name.id == pack {
                // In the order of names, so the last one of a pack is its highest generation.
                packs.insert(name.id, name);
            }
        })?;
        let found = packs.get(&pack).copied();
        let mut listed = self.lock();
        // Another thread may have listed them too.
        listed.retain(|(other, _)| *other != prefix);
        if listed.len() >= NEIGHBOURHOODS_MAX {
            listed.pop_front();
        }
        listed.push_back((prefix, packs));
        Ok(found)
    }

    fn forget(&self, pack: PackId) {
        for (_, packs) in self.lock().iter_mut() {
            packs.remove(&pack);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, BTreeMap<PackId, PackName>)>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repository {
    /// Returns the directory of a pack's highest generation that can be read.
    pub fn directory(&self, pack: PackId) -> Result<Arc<Directory>> {
        if let Some(directory) = self.directories.get(pack) {
            return Ok(directory);
        }
        let directory = Arc::new(self.find_directory(pack)?);
        self.directories.insert(directory.clone());
        Ok(directory)
    }

    /// Forgets what is known of where a pack is, after it was not there.
    pub fn forget_directory(&self, pack: PackId) {
        self.directories.remove(pack);
        self.neighbours.forget(pack);
    }

    /// Reads and opens one slot into `output`.
    ///
    /// # Errors
    /// `Damaged` or `NotFound` if no generation has the slot good.
    pub(crate) fn read_slot(
        &self,
        address: SlotAddress,
        opener: &mut SlotOpener,
        output: &mut Vec<u8>,
    ) -> Result<SlotKind> {
        let first = self
            .directory(address.pack)
            .and_then(|directory| self.read_slot_of(&directory, address.slot, opener, output));
        let Err(error) = first else { return first };
        if !is_about_content(&error) {
            return Err(error);
        }
        self.forget_directory(address.pack);
        for _ in 0..LISTINGS_MAX {
            let mut is_outdated = false;
            for name in self.generations(address.pack)? {
                let directory = match self.read_object_directory(name) {
                    Ok(directory) => directory,
                    Err(error) if is_about_content(&error) => {
                        is_outdated |= error.kind() == ErrorKind::NotFound;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                match self.read_slot_of(&directory, address.slot, opener, output) {
                    Err(error) if is_about_content(&error) => {
                        let is_gone = error.kind() == ErrorKind::NotFound;
                        is_outdated |= is_gone && directory.locator(address.slot).is_some();
                    }
                    other => return other,
                }
            }
            if !is_outdated {
                break;
            }
        }
        Err(error.context(format!("slot {address}")))
    }

    /// Reads all fingerprints of a pack.
    pub(crate) fn pack_fingerprints(&self, pack: PackId) -> Result<Vec<(SlotNumber, Fingerprint)>> {
        let directory = self.directory(pack)?;
        let mut section = Vec::new();
        self.read_pack_range(&directory, directory.fingerprints_range(), &mut section)?;
        read_fingerprints(&self.keys, &directory, &section)
            .context(|| format!("read the fingerprints of pack {}", directory.name()))
    }

    /// Reads some bytes of a pack object into `buffer`.
    pub(crate) fn read_pack_range(&self, directory: &Directory, range: ByteRange, buffer: &mut Vec<u8>) -> Result<()> {
        let range = ObjectRange::Exact { offset_bytes: range.offset_bytes, length_bytes: range.length_bytes };
        self.store.get_range(&directory.name().object_name(), range, buffer)
    }

    /// Lists the generations of a pack, the highest first.
    pub(crate) fn generations(&self, pack: PackId) -> Result<Vec<PackName>> {
        let objects =
            list_all(self.store.as_ref(), &names::pack_prefix(pack)).context(|| format!("look for pack {pack}"))?;
        let mut generations: Vec<PackName> =
            objects.iter().filter_map(|object| PackName::parse(&object.name).ok()).collect();
        generations.sort_by(|left, right| right.cmp(left));
        Ok(generations)
    }

    fn read_slot_of(
        &self,
        directory: &Directory,
        slot: SlotNumber,
        opener: &mut SlotOpener,
        output: &mut Vec<u8>,
    ) -> Result<SlotKind> {
        let locator = directory
            .locator(slot)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("pack {} has no slot {slot}", directory.name())))?;
        let mut sealed = Vec::new();
        let range =
            ByteRange { offset_bytes: u64::from(locator.offset_bytes), length_bytes: u64::from(locator.stored_length) };
        self.read_pack_range(directory, range, &mut sealed)?;
        opener.open(&self.keys, directory, slot, &mut sealed, output)?;
        Ok(locator.kind)
    }

    fn find_directory(&self, pack: PackId) -> Result<Directory> {
        let mut first_error = None;
        if let Some(fact) = self.catalog.pack(pack).unwrap_or_default() {
            match self.read_object_directory(fact.name) {
                Ok(directory) => return Ok(directory),
                Err(error) if is_about_content(&error) => first_error = Some(error),
                Err(error) => return Err(error),
            }
        }
        let list = |prefix: &str, visit: &mut dyn FnMut(PackName)| {
            let mut visit_object = |object: ObjectInfo| {
                PackName::parse(&object.name).into_iter().for_each(&mut *visit);
                Ok(())
            };
            self.store.list(prefix, &mut visit_object).context(|| format!("look for pack {pack}"))
        };
        if let Some(name) = self.neighbours.find(pack, list)? {
            match self.read_object_directory(name) {
                Ok(directory) => {
                    self.remember_pack(&directory);
                    return Ok(directory);
                }
                Err(error) if is_about_content(&error) => first_error = Some(error),
                Err(error) => return Err(error),
            }
        }
        for _ in 0..LISTINGS_MAX {
            let mut is_outdated = false;
            for name in self.generations(pack)? {
                match self.read_object_directory(name) {
                    Ok(directory) => {
                        self.remember_pack(&directory);
                        return Ok(directory);
                    }
                    Err(error) if is_about_content(&error) => {
                        is_outdated |= error.kind() == ErrorKind::NotFound;
                        first_error = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            if !is_outdated {
                break;
            }
        }
        Err(first_error.unwrap_or_else(|| Error::new(ErrorKind::NotFound, format!("pack {pack} is not in the store"))))
    }

    /// Reads the directory of one generation.
    pub(crate) fn read_object_directory(&self, name: PackName) -> Result<Directory> {
        let object_name = name.object_name();
        let mut suffix_bytes = SUFFIX_BYTES;
        let mut suffix = Vec::new();
        loop {
            self.store.get_range(&object_name, ObjectRange::Suffix { length_bytes: suffix_bytes }, &mut suffix)?;
            let read = read_directory(&self.keys, name, None, &suffix)
                .context(|| format!("read the directory of {object_name}"))?;
            match read {
                SuffixRead::Directory(directory) => return Ok(directory),
                SuffixRead::NeedMore { suffix_bytes: more } if more > suffix_bytes && more <= SUFFIX_BYTES_MAX => {
                    suffix_bytes = more;
                }
                SuffixRead::NeedMore { .. } => {
                    return Err(Error::damaged(format!("{object_name} has no directory")));
                }
            }
        }
    }

    fn remember_pack(&self, directory: &Directory) {
        if let Err(error) = self.catalog.remember_packs(&[pack_fact(directory)]) {
            warn!("the catalog did not take pack {}: {error}", directory.name());
        }
    }
}

/// Returns what the catalog keeps of a pack.
pub(crate) fn pack_fact(directory: &Directory) -> PackFact {
    PackFact {
        name: directory.name(),
        encryption_version: directory.encryption_version(),
        slot_count: u32::try_from(directory.slot_count()).unwrap_or(u32::MAX),
        size_bytes: directory.object_bytes(),
    }
}

/// Says whether an error is about what is stored, so that another generation may help.
pub(crate) fn is_about_content(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unreadable)
}
