//! Block maps, read and written through packs.

use std::sync::PoisonError;

use backy_core::codec::compression::Compressor;
use backy_core::ids::{EncryptionVersion, LeaseId, PackId, SlotAddress};
use backy_core::map::{MapReader, MapWriter};
use backy_core::names::PackName;
use backy_core::pack::{FinishedPack, MAP_PACK_BYTES_MAX, NewSlot, PACK_BYTES_MAX, PackWriter, SlotKind, SlotOpener};
use backy_core::{Error, Result, ResultExt};
use tracing::warn;

use super::Repository;

/// Block maps are compressed at this level: they are small, and kept for long.
pub(super) const MAP_COMPRESSION_LEVEL: i32 = 3;

impl MapReader for Repository {
    fn read_map_slot(&self, address: SlotAddress, kind: SlotKind) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut opener = match self.openers.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            Some(opener) => opener,
            None => SlotOpener::new()?,
        };
        let found = self.read_slot(address, &mut opener, &mut body).context(|| "read the block map");
        self.openers.lock().unwrap_or_else(PoisonError::into_inner).push(opener);
        let found = found?;
        if found == kind {
            Ok(body)
        } else {
            Err(Error::damaged(format!("slot {address} is a {found:?} where the block map needs a {kind:?}")))
        }
    }
}

/// A pack that was put, without its bytes.
pub(crate) struct StoredPack {
    /// The pack; its bytes are gone.
    pub pack: FinishedPack,
    /// How many bytes it has.
    pub size_bytes: u64,
}

/// Writes map slots into packs, which it puts as they fill.
///
/// Nothing that it has handed out an address for may be relied upon before [`MapPackWriter::flush`] has returned.
pub(crate) struct MapPackWriter<'a> {
    repository: &'a Repository,
    lease: LeaseId,
    compressor: Compressor,
    body: Vec<u8>,
    writer: Option<PackWriter>,
    finished: Vec<StoredPack>,
}

impl<'a> MapPackWriter<'a> {
    /// Makes a writer for the job that holds `lease`.
    pub(crate) fn new(repository: &'a Repository, lease: LeaseId) -> Result<MapPackWriter<'a>> {
        Ok(MapPackWriter {
            repository,
            lease,
            compressor: Compressor::new(MAP_COMPRESSION_LEVEL)?,
            body: Vec::new(),
            writer: None,
            finished: Vec::new(),
        })
    }

    /// Puts what is written; durable when it returns. Returns all packs that were put since the last call.
    pub(crate) fn flush(&mut self) -> Result<Vec<StoredPack>> {
        if let Some(writer) = self.writer.take() {
            self.put(writer)?;
        }
        Ok(std::mem::take(&mut self.finished))
    }

    /// Takes over a pack with data slots that has room left, so that a small job writes one pack.
    ///
    /// If there are map slots in a pack already, the data pack is put as it is.
    pub(crate) fn adopt(&mut self, writer: PackWriter) -> Result<()> {
        match self.writer {
            None => self.writer = Some(writer),
            Some(_) => self.put(writer)?,
        }
        Ok(())
    }

    fn put(&mut self, writer: PackWriter) -> Result<()> {
        if writer.slot_count() == 0 {
            return Ok(());
        }
        let pack = self.repository.put_pack(writer)?;
        let size_bytes = pack.bytes.len() as u64;
        self.finished.push(StoredPack { pack: FinishedPack { bytes: Vec::new(), ..pack }, size_bytes });
        Ok(())
    }

    fn room_for(&mut self, body_length: usize) -> Result<PackWriter> {
        if let Some(writer) = self.writer.take() {
            let limit = if writer.size_bytes() > MAP_PACK_BYTES_MAX { PACK_BYTES_MAX } else { MAP_PACK_BYTES_MAX };
            if writer.would_fit(body_length, limit) {
                return Ok(writer);
            }
            self.put(writer)?;
        }
        PackWriter::new(&self.repository.keys, self.repository.new_pack_name(self.lease), Vec::new())
    }
}

impl MapWriter for MapPackWriter<'_> {
    fn write_map_slot(&mut self, kind: SlotKind, body: &[u8]) -> Result<SlotAddress> {
        let plain_length =
            u32::try_from(body.len()).map_err(|_| Error::invalid("a part of a block map is too large"))?;
        let mut compressed = std::mem::take(&mut self.body);
        let codec = self.compressor.compress(body, &mut compressed)?;
        let mut writer = self.room_for(compressed.len())?;
        let slot = NewSlot { kind, plain_length, codec, body: &compressed, fingerprint: None };
        let number = writer.append(slot, &self.repository.environment)?;
        let address = SlotAddress { pack: writer.name().id, slot: number };
        self.writer = Some(writer);
        self.body = compressed;
        Ok(address)
    }
}

impl Repository {
    /// Returns the name of a new pack of the job that holds `lease`.
    pub(crate) fn new_pack_name(&self, lease: LeaseId) -> PackName {
        PackName { id: PackId::generate(&self.environment), generation: Default::default(), lease }
    }

    /// Finishes a pack and puts it into the store; durable when it returns.
    pub(crate) fn put_pack(&self, writer: PackWriter) -> Result<FinishedPack> {
        let pack = writer.finish(&self.environment)?;
        let name = pack.name.object_name();
        self.store.put(&name, &pack.bytes).context(|| format!("put {name}"))?;
        Ok(pack)
    }

    /// Tells the catalog of a durable pack, and hears from it what other jobs of this host have stored. A catalog that
    /// fails costs deduplication only.
    pub(crate) fn index_pack(&self, pack: &FinishedPack, size_bytes: u64) {
        let fact = backy_catalog::PackFact {
            name: pack.name,
            encryption_version: pack.encryption_version,
            slot_count: u32::try_from(pack.slot_count).unwrap_or(u32::MAX),
            size_bytes,
        };
        if let Err(error) = self.catalog.insert_pack(&fact, &pack.fingerprints) {
            warn!("the catalog did not take pack {}: {error}", pack.name);
        }
        if let Err(error) = self.catalog.refresh() {
            warn!("the catalog does not see what other jobs stored: {error}");
        }
    }

    /// Returns the encryption version that new packs are written in.
    pub(crate) fn encryption_version(&self) -> EncryptionVersion {
        self.keys.current_version()
    }
}
