//! Puts the threads of a backup together, runs them to their end, and publishes.
//!
//! Each channel ends when the last of its senders is gone, so only the threads may hold one.

use std::sync::Mutex;

use backy_core::Result;
use backy_core::cancel::Cancel;
use backy_core::codec::compression::Compressor;
use backy_core::policy::read_plan::ReadPlan;
use backy_core::records::manifest::Manifest;
use backy_core::units::BlockIndex;
use backy_device::{AlignedBuffer, Source};
use crossbeam_channel::{bounded, unbounded};
use tracing::warn;

use super::Left;
use super::assembler::{Assembler, Beginning};
use super::chunks::Pieces;
use super::deduplicator::Deduplicator;
use super::flow::{ChunkMemory, OpenPack};
use super::healer::Healer;
use super::packer::Packer;
use super::reader::Reader;
use super::stop::Stop;
use super::uploader::Uploader;
use super::worker::Worker;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::leases::Lease;

/// Runs readers, workers, packer, uploaders and assembler to their end, and publishes.
#[expect(clippy::too_many_arguments, reason = "the parts of one job, put together in one place")]
pub(super) fn pipeline(
    repository: &Repository,
    lease: &Lease,
    source: &dyn Source,
    beginning: Beginning,
    reads: ReadPlan,
    end: BlockIndex,
    healer: &Healer<'_>,
    progress: &Progress,
    cancel: &Cancel,
    left: &mut Left,
) -> Result<Manifest> {
    let settings = repository.settings();
    let block_size = beginning.draft.block_size;
    let volume_bytes = beginning.draft.size_bytes;
    let statistics = beginning.draft.statistics;
    let mut assembler = Assembler::new(repository, lease, beginning)?;
    let compressors = (0..settings.workers.get()).map(|_| Compressor::new(settings.compression_level));
    let compressors: Vec<Compressor> = compressors.collect::<Result<_>>()?;
    let stop = Stop::new(cancel);
    let deduplicator = Deduplicator::new(repository);
    let pieces = Mutex::new(Pieces::new(source, block_size, reads.steps));

    let (free_sender, free) = bounded(settings.chunks_in_flight());
    for _ in 0..settings.chunks_in_flight() {
        let _ = free_sender.send(ChunkMemory { plain: AlignedBuffer::new(0), bodies: Vec::new() });
    }
    let (free_packs_sender, free_packs) = bounded(settings.packs_in_flight());
    for _ in 0..settings.packs_in_flight() {
        let _ = free_packs_sender.send(Vec::new());
    }
    let (chunk_sender, chunks) = bounded(settings.chunks_in_flight());
    let (processed_sender, processed) = bounded(settings.chunks_in_flight());
    let (pack_sender, packs) = bounded(settings.packs_in_flight());
    let (update_sender, updates) = bounded(1 << 14);
    let (durable_sender, durable) = unbounded();

    let open: OpenPack = std::thread::scope(|scope| {
        for _ in 0..settings.simultaneous_reads.get() {
            let reader = Reader {
                source,
                block_size,
                pieces: &pieces,
                free: free.clone(),
                chunks: chunk_sender.clone(),
                processed: processed_sender.clone(),
                stop: &stop,
            };
            scope.spawn(move || reader.run());
        }
        for compressor in compressors {
            let worker = Worker {
                block_size,
                fingerprint_key: repository.keys().fingerprint_key(),
                deduplicator: &deduplicator,
                healer,
                compressor,
                chunks: chunks.clone(),
                processed: processed_sender.clone(),
                stop: &stop,
            };
            scope.spawn(move || worker.run());
        }
        for _ in 0..settings.simultaneous_writes.get() {
            let uploader = Uploader {
                repository,
                deduplicator: &deduplicator,
                packs: packs.clone(),
                free_packs: free_packs_sender.clone(),
                durable: durable_sender.clone(),
                progress,
                stop: &stop,
            };
            scope.spawn(move || uploader.run());
        }
        let packer = Packer {
            repository,
            lease: lease.id(),
            block_size,
            volume_bytes,
            deduplicator: &deduplicator,
            processed,
            free: free_sender,
            free_packs,
            packs: pack_sender,
            updates: update_sender,
            progress,
            stop: &stop,
        };
        let packer = scope.spawn(move || packer.run(statistics));
        // Each channel ends when the last of its senders is gone: only the threads may hold one.
        drop((free, chunk_sender, processed_sender, chunks, packs, free_packs_sender, durable_sender));
        assembler.run(&updates, &durable, &stop);
        packer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });

    let published = match stop.into_result().and_then(|()| source.check_unchanged()) {
        Ok(()) => assembler.publish(open, end),
        Err(error) => {
            if let Err(failure) = assembler.give_up(open) {
                warn!("the last checkpoint could not be written: {failure}");
            }
            Err(error)
        }
    };
    left.has_checkpoint = assembler.has_checkpoint();
    left.has_lost_put |= assembler.has_lost_put();
    published
}
