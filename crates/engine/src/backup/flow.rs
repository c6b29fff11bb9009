//! What flows through the pipeline of a backup.
//!
//! ```text
//!  readers --Chunk--> workers --Processed--> packer --PendingExtent--> assembler
//!                                               \--PackJob--> uploaders --Durable--^
//! ```

use backy_core::codec::compression::Codec;
use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::SlotAddress;
use backy_core::map::Extent;
use backy_core::pack::{FinishedPack, PackWriter};
use backy_core::records::index::IndexedPack;
use backy_core::records::manifest::Statistics;
use backy_core::units::BlockRange;
use backy_device::AlignedBuffer;

/// A piece of the volume on its way to a worker.
pub(super) struct Chunk {
    /// The place in the order of the volume, without gaps.
    pub sequence: u64,
    /// The blocks.
    pub blocks: BlockRange,
    /// Their bytes, and room for what becomes of them.
    pub memory: ChunkMemory,
    /// Blocks that could not be read.
    pub missing: Vec<BlockRange>,
}

/// The memory of a piece; there is a fixed number of them, and the packer gives them back in order.
pub(super) struct ChunkMemory {
    /// The plain bytes.
    pub plain: AlignedBuffer,
    /// The compressed bodies of new blocks, back to back.
    pub bodies: Vec<u8>,
}

/// A piece of the volume after its worker.
pub(super) struct Processed {
    /// The place in the order of the volume.
    pub sequence: u64,
    /// The blocks.
    pub blocks: BlockRange,
    /// What became of them.
    pub content: Content,
}

/// What became of a piece.
pub(super) enum Content {
    /// All of it is zero, and was not read.
    Hole,
    /// One outcome for each block, and the bodies of the new ones.
    Blocks {
        /// One for each block.
        outcomes: Vec<Outcome>,
        /// Holds the compressed bodies.
        memory: ChunkMemory,
    },
}

/// What became of one block.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    /// It is zero.
    Zero,
    /// It could not be read.
    Missing,
    /// It is stored already; if the pack is still under way, the number of that pack.
    Known(Found),
    /// It has to be stored.
    New {
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// How its body is compressed.
        codec: Codec,
        /// The length of its body.
        body_length: u32,
    },
}

/// Where a block was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The slot.
    pub address: SlotAddress,
    /// The number of its pack, if this job writes it and it is not durable yet.
    pub waits_for: Option<PackNumber>,
}

/// Counts the packs of this job, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PackNumber(pub u64);

/// A full pack on its way to an uploader.
pub(super) struct PackJob {
    /// Its number in this job.
    pub number: PackNumber,
    /// The pack.
    pub writer: PackWriter,
}

/// A pack that is in the store for good.
pub(super) struct Durable {
    /// Its number in this job.
    pub number: PackNumber,
    /// What the index record will say of it.
    pub indexed: IndexedPack,
}

/// What the assembler is told, in the order of the volume.
pub(super) enum Update {
    /// Blocks and their place; they count when the pack is durable.
    Extent {
        /// The blocks and their place.
        extent: Extent,
        /// The pack that must be durable first.
        waits_for: Option<PackNumber>,
    },
    /// The statistics after all extents before this.
    Statistics(Box<Statistics>),
}

/// What the packer leaves behind at its end: the pack that was not full.
pub(super) type OpenPack = Option<PackJob>;

/// Returns what the index record says of a finished pack.
pub(super) fn indexed(pack: &FinishedPack, size_bytes: u64) -> IndexedPack {
    IndexedPack {
        name: pack.name,
        encryption_version: pack.encryption_version,
        slot_count: u32::try_from(pack.slot_count).unwrap_or(u32::MAX),
        size_bytes,
        samples: backy_core::records::index::sample(&pack.fingerprints),
    }
}
