//! Heals damaged slots with content that a backup sees again.
//!
//! Workers offer each block; the few that have the fingerprint of a damaged slot are kept, up to a limit, and then their
//! packs are written anew. The new version never points to a slot that is only being healed. What goes wrong here costs
//! healing, and never the backup.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::{LeaseId, PackId, SlotAddress};
use backy_core::records::index::short;
use tracing::warn;

use crate::repository::Repository;
use crate::repository::damage::Damage;
use crate::repository::heal::Contents;

/// So much content is kept before packs are written.
const CONTENT_BYTES_MAX: usize = 32 << 20;
/// Of so many damaged packs content is looked for.
const PACKS_MAX: usize = 1024;

/// Heals damaged slots. Used by all workers at once.
pub(super) struct Healer<'a> {
    repository: &'a Repository,
    lease: LeaseId,
    /// The damaged slots by what they held.
    wanted: HashMap<[u8; 16], Vec<(SlotAddress, Fingerprint)>>,
    pending: Mutex<Pending>,
    /// Packs that could not be healed: a put that failed may still arrive, so none is written twice after that. Held
    /// while a pack is written.
    failed: Mutex<BTreeSet<PackId>>,
}

#[derive(Default)]
struct Pending {
    seen: HashSet<SlotAddress>,
    contents: BTreeMap<PackId, Contents>,
    bytes: usize,
}

impl<'a> Healer<'a> {
    /// Makes a healer of what is damaged, for the job that holds `lease`.
    pub(super) fn new(repository: &'a Repository, damage: &Damage, lease: LeaseId) -> Healer<'a> {
        let mut wanted: HashMap<[u8; 16], Vec<(SlotAddress, Fingerprint)>> = HashMap::new();
        for (&pack, slots) in damage.slots().iter().take(PACKS_MAX) {
            match repository.told_fingerprints(pack) {
                Ok(told) => {
                    for &slot in slots {
                        let Some(fingerprint) = told.get(&slot) else { continue };
                        let address = SlotAddress { pack, slot };
                        wanted.entry(short(fingerprint)).or_default().push((address, *fingerprint));
                    }
                }
                Err(error) => warn!("damaged slots of pack {pack} are not healed: {error}"),
            }
        }
        Healer { repository, lease, wanted, pending: Mutex::default(), failed: Mutex::default() }
    }

    /// Takes a block if a damaged slot held it.
    pub(super) fn offer(&self, fingerprint: &Fingerprint, block: &[u8]) {
        if self.wanted.is_empty() {
            return;
        }
        let Some(slots) = self.wanted.get(&short(fingerprint)) else { return };
        let mut full = BTreeMap::new();
        {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            for (address, _) in slots.iter().filter(|(_, wanted)| wanted == fingerprint) {
                if pending.seen.insert(*address) {
                    pending.bytes += block.len();
                    pending.contents.entry(address.pack).or_default().insert(address.slot, block.to_vec());
                }
            }
            if pending.bytes >= CONTENT_BYTES_MAX {
                pending.bytes = 0;
                full = std::mem::take(&mut pending.contents);
            }
        }
        self.heal(full);
    }

    /// Heals with what is left.
    pub(super) fn finish(self) {
        let contents = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut pending.contents)
        };
        self.heal(contents);
    }

    fn heal(&self, contents: BTreeMap<PackId, Contents>) {
        if contents.is_empty() {
            return;
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        for (pack, contents) in contents {
            if failed.contains(&pack) {
                continue;
            }
            if let Err(error) = self.repository.heal(pack, &contents, self.lease) {
                warn!("damaged slots of pack {pack} stay damaged: {error}");
                failed.insert(pack);
            }
        }
    }
}
