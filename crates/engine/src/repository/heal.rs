//! Healing: content that is seen again takes the place of damaged slots.
//!
//! A slot is healed by content that has its fingerprint, as some generation of its pack tells it, and nothing else: where
//! the block came from does not matter. The pack is written as its next generation, read back, and only then the damage
//! record goes.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::{LeaseId, PackId, SlotNumber};
use backy_core::pack::read_fingerprints;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use tracing::{info, warn};

use super::Repository;
use super::packs::is_about_content;
use super::rewrite::RewriteOutcome;

/// Plain contents for slots of one pack.
pub(crate) type Contents = BTreeMap<SlotNumber, Vec<u8>>;

impl Repository {
    /// Writes the next generation of a pack with these contents where slots are damaged, and takes back the damage records
    /// of those that are good then. Returns the slots that were healed; durable when it returns.
    pub(crate) fn heal(&self, pack: PackId, contents: &Contents, lease: LeaseId) -> Result<BTreeSet<SlotNumber>> {
        let outcome = self.rewrite_pack(pack, &BTreeSet::new(), contents, lease).context(|| "heal damaged slots")?;
        let healed = match outcome {
            RewriteOutcome::Rewritten(rewrite) => rewrite.healed,
            RewriteOutcome::Unchanged | RewriteOutcome::Absent | RewriteOutcome::Stopped(_) => BTreeSet::new(),
        };
        // In this order: damage that is found after the slots were read is not taken back.
        let known = self.damage()?;
        let wanted = contents.keys().copied().collect();
        let good = self.slot_states(pack, &wanted)?.good;
        let lost: Vec<String> = healed.difference(&good).map(SlotNumber::to_string).collect();
        if !lost.is_empty() {
            return Err(Error::damaged(format!("the healed slots {} of pack {pack} are damaged", lost.join(", "))));
        }
        if !good.is_empty() {
            self.retire_damage(&known, &[(pack, good)].into())?;
        }
        if !healed.is_empty() {
            info!("pack {pack} is healed: slots that were damaged and are good now: {}", healed.len());
        }
        Ok(healed)
    }

    /// Returns the fingerprints of a pack's data slots, as any of its generations tells them.
    pub(crate) fn told_fingerprints(&self, pack: PackId) -> Result<BTreeMap<SlotNumber, Fingerprint>> {
        let mut told = BTreeMap::new();
        for name in self.generations(pack)? {
            let read = self.read_object_directory(name).and_then(|directory| {
                let mut section = Vec::new();
                self.read_pack_range(&directory, directory.fingerprints_range(), &mut section)?;
                read_fingerprints(self.keys(), &directory, &section)
            });
            match read {
                Ok(fingerprints) => {
                    for (slot, fingerprint) in fingerprints {
                        told.entry(slot).or_insert(fingerprint);
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if is_about_content(&error) => warn!("{error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(told)
    }
}
