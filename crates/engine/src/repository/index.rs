//! What other hosts stored: index records, read into the catalog.

use backy_catalog::PackFact;
use backy_core::ids::{PackId, RecordId};
use backy_core::keys::RecordKind;
use backy_core::names;
use backy_core::records::index::{IndexedPack, decode, encode};
use backy_core::{Result, ResultExt};
use backy_store::object_store::list_all;
use tracing::{debug, warn};

use super::Repository;
use super::packs::pack_fact;

impl Repository {
    /// Reads the index records that the catalog has not seen. Whatever fails costs deduplication only.
    pub(crate) fn sync_index(&self) -> Result<()> {
        for object in list_all(self.store(), names::INDEX).context(|| "list the index records")? {
            let Ok(id) = names::parse_record_id(&object.name) else { continue };
            if self.catalog().seen_index(id).unwrap_or(false) {
                continue;
            }
            match self.import_index(id) {
                Ok(packs) => debug!("read {}: {packs} packs", object.name),
                Err(error) => warn!("{} is not usable: {error}", object.name),
            }
        }
        Ok(())
    }

    /// Leaves an index record of the packs that a job wrote, and notes that this host knows them.
    pub(crate) fn put_index(&self, packs: &[IndexedPack]) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        let id = RecordId::generate(self.environment());
        self.put_record_body(RecordKind::Index, &names::index(id), &encode(packs))?;
        if let Err(error) = self.catalog().insert_sampled(id, &[]) {
            warn!("the catalog did not take the index record: {error}");
        }
        Ok(())
    }

    /// Reads the fingerprints of a pack of which the catalog has a sample.
    pub(crate) fn load_neighbours(&self, pack: PackId) -> Result<()> {
        let fingerprints = self.pack_fingerprints(pack)?;
        let fact = pack_fact(self.directory(pack)?.as_ref());
        self.catalog().remember_neighbours(&fact, &fingerprints)
    }

    fn import_index(&self, id: RecordId) -> Result<usize> {
        let packs = decode(&self.read_record_body(RecordKind::Index, &names::index(id))?)?;
        let count = packs.len();
        let fact = |pack: &IndexedPack| PackFact {
            name: pack.name,
            encryption_version: pack.encryption_version,
            slot_count: pack.slot_count,
            size_bytes: pack.size_bytes,
        };
        let sampled: Vec<_> = packs.into_iter().map(|pack| (fact(&pack), pack.samples)).collect();
        self.catalog().insert_sampled(id, &sampled)?;
        Ok(count)
    }
}
