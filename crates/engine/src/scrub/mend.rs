//! Heals damaged slots of a version from its source.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::cancel::Cancel;
use backy_core::ids::{LeaseId, PackId, SlotNumber};
use backy_core::records::manifest::Manifest;
use backy_core::{ErrorKind, Result};
use backy_device::Source;

use crate::repository::Repository;
use crate::repository::damage::{Damage, FoundDamage};
use crate::repository::heal::Contents;

/// So much content is gathered before a pack is written.
const CONTENT_BYTES_MAX: usize = 32 << 20;

/// Heals what the source still has; returns the slots that are good now.
pub(super) fn mend(
    repository: &Repository,
    version: &Manifest,
    source: &dyn Source,
    damaged: &BTreeMap<PackId, FoundDamage>,
    lease: LeaseId,
    cancel: &Cancel,
) -> Result<BTreeMap<PackId, BTreeSet<SlotNumber>>> {
    let damage = Damage::of(damaged);
    let mut of_packs: BTreeMap<PackId, Vec<_>> = BTreeMap::new();
    for (address, block) in repository.blocks_of_slots(version.map, &damage)? {
        of_packs.entry(address.pack).or_default().push((address.slot, block));
    }
    let mut healed: BTreeMap<PackId, BTreeSet<SlotNumber>> = BTreeMap::new();
    for (pack, blocks) in of_packs {
        let told = repository.told_fingerprints(pack)?;
        let mut contents = Contents::new();
        let mut content_bytes = 0;
        for (slot, block) in blocks {
            cancel.check()?;
            let mut content = vec![0; version.block_size.length_bytes(block, version.size_bytes) as usize];
            match source.read_at(version.block_size.offset_bytes(block), &mut content) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unreadable => continue,
                Err(error) => return Err(error),
            }
            if told.get(&slot) == Some(&repository.keys().fingerprint_key().fingerprint(&content)) {
                content_bytes += content.len();
                contents.insert(slot, content);
            }
            if content_bytes >= CONTENT_BYTES_MAX {
                healed.entry(pack).or_default().extend(repository.heal(pack, &contents, lease)?);
                contents.clear();
                content_bytes = 0;
            }
        }
        if !contents.is_empty() {
            healed.entry(pack).or_default().extend(repository.heal(pack, &contents, lease)?);
        }
    }
    Ok(healed)
}
