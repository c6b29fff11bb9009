//! Is this block stored already?
//!
//! Asked in this order: the packs of this job that are not durable yet, then the catalog. What the catalog says is
//! believed only if the pack is there: its directory is read once a job. So a catalog that is out of date costs reads and
//! deduplication, and never a version that points to nothing.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use backy_catalog::Lookup;
use backy_core::Result;
use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::{PackId, SlotAddress};
use backy_core::pack::{FinishedPack, SlotKind};
use backy_core::records::index::short;
use tracing::warn;

use super::flow::{Found, PackNumber};
use crate::repository::Repository;
use crate::repository::packs::is_about_content;

/// Finds blocks that are stored already. Used by all workers at once.
pub(super) struct Deduplicator<'a> {
    repository: &'a Repository,
    pending: RwLock<HashMap<[u8; 16], (SlotAddress, PackNumber)>>,
    /// The packs of the catalog that were looked for in the store, and how many slots were found.
    checked: RwLock<HashMap<PackId, PackCheck>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PackCheck {
    /// The pack is there and all its slots are data.
    AllData { slot_count: usize },
    /// The pack is there; each slot is looked up in its directory.
    Mixed,
    /// The pack is not there, or not usable.
    Gone,
}

impl<'a> Deduplicator<'a> {
    pub(super) fn new(repository: &'a Repository) -> Deduplicator<'a> {
        Deduplicator { repository, pending: RwLock::default(), checked: RwLock::default() }
    }

    /// Returns where a block of this fingerprint is stored.
    pub(super) fn find(&self, fingerprint: &Fingerprint) -> Result<Option<Found>> {
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner).get(&short(fingerprint)).copied();
        if let Some((address, number)) = pending {
            return Ok(Some(Found { address, waits_for: Some(number) }));
        }
        let version = self.repository.encryption_version();
        let mut lookup = self.look_up(version, fingerprint);
        if let Lookup::InPack(pack) = lookup {
            match self.repository.load_neighbours(pack) {
                Ok(()) => lookup = self.look_up(version, fingerprint),
                Err(error) if is_about_content(&error) => {
                    self.forget(pack, &error);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        match lookup {
            Lookup::At(address) if self.is_there(address)? => Ok(Some(Found { address, waits_for: None })),
            _ => Ok(None),
        }
    }

    /// Notes blocks of a pack that is not durable yet.
    pub(super) fn add_pending(&self, fingerprint: &Fingerprint, address: SlotAddress, number: PackNumber) {
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        pending.insert(short(fingerprint), (address, number));
    }

    /// Forgets the pending blocks of a pack, after it has become durable and the catalog has them.
    pub(super) fn remove_pending(&self, pack: &FinishedPack) {
        let is_all_data = pack.fingerprints.len() == pack.slot_count;
        let check = if is_all_data { PackCheck::AllData { slot_count: pack.slot_count } } else { PackCheck::Mixed };
        self.note(pack.name.id, check);
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        for (_, fingerprint) in &pack.fingerprints {
            pending.remove(&short(fingerprint));
        }
    }

    fn look_up(&self, version: backy_core::ids::EncryptionVersion, fingerprint: &Fingerprint) -> Lookup {
        // A catalog that fails costs deduplication only.
        self.repository.catalog().lookup(version, fingerprint).unwrap_or(Lookup::Unknown)
    }

    fn is_there(&self, address: SlotAddress) -> Result<bool> {
        let known = self.checked.read().unwrap_or_else(PoisonError::into_inner).get(&address.pack).copied();
        let check = match known {
            Some(check) => check,
            None => self.check_pack(address.pack)?,
        };
        match check {
            PackCheck::AllData { slot_count } => Ok(usize::from(address.slot.0) < slot_count),
            PackCheck::Gone => Ok(false),
            PackCheck::Mixed => {
                let directory = self.repository.directory(address.pack)?;
                Ok(directory.locator(address.slot).is_some_and(|locator| locator.kind == SlotKind::Data))
            }
        }
    }

    fn check_pack(&self, pack: PackId) -> Result<PackCheck> {
        let check = match self.repository.directory(pack) {
            Ok(directory) => {
                let slot_count = directory.slot_count();
                let is_data = |slot: usize| {
                    let slot = backy_core::ids::SlotNumber(u16::try_from(slot).unwrap_or(u16::MAX));
                    directory.locator(slot).is_some_and(|locator| locator.kind == SlotKind::Data)
                };
                if (0..slot_count).all(is_data) { PackCheck::AllData { slot_count } } else { PackCheck::Mixed }
            }
            Err(error) if is_about_content(&error) => {
                self.forget(pack, &error);
                PackCheck::Gone
            }
            Err(error) => return Err(error),
        };
        self.note(pack, check);
        Ok(check)
    }

    fn forget(&self, pack: PackId, error: &backy_core::Error) {
        warn!("the catalog knew pack {pack}, which is of no use: {error}");
        if let Err(error) = self.repository.catalog().forget_pack(pack) {
            warn!("the catalog did not forget pack {pack}: {error}");
        }
        self.note(pack, PackCheck::Gone);
    }

    fn note(&self, pack: PackId, check: PackCheck) {
        self.checked.write().unwrap_or_else(PoisonError::into_inner).insert(pack, check);
    }
}
